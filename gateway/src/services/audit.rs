//! Audit events of requests.

use crate::rejection::{Code, Rejection};
use crate::request::RequestContext;
use crate::telemetry::{AuditEvent, AuditedRequest, EndpointLabel};
use crate::telemetry::{logged_host, logged_request_line};

impl RequestContext {
    /// Writes an audit event about a user name in canonical form, or about a user's id.
    pub(crate) fn audit(
        &self,
        event: &'static str,
        outcome: &'static str,
        subject: &str,
        session: Option<String>,
    ) {
        self.write_audit(AuditEvent {
            session: session.as_deref(),
            ..AuditEvent::new(event, outcome, subject)
        });
    }

    /// Writes an audit event with the address and the id of this request.
    pub(crate) fn write_audit(&self, event: AuditEvent<'_>) {
        let client = self.client_address().to_string();
        AuditEvent { client: &client, request_id: Some(self.request_id.as_str()), ..event }.write();
    }

    /// Records that this request was refused, as `audit.refusals` says. Logins and refreshes have events of their own.
    pub(crate) fn audit_refusal(&self, rejection: &Rejection) {
        let status = rejection.status().as_u16();
        let recorded =
            matches!(self.record.endpoint.get(), Some(EndpointLabel::Login | EndpointLabel::Refresh))
                || matches!(rejection.code(), Code::InvalidCredentials | Code::AccountLocked);
        if recorded || !self.state.config.settings.audit.refusals.include(status) {
            return;
        }
        let (method, path) = logged_request_line(&self.head);
        let request = AuditedRequest {
            method,
            host: logged_host(&self.head),
            path: &path,
            route: self.route_path(),
            status,
        };
        let identity = self.record.identity.borrow();
        self.write_audit(AuditEvent {
            reason: Some(rejection.code().name()),
            session: identity.as_ref().map(|identity| identity.claims().sid()),
            request: Some(request),
            ..AuditEvent::new(
                "request",
                "refused",
                identity.as_ref().map_or("-", |identity| identity.claims().username()),
            )
        });
    }
}
