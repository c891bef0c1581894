//! The `auth-gateway` program.

fn main() {}
