//! Logging setup: plain text on a terminal, JSON otherwise, to standard error through a background writer.

use std::fmt::{self, Write as _};
use std::io::{self, IsTerminal};

use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;

use super::access_log::AccessLog;
use super::json_text::push_escaped;
use super::writer::{LogGuard, LogWriter};
use crate::config::{Log, LogFormat};

/// Why logging cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// The writer thread cannot be started.
    #[error("cannot start the thread that writes logs: {0}")]
    Thread(#[from] io::Error),
    /// `log.level` is no valid filter.
    #[error("log.level is no filter: {0}; write a level such as `info`, or `info,auth_gateway=debug`")]
    Filter(#[from] tracing_subscriber::filter::ParseError),
}

/// The running logs.
#[derive(Debug)]
pub struct Logs {
    /// The background writer.
    pub writer: LogWriter,
    /// The access log, unless it is switched off.
    pub(crate) access: Option<AccessLog>,
    /// Flushes on drop.
    pub guard: LogGuard,
}

/// Installs the `tracing` subscriber that writes events to standard error, in the configured format.
///
/// # Errors
///
/// The writer thread cannot be started, or `log.level` is no valid filter.
pub fn init(settings: &Log) -> Result<Logs, InitError> {
    let json = match settings.format {
        LogFormat::Json => true,
        LogFormat::Human => false,
        LogFormat::Auto => !io::stderr().is_terminal(),
    };
    let filter = EnvFilter::try_new(&settings.level)?;
    let (writer, guard) = LogWriter::start(io::stderr())?;
    let lines = Lines { writer: writer.clone(), json };
    // A second call in one process, as tests make, keeps the first subscriber.
    let _ = tracing_subscriber::registry().with(lines.with_filter(filter)).try_init();
    let access = settings.access.then(|| AccessLog::new(writer.clone(), json));
    Ok(Logs { writer, access, guard })
}

/// Formats each event as a line.
struct Lines {
    writer: LogWriter,
    json: bool,
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Lines {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut fields = Fields { json: self.json, message: String::new(), rest: String::new() };
        event.record(&mut fields);
        let time = humantime::format_rfc3339_millis(std::time::SystemTime::now());
        let (level, target) = (event.metadata().level(), event.metadata().target());
        let kind = if target == "audit" { "audit" } else { "log" };
        let Fields { message, rest, .. } = fields;
        self.writer.line(|text| {
            // Writing to a String does not fail.
            let _ = if self.json {
                writeln!(
                    text,
                    "{{\"ts\":\"{time}\",\"kind\":\"{kind}\",\"level\":\"{level}\",\"target\":\"{target}\",\"message\":\"{message}\"{rest}}}"
            )
        } else {
            writeln!(text, "{time} {level:>5} {message}{rest}")
        };
        });
    }
}

/// Collects an event's fields, with every value escaped.
struct Fields {
    json: bool,
    message: String,
    rest: String,
}

impl Fields {
    fn add(&mut self, field: &Field, value: &str, quoted: bool) {
        if field.name() == "message" {
            return push_escaped(&mut self.message, value);
        }
        let quote = if quoted && self.json { "\"" } else { "" };
        let _ = match self.json {
            true => fmt::write(&mut self.rest, format_args!(",\"{}\":{quote}", field.name())),
            false => fmt::write(&mut self.rest, format_args!("  {}=", field.name())),
        };
        push_escaped(&mut self.rest, value);
        self.rest.push_str(quote);
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
        let lines = Lines { writer, json }.with_filter(EnvFilter::try_new(level).unwrap());
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

    #[test]
    fn a_level_that_is_no_filter_is_refused_with_a_remedy() {
        let settings = Log { level: "info,=nonsense=".into(), format: LogFormat::Json, access: true };
        let error = init(&settings).unwrap_err().to_string();
        assert!(error.contains("log.level") && error.contains("`info`"), "{error}");
    }
}
