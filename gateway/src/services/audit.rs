//! The events an auditor asks for: who did what from where, and how it went. Never a token or a password.

use crate::request::RequestContext;

impl RequestContext {
    /// Writes an event about a user name in its canonical form, or about a user's id.
    pub(crate) fn audit(
        &self,
        event: &'static str,
        outcome: &'static str,
        subject: &str,
        session: Option<String>,
    ) {
        tracing::info!(
            target: "audit",
            event,
            outcome,
            subject,
            session = session.as_deref().unwrap_or("-"),
            client = %self.client_address(),
            request_id = self.request_id.as_str(),
            "{event} {outcome}"
        );
    }
}
