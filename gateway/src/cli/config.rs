//! `auth-gateway config`: the default configuration, its schema, and its reference.

use clap::Subcommand;

use super::CommandError;
use super::hash_password::Console;
use crate::config;

/// What to print.
#[derive(Debug, Clone, Subcommand)]
pub(super) enum ConfigCommand {
    /// Print the JSON schema of a configuration file, for editors
    Schema,
    /// Print the reference of all keys, in Markdown
    Reference,
    /// Print a configuration with every key, its default, and its description
    Default,
}

pub(super) fn run(command: &ConfigCommand, console: &mut Console<'_>) -> Result<(), CommandError> {
    let text = match command {
        ConfigCommand::Schema => format!("{:#}\n", config::schema()),
        ConfigCommand::Reference => config::reference(),
        ConfigCommand::Default => config::default_configuration(),
    };
    console.output.write_all(text.as_bytes()).map_err(CommandError::failed)
}
