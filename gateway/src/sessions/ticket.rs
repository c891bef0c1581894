//! Tickets: secrets that allow one thing, once and for a short time, such as to set a new password.
//!
//! The store has the hash of the secret only. A used or expired ticket is kept for a while, so that
//! the error of a later use names the reason.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::secret::hash_text;
use super::{TokenId, UnixMillis};

/// How long a ticket is kept after its end.
const KEPT_AFTER_END: Duration = Duration::from_secs(24 * 60 * 60);

/// What a ticket allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TicketPurpose {
    /// To set a new password without the old one.
    PasswordReset,
    /// To complete a login by a second factor.
    SecondFactor,
}

/// A ticket as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ticket {
    /// What it allows.
    pub purpose: TicketPurpose,
    /// The user's id.
    pub subject: String,
    /// The fingerprint of the user's password. The ticket is void once there is another one.
    pub credential: [u8; 16],
    /// Its end.
    pub expires_at: UnixMillis,
    /// Set once it was used.
    pub used_at: Option<UnixMillis>,
}

/// Why a ticket does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadTicket {
    /// There is none, or it ended long ago.
    #[error("there is no such ticket, or it has expired")]
    Unknown,
    /// Its time is over.
    #[error("the ticket has expired")]
    Expired,
    /// It was used.
    #[error("the ticket was used before")]
    Used,
}

impl Ticket {
    /// Whether it counts at `now` for `purpose`.
    pub(super) fn check(&self, purpose: TicketPurpose, now: UnixMillis) -> Result<(), BadTicket> {
        match self.used_at {
            _ if self.purpose != purpose => Err(BadTicket::Unknown),
            Some(_) => Err(BadTicket::Used),
            None if now >= self.expires_at => Err(BadTicket::Expired),
            None => Ok(()),
        }
    }

    /// Until when its record is kept.
    pub(super) fn kept_until(&self) -> UnixMillis {
        self.expires_at.saturating_add(KEPT_AFTER_END)
    }
}

/// A new secret. It is written down nowhere.
pub(super) fn new_secret() -> String {
    TokenId::random().to_string()
}

/// The name under which a secret is stored: its hash.
pub(super) fn id_of(secret: &str) -> String {
    hash_text(secret)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_counts_for_its_purpose_until_it_is_used_or_has_expired() {
        let purpose = TicketPurpose::PasswordReset;
        let ticket = Ticket {
            purpose,
            subject: "1".into(),
            credential: [0; 16],
            expires_at: UnixMillis::new(100),
            used_at: None,
        };
        let used = Ticket { used_at: Some(UnixMillis::new(50)), ..ticket.clone() };
        for (ticket, now, expected) in [
            (&ticket, 0, Ok(())),
            (&ticket, 99, Ok(())),
            (&ticket, 100, Err(BadTicket::Expired)),
            (&used, 60, Err(BadTicket::Used)),
            (&used, 100, Err(BadTicket::Used)),
        ] {
            assert_eq!(ticket.check(purpose, UnixMillis::new(now)), expected, "{now}");
        }
    }

    #[test]
    fn secrets_differ_and_are_not_in_their_names() {
        let (a, b) = (new_secret(), new_secret());
        assert_ne!(a, b);
        assert!(id_of(&a) != id_of(&b) && !id_of(&a).contains(&a));
    }
}
