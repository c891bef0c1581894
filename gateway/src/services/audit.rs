//! Audit events: who did what from where, with which result. Never a token or a password.

use crate::request::RequestContext;

impl RequestContext {
    /// Writes an audit event about a user name in canonical form, or about a user's id.
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
