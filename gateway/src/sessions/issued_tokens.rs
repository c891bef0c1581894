//! The tokens of a session, signed.

use super::SessionId;

/// The signed tokens of one login or refresh.
#[derive(Debug)]
pub(crate) struct IssuedTokens {
    /// Of a login.
    pub(crate) message: Option<&'static str>,
    pub(crate) session: SessionId,
    pub(crate) subject: String,
    pub(crate) username: String,
    pub(crate) access_token: String,
    /// None where the one that was presented stays.
    pub(crate) refresh_token: Option<String>,
    /// Seconds the access token lives.
    pub(crate) expires_in: u64,
    /// Seconds until the session ends, however often it is refreshed.
    pub(crate) session_expires_in: u64,
    /// Whether they are bound to a key.
    pub(crate) are_bound: bool,
}
