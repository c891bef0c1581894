//! The command line: commands and exit codes.

mod arguments;
mod check;
mod config;
mod explain;
mod hash_password;
mod healthcheck;
mod keys;
mod new_password;
mod serve;
mod sessions;
mod start_checks;
mod state;
mod status;
mod text_table;
mod tokens;
mod users;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use crate::config::{Diagnostics, Loaded, load as load_config};
use arguments::{Arguments, Command};
use hash_password::Console;
use serve::ServeArguments;
use users::UsersCommand;

/// The configuration file without `--config`.
const DEFAULT_CONFIGURATION: &str = "/etc/auth-gateway/gateway.toml";
/// Exit code of a failure at run time.
const FAILED: u8 = 1;
/// Exit code of an invalid configuration (EX_CONFIG of sysexits.h).
const WRONG_CONFIGURATION: u8 = 78;

/// Why a command failed.
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

/// Runs the command line. Wrong usage exits with 2.
pub fn run() -> ExitCode {
    let Arguments { command, config } = Arguments::parse();
    let command = command.unwrap_or(Command::Serve(ServeArguments::default()));
    let config = if config.is_empty() { vec![PathBuf::from(DEFAULT_CONFIGURATION)] } else { config };
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
                    Some(file) => users::run(edit, file, &settings.users, &mut console),
                    None => Err(users::UsersError::NoFile),
                },
                UsersCommand::Show { name } => users::show(&name, &settings, &mut console),
                UsersCommand::Logout { name } => users::logout(&name, &settings, &mut console),
                UsersCommand::Reset { name, ttl } => users::reset(&name, ttl, &settings, &mut console),
                UsersCommand::ResetMfa { name } => users::reset_mfa(&name, &settings, &mut console),
                UsersCommand::Unlock { name } => users::unlock(&name, &settings, &mut console),
            };
            done.map_err(CommandError::failed)
        }),
        Command::Config(command) => config::run(&command, &mut console),
        Command::Completions { shell } => {
            let mut page = Vec::new();
            clap_complete::generate(shell, &mut Arguments::command(), "auth-gateway", &mut page);
            console.output.write_all(&page).map_err(CommandError::failed)
        }
        Command::Man { dir: Some(dir) } => std::fs::create_dir_all(&dir)
            .and_then(|()| clap_mangen::generate_to(Arguments::command(), &dir))
            .map_err(|error| CommandError::failed(format!("cannot write to {}: {error}", dir.display()))),
        Command::Man { dir: None } => {
            let mut page = Vec::new();
            let rendered = clap_mangen::Man::new(Arguments::command()).render(&mut page);
            rendered.and_then(|()| console.output.write_all(&page)).map_err(CommandError::failed)
        }
        Command::Sessions(command) => {
            load(&config).and_then(|loaded| sessions::run(command, &loaded.settings, &mut console))
        }
        Command::Tokens(command) => {
            load(&config).and_then(|loaded| tokens::run(command, &loaded.settings, &mut console))
        }
        Command::State(command) => {
            load(&config).and_then(|loaded| state::run(command, &loaded.settings, &mut console))
        }
        Command::Healthcheck(arguments) => {
            load(&config).and_then(|loaded| healthcheck::run(&arguments, &loaded.settings))
        }
        Command::Status(arguments) => {
            load(&config).and_then(|loaded| status::run(&arguments, &loaded.settings, &mut console))
        }
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
    // Colours on terminals only.
    anstream::eprintln!("{}", text.trim_end());
    ExitCode::from(code)
}

/// Loads the configuration and prints its warnings.
fn load(files: &[std::path::PathBuf]) -> Result<Loaded, CommandError> {
    let loaded = load_config(files, environment())
        .map_err(|errors| CommandError::Configuration(format!("{errors:#}")))?;
    warn(&loaded.warnings);
    Ok(loaded)
}

/// All environment variables. What is not UTF-8 is replaced by U+FFFD, which is reported where it matters.
fn environment() -> impl Iterator<Item = (String, String)> {
    let text = |bytes: std::ffi::OsString| bytes.to_string_lossy().into_owned();
    std::env::vars_os().map(move |(name, value)| (text(name), text(value)))
}

/// Prints the warnings about a configuration.
fn warn(warnings: &Diagnostics) {
    if !warnings.is_empty() {
        anstream::eprintln!("{warnings:#}");
    }
}
