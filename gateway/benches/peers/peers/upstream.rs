//! The upstream of all systems: nginx with a static response.

use std::process::Command;

use super::Setup;
use super::nginx::{Site, start};
use crate::Result;

/// The command for it; `setup.upstream` is not used.
pub(crate) fn command(setup: &Setup<'_>) -> Result<Command> {
    let location = r#"
            return 200 '{"message":"hello"}';"#;
    start(setup, &Site { main: String::new(), http: String::new(), location: location.to_owned() })
}
