//! Logging setup: plain text on a terminal, JSON otherwise, to standard error through a background writer.

use std::fmt::{self, Write as _};
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;

use super::access_log::AccessLog;
use super::audit;
use super::audit_output::{DatagramOutput, RotatedFile};
use super::json_text::push_escaped;
use super::writer::{LogGuard, LogWriter};
use crate::config::{Audit, AuditTarget, Log, LogFormat};

/// Why logging cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// The writer thread cannot be started.
    #[error("cannot start the thread that writes logs: {0}")]
    Thread(#[from] io::Error),
    /// `log.level` is no valid filter.
    #[error("log.level is no filter: {0}; write a level such as `info`, or `info,auth_gateway=debug`")]
    Filter(#[from] tracing_subscriber::filter::ParseError),
    /// The output of the audit trail cannot be opened.
    #[error(
        "audit.target: {path} cannot be opened: {source}; the audit trail must not be lost, so the gateway does not start"
    )]
    Audit {
        /// The file or socket.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
}

/// The running logs.
#[derive(Debug)]
pub struct Logs {
    /// The background writer.
    pub writer: LogWriter,
    /// The access log, unless it is switched off.
    pub(crate) access: Option<AccessLog>,
    /// The writer of the audit trail, where that is not `writer`.
    pub(crate) audit: Option<LogWriter>,
    /// Flush on drop.
    _guards: (LogGuard, Option<LogGuard>),
}

/// Installs the `tracing` subscriber that writes events to standard error, in the configured format, and audit events to
/// their target.
///
/// # Errors
///
/// A writer thread cannot be started, `log.level` is no valid filter, or the audit trail's output cannot be opened.
pub fn init(settings: &Log, audit: &Audit) -> Result<Logs, InitError> {
    let json = match settings.format {
        LogFormat::Json => true,
        LogFormat::Human => false,
        LogFormat::Auto => !io::stderr().is_terminal(),
    };
    let format = if json { LineFormat::Json } else { LineFormat::Human };
    // Audit events have a layer of their own, which `log.level` has no part in.
    let filter = EnvFilter::try_new(&settings.level)?.add_directive("audit=off".parse()?);
    let (writer, guard) = LogWriter::start(io::stderr())?;
    let lines = Lines { writer: writer.clone(), format };
    let (audit_lines, audit_writer, audit_guard) = match AuditOutput::open(audit)? {
        None => (None, None, None),
        Some(AuditOutput::StandardError(own)) => {
            (Some(Lines { writer: writer.clone(), format: own.unwrap_or(format) }), None, None)
        }
        Some(AuditOutput::Own(output, format)) => {
            let (writer, guard) = LogWriter::start(output)?;
            (Some(Lines { writer: writer.clone(), format }), Some(writer), Some(guard))
        }
    };
    let audit_filter = Targets::new().with_target(audit::TARGET, LevelFilter::INFO);
    // A second call in one process, as tests make, keeps the first subscriber.
    let _ = tracing_subscriber::registry()
        .with(lines.with_filter(filter))
        .with(audit_lines.map(|lines| lines.with_filter(audit_filter)))
        .try_init();
    let access = settings.access.then(|| AccessLog::new(writer.clone(), json));
    Ok(Logs { writer, access, audit: audit_writer, _guards: (guard, audit_guard) })
}

/// Where the audit trail goes.
enum AuditOutput {
    /// Among the lines of the log, in this format or in the log's.
    StandardError(Option<LineFormat>),
    Own(Box<dyn io::Write + Send>, LineFormat),
}

impl AuditOutput {
    fn open(settings: &Audit) -> Result<Option<AuditOutput>, InitError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| InitError::Audit { path, source }
        };
        let (syslog, journald) = (&settings.syslog_socket, &settings.journald_socket);
        Ok(Some(match (settings.target, &settings.file) {
            (AuditTarget::Off, _) => return Ok(None),
            (AuditTarget::File, Some(path)) => {
                let file = RotatedFile::open(path).map_err(failed(path))?;
                AuditOutput::Own(Box::new(file), LineFormat::Json)
            }
            (AuditTarget::Log | AuditTarget::File, _) => AuditOutput::StandardError(None),
            (AuditTarget::Stderr, _) => AuditOutput::StandardError(Some(LineFormat::Json)),
            (AuditTarget::Syslog, _) => {
                let socket = DatagramOutput::connect(syslog, "\n").map_err(failed(syslog))?;
                AuditOutput::Own(Box::new(socket), LineFormat::Syslog)
            }
            (AuditTarget::Journald, _) => {
                let socket = DatagramOutput::connect(journald, "\n\n").map_err(failed(journald))?;
                AuditOutput::Own(Box::new(socket), LineFormat::Journal)
            }
        }))
    }
}

/// The format of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LineFormat {
    /// One JSON object per line.
    Json,
    /// A line for people.
    Human,
    /// A message of RFC 5424 per line.
    Syslog,
    /// An entry of the journal's native protocol, with an empty line behind it.
    Journal,
}

/// The facility `authpriv` (RFC 5424 section 6.2.1).
const FACILITY: u8 = 10;
/// The id of the structured data; 32473 is the number for those who have none of their own (RFC 5612).
const STRUCTURED_DATA: &str = "audit@32473";

/// The severity of syslog.
fn severity(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        _ => 7,
    }
}

/// Formats each event as a line.
struct Lines {
    writer: LogWriter,
    format: LineFormat,
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Lines {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut fields = Fields { format: self.format, ..Fields::default() };
        event.record(&mut fields);
        let time = humantime::format_rfc3339_millis(std::time::SystemTime::now());
        let (level, target) = (event.metadata().level(), event.metadata().target());
        let kind = if target == audit::TARGET { "audit" } else { "log" };
        let Fields { message, event, rest, .. } = fields;
        let severity = severity(*level);
        self.writer.line(|text| {
            // Writing to a String does not fail.
            let _ = match self.format {
                LineFormat::Json => writeln!(
                    text,
                    "{{\"ts\":\"{time}\",\"kind\":\"{kind}\",\"level\":\"{level}\",\"target\":\"{target}\",\"message\":\"{message}\"{rest}}}"
                ),
                LineFormat::Human => writeln!(text, "{time} {level:>5} {message}{rest}"),
                LineFormat::Syslog => writeln!(
                    text,
                    "<{}>1 {time} {} auth-gateway {} {event} [{STRUCTURED_DATA}{rest}] {message}",
                    FACILITY << 3 | severity,
                    host_name(),
                    std::process::id(),
                ),
                LineFormat::Journal => writeln!(
                    text,
                    "MESSAGE={message}\nPRIORITY={severity}\nSYSLOG_FACILITY={FACILITY}\nSYSLOG_IDENTIFIER=auth-gateway\n{rest}"
                ),
            };
        });
    }
}

/// The machine's name, for syslog: `-` where it has none that is printable.
fn host_name() -> &'static str {
    static NAME: LazyLock<String> = LazyLock::new(|| {
        let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let name = name.trim();
        let printable = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic());
        if printable { name } else { "-" }.to_owned()
    });
    &NAME
}

/// Collects an event's fields, with every value escaped.
struct Fields {
    format: LineFormat,
    message: String,
    /// The value of `event`, for syslog's MSGID.
    event: String,
    rest: String,
}

impl Default for Fields {
    fn default() -> Fields {
        Fields {
            format: LineFormat::Json,
            message: String::new(),
            event: "-".to_owned(),
            rest: String::new(),
        }
    }
}

impl Fields {
    fn add(&mut self, field: &Field, value: &str, quoted: bool) {
        let name = field.name();
        if name == "message" {
            return push_escaped(&mut self.message, value);
        }
        let rest = &mut self.rest;
        let _ = match self.format {
            LineFormat::Json => {
                let quote = if quoted { "\"" } else { "" };
                let _ = write!(rest, ",\"{name}\":{quote}");
                push_escaped(rest, value);
                rest.write_str(quote)
            }
            LineFormat::Human => {
                let _ = write!(rest, "  {name}=");
                push_escaped(rest, value);
                Ok(())
            }
            LineFormat::Syslog => {
                if name == "event" {
                    value.clone_into(&mut self.event);
                }
                let mut escaped = String::new();
                push_escaped(&mut escaped, value);
                write!(rest, " {name}=\"{}\"", escaped.replace(']', "\\]"))
            }
            LineFormat::Journal => {
                let _ = write!(rest, "AUTH_GATEWAY_{}=", name.to_ascii_uppercase());
                push_escaped(rest, value);
                rest.write_str("\n")
            }
        };
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.add(field, &format!("{value:?}"), true);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, value, true);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field, &value.to_string(), false);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field, &value.to_string(), false);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field, &value.to_string(), false);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::{Arc, Mutex};

    use serde_json::{Value, json};
    use tracing::subscriber::with_default;

    use super::*;

    /// A value that tries to forge a log line and to send escape sequences to the operator's terminal.
    const INJECTED_VALUE: &str = "x\"}\r\n{\"level\":\"ERROR\"}\u{1b}[2J\u{9b}2J";

    #[derive(Clone, Default)]
    struct Shared(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// The lines that `work` logs.
    fn logged(json: bool, level: &str, work: impl FnOnce()) -> Vec<String> {
        let out = Shared::default();
        let (writer, guard) = LogWriter::start(out.clone()).unwrap();
        let format = if json { LineFormat::Json } else { LineFormat::Human };
        let lines = Lines { writer, format }.with_filter(EnvFilter::try_new(level).unwrap());
        with_default(tracing_subscriber::registry().with(lines), work);
        drop(guard);
        let text = String::from_utf8(out.0.lock().unwrap().clone()).unwrap();
        text.split_terminator('\n').map(str::to_owned).collect()
    }

    #[test]
    fn a_forged_value_stays_one_value_of_one_json_line() {
        let lines = logged(
            true,
            "info",
            || tracing::info!(user = INJECTED_VALUE, shown = %INJECTED_VALUE, debugged = ?INJECTED_VALUE, "hello {INJECTED_VALUE}"),
        );
        assert_eq!(lines.len(), 1, "{lines:?}");
        let line: Value = serde_json::from_str(&lines[0]).unwrap();
        assert_eq!(line["level"], "INFO");
        assert_eq!(line["user"], INJECTED_VALUE);
        assert_eq!(line["shown"], INJECTED_VALUE);
        assert_eq!(line["debugged"], format!("{INJECTED_VALUE:?}"));
        assert_eq!(line["message"], format!("hello {INJECTED_VALUE}"));
    }

    #[test]
    fn a_line_for_people_holds_no_control_characters() {
        let lines = logged(false, "info", || tracing::info!(user = INJECTED_VALUE, "hello {INJECTED_VALUE}"));
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(lines[0].chars().all(|c| !c.is_control()), "{lines:?}");
    }

    #[test]
    fn numbers_and_truths_stay_what_they_are_in_json() {
        let lines = logged(true, "info", || tracing::info!(up = 3_u64, down = -3_i64, yes = true, "m"));
        let line: Value = serde_json::from_str(&lines[0]).unwrap();
        assert_eq!([&line["up"], &line["down"], &line["yes"]], [&json!(3), &json!(-3), &json!(true)]);
    }

    #[test]
    fn audit_events_can_be_distinguished_from_others() {
        let lines = logged(true, "info", || {
            tracing::info!(target: "audit", "one");
            tracing::info!("two");
        });
        let kinds: Vec<Value> =
            lines.iter().map(|l| serde_json::from_str::<Value>(l).unwrap()["kind"].clone()).collect();
        assert_eq!(kinds, ["audit", "log"]);
    }

    #[test]
    fn the_level_decides_what_is_written() {
        let work = || {
            tracing::info!("quiet");
            tracing::warn!("loud");
        };
        let lines = logged(false, "warn", work);
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(lines[0].contains("WARN loud"), "{lines:?}");
    }

    fn audit(target: AuditTarget) -> Audit {
        let nowhere = PathBuf::from("/nonexistent/socket");
        Audit {
            target,
            file: Some(nowhere.clone()),
            syslog_socket: nowhere.clone(),
            journald_socket: nowhere,
            refusals: crate::config::AuditRefusals::Off,
        }
    }

    #[test]
    fn an_audit_trail_that_cannot_be_written_is_refused_and_its_place_named() {
        let settings = Log { level: "info".into(), format: LogFormat::Json, access: true };
        for target in [AuditTarget::File, AuditTarget::Syslog, AuditTarget::Journald] {
            let error = init(&settings, &audit(target)).unwrap_err().to_string();
            assert!(error.contains("/nonexistent/socket cannot be opened"), "{error}");
        }
    }

    fn formatted(format: LineFormat, work: impl FnOnce()) -> String {
        let out = Shared::default();
        let (writer, guard) = LogWriter::start(out.clone()).unwrap();
        with_default(tracing_subscriber::registry().with(Lines { writer, format }), work);
        drop(guard);
        String::from_utf8(out.0.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn a_syslog_message_has_the_fields_as_structured_data() {
        let event = || tracing::warn!(target: "audit", event = "login", subject = "a]\"\\b\nc", count = 3_u64, "login failed");
        let line = formatted(LineFormat::Syslog, event);
        // PRI: facility 10, severity 4.
        assert!(line.starts_with("<84>1 2"), "{line}");
        let (_, rest) = line.split_once(" auth-gateway ").unwrap();
        let expected = r#" login [audit@32473 event="login" subject="a\]\"\\b\nc" count="3"] login failed"#;
        assert_eq!(rest, format!("{}{expected}\n", std::process::id()));
    }

    #[test]
    fn a_journal_entry_has_the_fields_as_its_own() {
        let event =
            || tracing::info!(target: "audit", event = "login", subject = "a\n\nPRIORITY=0", "login failed");
        assert_eq!(
            formatted(LineFormat::Journal, event),
            "MESSAGE=login failed\nPRIORITY=6\nSYSLOG_FACILITY=10\nSYSLOG_IDENTIFIER=auth-gateway\n\
             AUTH_GATEWAY_EVENT=login\nAUTH_GATEWAY_SUBJECT=a\\n\\nPRIORITY=0\n\n"
        );
    }

    #[test]
    fn a_level_that_is_no_filter_is_refused_with_a_remedy() {
        let settings = Log { level: "info,=nonsense=".into(), format: LogFormat::Json, access: true };
        let error = init(&settings, &audit(AuditTarget::Log)).unwrap_err().to_string();
        assert!(error.contains("log.level") && error.contains("`info`"), "{error}");
    }
}
