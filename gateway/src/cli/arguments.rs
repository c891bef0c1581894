//! Command-line arguments.

use std::path::PathBuf;

use clap::{CommandFactory, Parser, Subcommand};

use super::config::ConfigCommand;
use super::explain::ExplainArguments;
use super::healthcheck::HealthcheckArguments;
use super::keys::KeysArguments;
use super::serve::ServeArguments;
use super::sessions::SessionsCommand;
use super::state::StateCommand;
use super::status::StatusArguments;
use super::tokens::TokensCommand;
use super::users::UsersCommand;

const AFTER_HELP: &str = "\
Environment:
  AUTH_GATEWAY__SECTION__KEY=VALUE  wins over the configuration files, such as AUTH_GATEWAY__SERVER__LISTEN=127.0.0.1:8081
                                    (`auth-gateway config reference` names every key)
  NO_COLOR=1                        no colours in messages
  LISTEN_FDS, LISTEN_FDNAMES        sockets of the service manager: `public`, `admin`, `redirect` (systemd.socket(5))
  NOTIFY_SOCKET                     where the service manager is notified of start, reload and stop (sd_notify(3))

Exit codes:
  0   success
  1   a failure at run time: an address is taken, the store cannot be opened, a request of `explain` is refused
  2   invalid usage: an unknown option or command
  78  invalid configuration, users file, key or certificate; `check` also for what the start could not open";

/// A reverse-proxy auth gateway: it logs users in, verifies their tokens and passes their identity to
/// upstreams.
#[derive(Debug, Parser)]
#[command(name = "auth-gateway", version, max_term_width = 100, after_help = AFTER_HELP)]
pub(super) struct Arguments {
    /// The command; `serve` by default
    #[command(subcommand)]
    pub(super) command: Option<Command>,
    /// A configuration file; several are merged in order, and environment variables override them [default:
    /// /etc/auth-gateway/gateway.toml]
    #[arg(long, value_name = "FILE", global = true)]
    pub(super) config: Vec<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Run the gateway
    Serve(ServeArguments),
    /// Check the configuration, the files it names, the store and the addresses, report all errors, and print the
    /// routes
    Check,
    /// Explain a request: its route, the result of verification, and what its upstream would get
    Explain(ExplainArguments),
    /// Edit the users file, unlock a name, or log a user out
    #[command(subcommand)]
    Users(UsersCommand),
    /// List the live sessions, or revoke one
    #[command(subcommand)]
    Sessions(SessionsCommand),
    /// Make, list or revoke personal access tokens
    #[command(subcommand)]
    Tokens(TokensCommand),
    /// Back up or restore the state file
    #[command(subcommand)]
    State(StateCommand),
    /// Ask whether the gateway of this configuration runs: exit code 0 if it does
    Healthcheck(HealthcheckArguments),
    /// Print the state of the running gateway: routes, upstreams, sessions, keys
    Status(StatusArguments),
    /// Print the argon2id hash of a password, read from a prompt or standard input
    HashPassword,
    /// Print the default configuration, its schema, or its reference
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Print shell completions
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print the manual page
    Man,
    /// Manage the keys that sign tokens
    Keys(KeysArguments),
}

/// Exits because of an invalid value.
pub(super) fn refuse_value(why: &str) -> ! {
    Arguments::command().error(clap::error::ErrorKind::ValueValidation, why).exit()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::config::test_support::pages;

    /// Appends the commands and options below `command` that the page does not name.
    fn undocumented(command: &clap::Command, path: &str, page: &str, missing: &mut Vec<String>) {
        let options = command.get_arguments().filter_map(clap::Arg::get_long);
        missing.extend(options.map(|long| format!("--{long}")).filter(|option| !page.contains(option)));
        for command in command.get_subcommands() {
            let path = format!("{path}{}", command.get_name());
            if !page.contains(&format!("`{path}")) {
                missing.push(path.clone());
            }
            undocumented(command, &format!("{path} "), page, missing);
        }
    }

    #[test]
    fn every_command_and_option_is_documented() {
        let page = include_str!("../../../docs/reference/cli.md");
        let mut missing = Vec::new();
        undocumented(&Arguments::command(), "", page, &mut missing);
        assert!(missing.is_empty(), "docs/reference/cli.md lacks {missing:?}");
    }

    /// The command of a line of a page, as its words: without a prompt, comment, substitution and what follows it.
    fn words(line: &str) -> Option<Vec<String>> {
        let command = line.trim_start_matches("$ ").trim();
        let command = command.strip_prefix("auth-gateway ")?.split(" #").next()?;
        let mut words = vec!["auth-gateway".to_owned(), String::new()];
        let (mut quote, mut depth) = (None, 0);
        for c in command.trim().chars() {
            match c {
                '(' => depth += 1,
                ')' => depth -= 1,
                '\'' | '"' if quote.is_none() => quote = Some(c),
                _ if quote == Some(c) => quote = None,
                '|' | '>' | ';' if quote.is_none() => break,
                ' ' if quote.is_none() && depth == 0 => words.push(String::new()),
                _ => words.last_mut()?.push(c),
            }
        }
        words.retain(|word| !word.is_empty());
        Some(words)
    }

    #[test]
    fn the_commands_of_the_pages_exist() {
        let (mut count, mut wrong) = (0, Vec::new());
        for (name, page) in pages() {
            let blocks = page.split("```").skip(1).step_by(2).filter(|block| block.starts_with("sh\n"));
            for line in blocks
                .flat_map(|block| block.replace("\\\n", " ").lines().map(str::to_owned).collect::<Vec<_>>())
            {
                let Some(words) = words(&line.replace("PID", "1")) else { continue };
                count += 1;
                let parsed = Arguments::command().try_get_matches_from(&words);
                wrong.extend(parsed.err().map(|error| format!("{name}: {line}: {error}")));
            }
            // In a sentence: the names of its commands.
            for span in
                page.replace('\n', " ").split('`').filter_map(|span| span.strip_prefix("auth-gateway "))
            {
                let mut command = &Arguments::command();
                for word in span.split(' ').take_while(|word| !word.starts_with(['-', '<', '…'])) {
                    let Some(inner) = command.find_subcommand(word.split('|').next().unwrap()) else {
                        let is_argument = command.get_positionals().next().is_some();
                        wrong.extend(
                            (!is_argument).then(|| format!("{name}: {span}: there is no command {word}")),
                        );
                        break;
                    };
                    command = inner;
                }
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
        assert!(count > 20, "only {count} commands found");
    }
}
