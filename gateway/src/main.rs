//! The `auth-gateway` program. Everything it does is in the library, so that tests can do it too.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    auth_gateway::cli::run()
}
