//! The access log's line format, JSON or plain text. Formatted by hand: it runs for every request, so it must
//! cost next to nothing.

use std::cell::RefCell;
use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

use itoa::Integer;

use super::json_text::push_escaped;
use super::trace_context::TraceIds;
use super::writer::LogWriter;
use crate::clock::UnixMillis;

/// One access log entry. It never contains a query, a token or a password.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AccessRecord<'a> {
    /// The end of the request.
    pub(crate) at: UnixMillis,
    pub(crate) request_id: &'a str,
    /// The client's address.
    pub(crate) client: &'a str,
    pub(crate) method: &'a str,
    pub(crate) path: &'a str,
    pub(crate) host: &'a str,
    pub(crate) protocol: &'a str,
    pub(crate) status: u16,
    /// Bytes of the response body.
    pub(crate) bytes_sent: u64,
    pub(crate) duration: Duration,
    pub(crate) route: Option<&'a str>,
    pub(crate) upstream: Option<&'a str>,
    pub(crate) user: Option<&'a str>,
    pub(crate) code: Option<&'a str>,
    /// What became of a CORS preflight.
    pub(crate) cors: Option<&'a str>,
    /// What became of a proof of possession.
    pub(crate) dpop: Option<&'a str>,
    /// Who cut the response short and why; `None` for a complete one.
    pub(crate) aborted: Option<&'a str>,
    pub(crate) trace: Option<TraceIds>,
}

/// Writes access log entries.
#[derive(Debug, Clone)]
pub(crate) struct AccessLog {
    writer: LogWriter,
    json: bool,
}

impl AccessLog {
    /// Entries as JSON lines (`json`) or for people.
    pub(crate) fn new(writer: LogWriter, json: bool) -> AccessLog {
        AccessLog { writer, json }
    }

    /// The same log with a buffer of its own, for a thread that writes much.
    pub(crate) fn with_own_buffer(&self) -> AccessLog {
        AccessLog { writer: self.writer.with_own_buffer(), json: self.json }
    }

    pub(crate) fn write(&self, record: &AccessRecord<'_>) {
        self.writer.line(|text| {
            if self.json {
                json(text, record);
            } else {
                human(text, record);
            }
            text.push('\n');
        });
    }
}

fn json(line: &mut String, record: &AccessRecord<'_>) {
    line.push_str("{\"ts\":\"");
    push_time(line, record.at.get());
    line.push_str("\",\"kind\":\"access\"");
    // None of these needs JSON escaping: a generated or validated id, an address, a token (RFC 9110 section
    // 5.6.2).
    let plain = [
        (",\"request_id\":\"", record.request_id),
        ("\",\"client\":\"", record.client),
        ("\",\"method\":\"", record.method),
        ("\",\"protocol\":\"", record.protocol),
    ];
    for (name, text) in plain {
        line.push_str(name);
        line.push_str(text);
    }
    line.push('"');
    push_member(line, "path", record.path);
    push_member(line, "host", record.host);
    line.push_str(",\"status\":");
    push_number(line, record.status);
    line.push_str(",\"bytes\":");
    push_number(line, record.bytes_sent);
    line.push_str(",\"duration_ms\":");
    let micros = record.duration.as_micros() as u64;
    push_number(line, micros / 1000);
    line.push('.');
    push_three_digits(line, micros % 1000);
    let further = [
        ("route", record.route),
        ("upstream", record.upstream),
        ("user", record.user),
        ("code", record.code),
        ("cors", record.cors),
        ("dpop", record.dpop),
        ("aborted", record.aborted),
    ];
    for (name, text) in further {
        if let Some(text) = text {
            push_member(line, name, text);
        }
    }
    if let Some(trace) = record.trace {
        // Writing to a String does not fail.
        let _ =
            write!(line, ",\"trace_id\":\"{:032x}\",\"span_id\":\"{:016x}\"", trace.trace_id, trace.span_id);
    }
    line.push('}');
}

/// Appends `,"name":"text"`.
fn push_member(line: &mut String, name: &str, text: &str) {
    line.push_str(",\"");
    line.push_str(name);
    line.push_str("\":\"");
    push_escaped(line, text);
    line.push('"');
}

fn push_number(line: &mut String, number: impl Integer) {
    line.push_str(itoa::Buffer::new().format(number));
}

/// Appends a number below 1000 with leading zeros.
fn push_three_digits(line: &mut String, number: u64) {
    for digit in [number / 100, number / 10 % 10, number % 10] {
        line.push((b'0' + digit as u8) as char);
    }
}

fn human(line: &mut String, record: &AccessRecord<'_>) {
    push_time(line, record.at.get());
    // Writing to a String does not fail, here and below.
    let _ = write!(line, "  {} {:<7} ", record.status, record.method);
    push_escaped(line, record.path);
    let _ = write!(line, "  {:.1} ms", record.duration.as_secs_f64() * 1000.0);
    if let Some(code) = record.code {
        let _ = write!(line, "  {code}");
    }
    if let Some(outcome) = record.cors {
        let _ = write!(line, "  cors={outcome}");
    }
    if let Some(outcome) = record.dpop {
        let _ = write!(line, "  dpop={outcome}");
    }
    if let Some(reason) = record.aborted {
        let _ = write!(line, "  aborted={reason}");
    }
    if let Some(user) = record.user {
        line.push_str("  user=");
        push_escaped(line, user);
    }
    let _ = write!(line, "  client={} id={}", record.client, record.request_id);
    if let Some(trace) = record.trace {
        let _ = write!(line, " trace={:032x}", trace.trace_id);
    }
}

/// Appends a time as RFC 3339 with milliseconds. The part down to the second is cached.
fn push_time(line: &mut String, millis: u64) {
    thread_local! {
        static SECOND: RefCell<(u64, String)> = const { RefCell::new((0, String::new())) };
    }
    let seconds = millis / 1000;
    SECOND.with_borrow_mut(|(second, text)| {
        if *second != seconds || text.is_empty() {
            *second = seconds;
            let whole = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
            *text = humantime::format_rfc3339_seconds(whole).to_string();
            text.pop();
        }
        line.push_str(text);
    });
    line.push('.');
    push_three_digits(line, millis % 1000);
    line.push('Z');
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn record<'a>() -> AccessRecord<'a> {
        AccessRecord {
            at: UnixMillis::new(1_234_567_890_007),
            request_id: "0123",
            client: "192.0.2.1",
            method: "GET",
            path: "/a\"\r\n{",
            host: "gw.test",
            protocol: "HTTP/1.1",
            status: 200,
            bytes_sent: 5,
            duration: Duration::from_micros(1234),
            route: Some("/a"),
            upstream: None,
            user: Some("alice\u{1b}[31m"),
            code: None,
            cors: None,
            dpop: None,
            aborted: None,
            trace: None,
        }
    }

    #[test]
    fn a_json_line_is_json_whatever_was_in_the_request() {
        let mut line = String::new();
        json(&mut line, &record());
        let parsed: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(parsed["ts"], "2009-02-13T23:31:30.007Z");
        assert_eq!(parsed["path"], "/a\"\r\n{");
        assert_eq!(parsed["duration_ms"], 1.234);
        assert_eq!(parsed["user"], "alice\u{1b}[31m");
        assert!(parsed.get("upstream").is_none());
        assert!(line.bytes().all(|b| b >= b' '), "{line}");
    }

    #[test]
    fn every_field_is_documented() {
        let page = include_str!("../../../docs/reference/log-fields.md");
        let some = Some("x");
        let full = AccessRecord {
            upstream: some,
            code: some,
            cors: some,
            dpop: some,
            aborted: some,
            trace: Some(TraceIds { trace_id: 1, span_id: 2 }),
            ..record()
        };
        let mut line = String::new();
        json(&mut line, &full);
        let parsed: serde_json::Map<String, serde_json::Value> = serde_json::from_str(&line).unwrap();
        for name in parsed.keys() {
            assert!(page.contains(&format!("| `{name}` |")), "docs/reference/log-fields.md lacks {name}");
        }
    }

    #[test]
    fn a_line_for_people_is_one_line_without_control_bytes() {
        let mut line = String::new();
        human(&mut line, &record());
        assert!(line.chars().all(|c| !c.is_control()), "{line}");
        assert!(line.contains("200 GET"), "{line}");
    }
}
