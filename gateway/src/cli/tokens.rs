//! `auth-gateway tokens …`: makes, lists and revokes personal access tokens.

use std::io::Write;

use clap::{Args, Subcommand};

use super::CommandError;
use super::hash_password::Console;
use super::text_table::table;
use crate::config::Settings;
use crate::server::{ControlCommand, ControlResponse, control};
use crate::services::personal_tokens::{Lifetime, TokenRequest};
use crate::sessions::{PersonalTokenInfo, SessionId};

/// What to do with personal access tokens.
#[derive(Debug, Clone, Subcommand)]
pub(super) enum TokensCommand {
    /// Make a token for a user, and print it: it is shown nowhere else
    Create(CreateArguments),
    /// Print a table of the tokens, newest first
    List {
        /// Of this user only
        name: Option<String>,
    },
    /// Revoke one token, or all of a user, on all instances at once
    Revoke {
        /// The token's id, as `tokens list` shows it and as it stands behind `agp_`
        #[arg(
            value_name = "ID",
            allow_hyphen_values = true,
            required_unless_present = "all_of",
            conflicts_with = "all_of"
        )]
        id: Option<String>,
        /// All tokens of this user
        #[arg(long, value_name = "USER")]
        all_of: Option<String>,
    },
}

/// The options of `tokens create`.
#[derive(Debug, Clone, Args)]
pub(super) struct CreateArguments {
    /// The user that it acts for
    user: String,
    /// What it is called in listings
    #[arg(long = "name", value_name = "NAME")]
    name: String,
    /// When it expires, such as 90d, or "never" [default: personal_tokens.default_ttl]
    #[arg(long, value_name = "TIME", value_parser = lifetime)]
    expires_in: Option<Lifetime>,
    /// Only this role of the user, several times for several [default: all that the user has]
    #[arg(long = "role", value_name = "ROLE", value_delimiter = ',')]
    roles: Vec<String>,
    /// Only the route with this path, several times for several [default: all]
    #[arg(long = "route", value_name = "PATH", value_delimiter = ',')]
    routes: Vec<String>,
}

fn lifetime(text: &str) -> Result<Lifetime, String> {
    match text {
        "never" => Ok(Lifetime::Unlimited),
        _ => humantime::parse_duration(text)
            .ok()
            .filter(|time| time.as_secs() > 0)
            .map(|time| Lifetime::Seconds(time.as_secs()))
            .ok_or_else(|| "write it like 90d or 12h, or never".to_owned()),
    }
}

pub(super) fn run(
    command: TokensCommand,
    settings: &Settings,
    console: &mut Console<'_>,
) -> Result<(), CommandError> {
    if !settings.personal_tokens.enabled {
        let why = "personal access tokens are off: write [personal_tokens] enabled = true";
        return Err(CommandError::configuration(why));
    }
    let ask = |command| control(settings, command).map_err(CommandError::failed);
    match command {
        TokensCommand::Create(arguments) => {
            let CreateArguments { user, name, expires_in, roles, routes } = arguments;
            let lifetime = expires_in.unwrap_or(Lifetime::Default);
            let roles = Some(roles).filter(|roles| !roles.is_empty());
            let request = TokenRequest { name, lifetime, roles, routes };
            match ask(ControlCommand::CreateToken { user, request })? {
                ControlResponse::TokenCreated { token, info } => {
                    let until = expiry(&info);
                    writeln!(console.notes, "the token {} of {} expires: {until}", info.id, info.username)
                        .and_then(|()| writeln!(console.output, "{}", token.as_str()))
                        .map_err(CommandError::failed)
                }
                _ => Err(CommandError::failed("the gateway made no token")),
            }
        }
        TokensCommand::List { name } => {
            let ControlResponse::Tokens(tokens) = ask(ControlCommand::Tokens(name))? else { return Ok(()) };
            let heading = ["ID", "USER", "CREATED", "EXPIRES", "LAST USED", "ROLES", "ROUTES", "NAME"];
            for line in table(heading, tokens.iter().map(token_cells)) {
                writeln!(console.output, "{line}").map_err(CommandError::failed)?;
            }
            Ok(())
        }
        TokensCommand::Revoke { id, all_of } => {
            let (command, what) = match (id, all_of) {
                (Some(id), _) => {
                    let token: SessionId = id.parse().map_err(|error| {
                        CommandError::failed(format!("{id:?} is no token: {error}; `tokens list` shows all"))
                    })?;
                    (ControlCommand::RevokeToken(token), format!("token {id}"))
                }
                (None, user) => {
                    let user = user.unwrap_or_default();
                    (ControlCommand::RevokeTokens(user.clone()), format!("token of {user}"))
                }
            };
            match ask(command)? {
                ControlResponse::Ended(count @ 1..) => {
                    let tokens = if count == 1 { "token is" } else { "tokens are" };
                    writeln!(console.notes, "{count} {tokens} revoked").map_err(CommandError::failed)
                }
                _ => Err(CommandError::failed(format!("there is no {what}, or none any more"))),
            }
        }
    }
}

fn token_cells(token: &PersonalTokenInfo) -> [String; 8] {
    let all = |texts: &[String]| if texts.is_empty() { "-".to_owned() } else { texts.join(",") };
    [
        token.id.to_string(),
        token.username.clone(),
        token.created_at.to_string(),
        expiry(token),
        token.last_used_at.map_or_else(|| "never".to_owned(), |at| at.to_string()),
        token.roles.as_ref().map_or_else(|| "(all)".to_owned(), |roles| all(roles)),
        if token.routes.is_empty() { "(all)".to_owned() } else { all(&token.routes) },
        token.name.clone(),
    ]
}

fn expiry(token: &PersonalTokenInfo) -> String {
    token.expires_at.map_or_else(|| "never".to_owned(), |at| at.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lifetimes_are_durations_or_never() {
        assert_eq!(lifetime("never"), Ok(Lifetime::Unlimited));
        assert_eq!(lifetime("90d"), Ok(Lifetime::Seconds(90 * 24 * 3600)));
        for bad in ["", "0s", "90", "soon"] {
            assert!(lifetime(bad).is_err(), "{bad}");
        }
    }
}
