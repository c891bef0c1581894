//! `auth-gateway sessions …`: lists and revokes sessions.

use std::io::Write;

use clap::Subcommand;

use super::CommandError;
use super::hash_password::Console;
use super::text_table::table;
use crate::config::Settings;
use crate::server::{ControlCommand, ControlResponse, control};
use crate::sessions::{SessionId, SessionInfo};

/// What to do with sessions.
#[derive(Debug, Clone, Subcommand)]
pub(super) enum SessionsCommand {
    /// Print a table of the live sessions, newest first
    List {
        /// Of this user only
        name: Option<String>,
    },
    /// Revoke one session, on all instances at once
    Revoke {
        /// The session, as `sessions list` shows it
        #[arg(value_name = "SESSION", allow_hyphen_values = true)]
        id: String,
    },
}

pub(super) fn run(
    command: SessionsCommand,
    settings: &Settings,
    console: &mut Console<'_>,
) -> Result<(), CommandError> {
    match command {
        SessionsCommand::List { name } => {
            let answer = control(settings, ControlCommand::Sessions(name)).map_err(CommandError::failed)?;
            let ControlResponse::Sessions(sessions) = answer else { return Ok(()) };
            let heading = ["SESSION", "USER", "STARTED", "REFRESHED", "ENDS", "ADDRESS", "CLIENT"];
            for line in table(heading, sessions.iter().map(session_cells)) {
                writeln!(console.output, "{line}").map_err(CommandError::failed)?;
            }
            Ok(())
        }
        SessionsCommand::Revoke { id } => {
            let session: SessionId = id.parse().map_err(|error| {
                CommandError::failed(format!("{id:?} is no session: {error}; `sessions list` shows all"))
            })?;
            match control(settings, ControlCommand::Revoke(session)).map_err(CommandError::failed)? {
                ControlResponse::Ended(1..) => {
                    writeln!(console.notes, "{session} is ended").map_err(CommandError::failed)
                }
                _ => Err(CommandError::failed(format!("there is no session {session}, or none any more"))),
            }
        }
    }
}

fn session_cells(session: &SessionInfo) -> [String; 7] {
    let client = session.client.user_agent.as_deref().unwrap_or("-");
    [
        session.id.to_string(),
        session.username.clone(),
        session.started_at.to_string(),
        session.last_refreshed_at.to_string(),
        session.expires_at.to_string(),
        session.client.address.map_or_else(|| "-".to_owned(), |address| address.to_string()),
        // Chosen by the client: it must not contain terminal escape sequences.
        client.chars().map(|c| if c.is_control() { '?' } else { c }).collect(),
    ]
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::sessions::{ClientInfo, UnixMillis};

    #[test]
    fn sessions_are_a_table_and_what_clients_say_cannot_speak_to_the_terminal() {
        let id = SessionId::random();
        let session = SessionInfo {
            id,
            subject: "1".into(),
            username: "alice".into(),
            started_at: UnixMillis::new(1_790_000_000_000),
            last_refreshed_at: UnixMillis::new(1_790_000_060_500),
            expires_at: UnixMillis::new(1_790_000_600_000),
            client: ClientInfo::new("192.0.2.1".parse().unwrap(), Some("curl\u{1b}[2J")),
        };
        let text = table(["SESSION", "", "", "", "", "", ""], [session_cells(&session)]).join("\n");
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].starts_with("SESSION"), "{text}");
        assert!(lines[1].starts_with(&id.to_string()) && lines[1].ends_with("192.0.2.1  curl?[2J"), "{text}");
        assert!(lines[1].contains("2026-09-21T14:14:20Z"), "{text}");
    }
}
