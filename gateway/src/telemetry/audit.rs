//! Audit events: who did what from where, with which result. Never a token or a password.
//!
//! They are `tracing` events of the target `audit`, for which the subscriber has a layer of its own: `log.level`
//! has no effect on them.

/// The target of audit events.
pub(super) const TARGET: &str = "audit";

/// The value of a field that is always there and not known.
const UNKNOWN: &str = "-";

/// An audit event. `docs/reference/log-fields.md` lists the names; they do not change.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AuditEvent<'a> {
    /// What was done.
    pub(crate) event: &'a str,
    /// The result.
    pub(crate) outcome: &'a str,
    /// Why, for the operator only: the client is not to know whether a name exists.
    pub(crate) reason: Option<&'a str>,
    /// The user's name, or the user's id where the name is not known; what was changed, where it is no user.
    pub(crate) subject: &'a str,
    pub(crate) session: Option<&'a str>,
    /// The client's address; `command` for an operator's command, `gateway` for what the gateway does by itself.
    pub(crate) client: &'a str,
    pub(crate) request_id: Option<&'a str>,
    pub(crate) count: Option<u64>,
    pub(crate) request: Option<AuditedRequest<'a>>,
    /// Whether it needs attention at once.
    pub(crate) alert: bool,
}

/// What was requested.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AuditedRequest<'a> {
    pub(crate) method: &'a str,
    pub(crate) host: &'a str,
    /// Without the query.
    pub(crate) path: &'a str,
    /// The path of the route, as configured.
    pub(crate) route: Option<&'a str>,
    pub(crate) status: u16,
}

impl<'a> AuditEvent<'a> {
    /// An event of the gateway itself.
    pub(crate) fn new(event: &'a str, outcome: &'a str, subject: &'a str) -> AuditEvent<'a> {
        AuditEvent {
            event,
            outcome,
            subject,
            reason: None,
            session: None,
            client: "gateway",
            request_id: None,
            count: None,
            request: None,
            alert: false,
        }
    }

    /// Writes it.
    pub(crate) fn write(self) {
        let AuditEvent {
            event,
            outcome,
            reason,
            subject,
            session,
            client,
            request_id,
            count,
            request,
            alert,
        } = self;
        let (session, request_id) = (session.unwrap_or(UNKNOWN), request_id.unwrap_or(UNKNOWN));
        let (method, host) = (request.map(|r| r.method), request.map(|r| r.host));
        let (path, route) = (request.map(|r| r.path), request.and_then(|r| r.route));
        let status = request.map(|r| r.status);
        macro_rules! write_at {
            ($level:ident) => {
                tracing::$level!(
                    target: TARGET, event, outcome, reason, subject, session, client, request_id, method, host,
                    path, route, status, count, alert = alert.then_some(true), "{event} {outcome}"
                )
            };
        }
        if alert { write_at!(warn) } else { write_at!(info) }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs;
    use std::path::{Path, PathBuf};

    fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if entry.is_dir() {
                sources(&entry, found);
            } else if entry.extension().is_some_and(|extension| extension == "rs") {
                found.push(entry);
            }
        }
    }

    /// The names of events in the code are literals at the calls that write them.
    #[test]
    fn every_event_is_documented() {
        let page = include_str!("../../../docs/reference/log-fields.md");
        let mut files = Vec::new();
        sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut files);
        let mut events = 0;
        for file in files {
            let text = fs::read_to_string(&file).unwrap();
            let calls = ["audit(", "audit_command(", "audit_ended(", "AuditEvent::new("];
            for call in calls.iter().flat_map(|call| text.match_indices(call).map(|(at, _)| at + call.len()))
            {
                let Some(event) = text[call..].trim_start().strip_prefix('"') else { continue };
                let (event, _) = event.split_once('"').unwrap();
                // This file has the calls themselves as text.
                if !event.bytes().all(|b| b.is_ascii_lowercase() || b"-_".contains(&b)) {
                    continue;
                }
                assert!(
                    page.contains(&format!("`{event}`")),
                    "{event} of {} is not documented",
                    file.display()
                );
                events += 1;
            }
        }
        assert!(events > 15, "only {events} events were found");
    }
}
