//! The bodies of the commands, apart from how their arguments are read.

pub mod hash_password;
mod new_password;
pub mod users;
