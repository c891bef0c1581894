//! One line for each request, formatted by hand: it is written for every request, so it must cost next to nothing.

use std::cell::RefCell;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use super::json_text::push_escaped;
use super::writer::LogWriter;

/// What a line says. Never a query, a token or a password.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AccessRecord<'a> {
    pub(crate) request_id: &'a str,
    pub(crate) client: IpAddr,
    pub(crate) method: &'a str,
    pub(crate) path: &'a str,
    pub(crate) host: &'a str,
    pub(crate) protocol: &'a str,
    pub(crate) status: u16,
    /// Bytes of the body.
    pub(crate) bytes_sent: u64,
    pub(crate) duration: Duration,
    pub(crate) route: Option<&'a str>,
    pub(crate) upstream: Option<&'a str>,
    pub(crate) user: Option<&'a str>,
    pub(crate) code: Option<&'a str>,
}

/// Writes access lines.
#[derive(Debug, Clone)]
pub(crate) struct AccessLog {
    writer: LogWriter,
    json: bool,
}

impl AccessLog {
    /// Lines for programs (`json`) or for people.
    pub(crate) fn new(writer: LogWriter, json: bool) -> AccessLog {
        AccessLog { writer, json }
    }

    pub(crate) fn write(&self, record: &AccessRecord<'_>) {
        let mut line = String::with_capacity(384);
        if self.json {
            json(&mut line, record)
        } else {
            human(&mut line, record)
        }
        line.push('\n');
        self.writer.line(line.into_bytes());
    }
}

fn json(line: &mut String, record: &AccessRecord<'_>) {
    line.push_str("{\"ts\":\"");
    push_time(line);
    // Writing to a String does not fail, here and below.
    let _ = write!(line, "\",\"kind\":\"access\",\"request_id\":\"");
    push_escaped(line, record.request_id);
    let _ = write!(line, "\",\"client\":\"{}\",\"method\":\"", record.client);
    push_escaped(line, record.method);
    line.push_str("\",\"path\":\"");
    push_escaped(line, record.path);
    line.push_str("\",\"host\":\"");
    push_escaped(line, record.host);
    let micros = record.duration.as_micros();
    let _ = write!(
        line,
        "\",\"protocol\":\"{}\",\"status\":{},\"bytes\":{},\"duration_ms\":{}.{:03}",
        record.protocol,
        record.status,
        record.bytes_sent,
        micros / 1000,
        micros % 1000
    );
    let further = [
        ("route", record.route),
        ("upstream", record.upstream),
        ("user", record.user),
        ("code", record.code),
    ];
    for (name, value) in further {
        if let Some(value) = value {
            let _ = write!(line, ",\"{name}\":\"");
            push_escaped(line, value);
            line.push('"');
        }
    }
    line.push('}');
}

fn human(line: &mut String, record: &AccessRecord<'_>) {
    push_time(line);
    let _ = write!(line, "  {} {:<7} ", record.status, record.method);
    push_escaped(line, record.path);
    let _ = write!(line, "  {:.1} ms", record.duration.as_secs_f64() * 1000.0);
    if let Some(code) = record.code {
        let _ = write!(line, "  {code}");
    }
    if let Some(user) = record.user {
        line.push_str("  user=");
        push_escaped(line, user);
    }
    let _ = write!(line, "  client={} id={}", record.client, record.request_id);
}

/// Appends now as RFC 3339 with milliseconds. The part down to the second is kept for the second.
fn push_time(line: &mut String) {
    thread_local! {
        static SECOND: RefCell<(u64, String)> = const { RefCell::new((0, String::new())) };
    }
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    SECOND.with_borrow_mut(|(second, text)| {
        if *second != since.as_secs() || text.is_empty() {
            *second = since.as_secs();
            let whole = SystemTime::UNIX_EPOCH + Duration::from_secs(*second);
            *text = humantime::format_rfc3339_seconds(whole).to_string();
            text.pop();
        }
        let _ = write!(line, "{text}.{:03}Z", since.subsec_millis());
    });
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn record<'a>() -> AccessRecord<'a> {
        AccessRecord {
            request_id: "0123",
            client: "192.0.2.1".parse().unwrap(),
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
        }
    }

    #[test]
    fn a_json_line_is_json_whatever_was_in_the_request() {
        let mut line = String::new();
        json(&mut line, &record());
        let parsed: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(parsed["path"], "/a\"\r\n{");
        assert_eq!(parsed["duration_ms"], 1.234);
        assert_eq!(parsed["user"], "alice\u{1b}[31m");
        assert!(parsed.get("upstream").is_none());
        assert!(line.bytes().all(|b| b >= b' '), "{line}");
    }

    #[test]
    fn a_line_for_people_is_one_line_without_control_bytes() {
        let mut line = String::new();
        human(&mut line, &record());
        assert!(line.chars().all(|c| !c.is_control()), "{line}");
        assert!(line.contains("200 GET"), "{line}");
    }
}
