//! The command line: what can be asked, and what each way to end is called.

mod arguments;
mod check;
mod explain;
mod hash_password;
mod keys;
mod new_password;
mod serve;
mod users;

use std::process::ExitCode;

use clap::Parser;

use crate::config::{self, Loaded};
use arguments::{Arguments, Command};
use hash_password::Console;
use serve::ServeArguments;
use users::UsersCommand;

/// It failed while running.
const FAILED: u8 = 1;
/// The configuration is wrong (EX_CONFIG of sysexits.h).
const WRONG_CONFIGURATION: u8 = 78;

/// Why a command ended badly.
#[derive(Debug)]
enum CommandError {
    Configuration(String),
    Failed(String),
}

impl CommandError {
    fn failed(error: impl std::fmt::Display) -> CommandError {
        CommandError::Failed(format!("error: {error}"))
    }

    fn configuration(error: impl std::fmt::Display) -> CommandError {
        CommandError::Configuration(format!("error: {error}"))
    }
}

/// Does what the process was asked to do. Wrong usage ends the process with 2.
pub fn run() -> ExitCode {
    let Arguments { command, config } = Arguments::parse();
    let command = command.unwrap_or(Command::Serve(ServeArguments::default()));
    if config.is_empty() && !matches!(command, Command::HashPassword) {
        arguments::refuse(
            "no configuration is named: add --config FILE, such as --config config/gateway.toml",
        );
    }
    let mut console = Console::standard();
    let result = match command {
        Command::Serve(arguments) => serve::run(&arguments, &config),
        Command::Check => check::run(&config, &mut console),
        Command::Explain(request) => {
            load(&config).and_then(|loaded| explain::run(request, loaded.settings, &mut console))
        }
        Command::Users(command) => load(&config).and_then(|Loaded { settings, .. }| {
            let done = match command {
                UsersCommand::Edit(edit) => match settings.users.editable_file() {
                    Some(file) => users::run(edit, file, &mut console),
                    None => Err(users::UsersError::NoFile),
                },
                UsersCommand::Show { name } => users::show(&name, &settings, &mut console),
                UsersCommand::Unlock { name } => users::unlock(&name, &settings, &mut console),
            };
            done.map_err(CommandError::failed)
        }),
        Command::HashPassword => hash_password::run(&mut console).map_err(CommandError::failed),
        Command::Keys(command) => {
            load(&config).and_then(|loaded| keys::run(command, &loaded.settings, &mut console))
        }
    };
    let (text, code) = match result {
        Ok(()) => return ExitCode::SUCCESS,
        Err(CommandError::Configuration(text)) => (text, WRONG_CONFIGURATION),
        Err(CommandError::Failed(text)) => (text, FAILED),
    };
    eprintln!("{}", text.trim_end());
    ExitCode::from(code)
}

/// Reads the configuration and tells its warnings.
fn load(files: &[std::path::PathBuf]) -> Result<Loaded, CommandError> {
    let loaded = config::load(files, environment())
        .map_err(|errors| CommandError::Configuration(errors.to_string()))?;
    warn(&loaded);
    Ok(loaded)
}

/// The variables that are text.
fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?)))
}

/// Tells what looks odd about a configuration.
fn warn(loaded: &Loaded) {
    if !loaded.warnings.is_empty() {
        eprintln!("{}", loaded.warnings);
    }
}
