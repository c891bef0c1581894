//! `[audit]`: the audit trail, a stream of its own.

use super::prelude::*;

section! {
    /// The audit trail: logins, refused requests, ended sessions, keys, reloads. Independent of log.level.
    pub struct Audit {
        /// "log": among the lines of the log; "stderr": JSON lines on standard error, whatever log.format is; "file",
        /// "syslog", "journald", or "off".
        target: AuditTarget = choice().default("log").restart();
        /// The file of target = "file": JSON lines, mode 0640. It is opened anew when it was moved or removed, so that
        /// logrotate needs no signal.
        file: Option<PathBuf> = text(file_name).example("\"/var/log/auth-gateway/audit.log\"").restart();
        /// The socket of target = "syslog" (RFC 5424).
        syslog_socket: PathBuf = text(file_name).default("/dev/log").restart()
            .only_where(|audit| audit.word("target") == "syslog", "`target` is not \"syslog\"");
        /// The socket of target = "journald" (its native protocol).
        journald_socket: PathBuf = text(file_name).default("/run/systemd/journal/socket").restart()
            .only_where(|audit| audit.word("target") == "journald", "`target` is not \"journald\"");
        /// Which refused requests are recorded: "forbidden": those with 403; "all": those with 401, too, the first
        /// request of each visitor among them; "off": none.
        refusals: AuditRefusals = choice().default("forbidden");
    }
}

/// Where audit events go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AuditTarget {
    /// Among the lines of the log, in its format.
    Log,
    /// JSON lines on standard error.
    Stderr,
    /// JSON lines in a file.
    File,
    /// RFC 5424 over a Unix socket.
    Syslog,
    /// The native protocol of systemd's journal.
    Journald,
    /// Nowhere.
    Off,
}

/// Which refused requests are audit events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AuditRefusals {
    /// None.
    Off,
    /// Those with status 403.
    Forbidden,
    /// Those with status 401 or 403.
    All,
}

impl AuditRefusals {
    /// Whether a refusal with this status is recorded.
    pub(crate) fn include(self, status: u16) -> bool {
        match self {
            AuditRefusals::Off => false,
            AuditRefusals::Forbidden => status == 403,
            AuditRefusals::All => matches!(status, 401 | 403),
        }
    }
}

impl Audit {
    pub(super) fn check(&self, table: &Table<'_>) {
        let file = table.entry("file");
        if self.target == AuditTarget::File {
            file.require("name one: file = \"/var/log/auth-gateway/audit.log\"");
        }
        if self.target != AuditTarget::File && file.is_given() {
            file.error("the audit trail goes elsewhere", "add target = \"file\", or remove it");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::test_support::{load_diagnostics, minimal, settings};
    use super::*;

    #[test]
    fn audit_events_are_in_the_log_unless_another_target_is_set() {
        let audit = settings(minimal()).audit;
        assert_eq!((audit.target, audit.refusals), (AuditTarget::Log, AuditRefusals::Forbidden));
        let audit =
            settings(minimal() + "[audit]\ntarget = \"file\"\nfile = \"a.log\"\nrefusals = \"all\"").audit;
        assert_eq!(audit.file.as_deref(), Some(std::path::Path::new("a.log")));
        assert_eq!(audit.target, AuditTarget::File);
        assert!(audit.refusals.include(401) && audit.refusals.include(403) && !audit.refusals.include(404));
    }

    #[test]
    fn a_target_without_its_file_and_a_file_without_its_target_are_refused() {
        for (config, message, help) in [
            ("target = \"file\"", "`audit.file` is missing", "name one"),
            ("file = \"a.log\"", "the audit trail goes elsewhere", "target = \"file\""),
            ("target = \"sylog\"", "unknown value `sylog`", "did you mean `syslog`?"),
            ("refusals = true", "expected a string", ""),
        ] {
            load_diagnostics(minimal() + "[audit]\n" + config).only(message, help);
        }
    }
}
