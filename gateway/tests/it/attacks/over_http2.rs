//! The same attacks over HTTP/2, as far as they can be translated, and some that are specific to HTTP/2.

use std::collections::BTreeMap;

use super::case::Case;
use super::check::{Outcome, failures};
use super::run::{Bench, Report, adapted, cases};
use crate::fixture::http2_raw::{Answered, http2_exchange};
use crate::fixture::{Transcript, get};

/// Name and value.
type Line = (Vec<u8>, Vec<u8>);

/// A request in the terms of HTTP/2.
struct Http2Request {
    fields: Vec<Line>,
    body: Option<Vec<u8>>,
    /// Whether it has what no request of HTTP/2 may have, so that the stream must be reset (RFC 9113 section 8.1.1).
    malformed: bool,
}

/// Fields that belong to a connection of HTTP/1.1 (section 8.2.2).
const CONNECTION_SPECIFIC: [&[u8]; 5] =
    [b"connection", b"proxy-connection", b"keep-alive", b"transfer-encoding", b"upgrade"];

/// What HTTP/2 has no words for.
fn translate(bytes: &[u8]) -> Result<Http2Request, &'static str> {
    let end = bytes.windows(4).position(|w| w == b"\r\n\r\n").ok_or("a head without an end")?;
    let (head, rest) = (&bytes[..end], &bytes[end + 4..]);
    let mut lines = split(head, b"\r\n").into_iter();
    let request_line = lines.next().unwrap_or_default();
    let parts: Vec<&[u8]> = request_line.split(|byte| *byte == b' ').collect();
    let [method, target, b"HTTP/1.1"] = parts[..] else { return Err("another request line") };
    let (mut authority, mut fields, mut length, mut malformed) = (None, Vec::new(), None, false);
    for line in lines {
        if line.starts_with(b" ") || line.starts_with(b"\t") {
            return Err("folded lines");
        }
        let colon = line.iter().position(|byte| *byte == b':').ok_or("a line without a colon")?;
        let (name, value) = (line[..colon].to_ascii_lowercase(), line[colon + 1..].trim_ascii().to_vec());
        match &name[..] {
            b"host" if authority.is_none() => {
                authority = Some(value);
                continue;
            }
            // Beside :authority one Host is allowed, if it says the same (section 8.3.1).
            b"host" if authority.as_ref() == Some(&value) => return Err("a second Host that says the same"),
            // Every case says that it is the last of its connection, which means nothing here.
            b"connection" if value == b"close" || value == b"keep-alive" => continue,
            b"content-length" => length = Some(value.clone()),
            _ => {}
        }
        let is_token = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
        malformed |= CONNECTION_SPECIFIC.contains(&&name[..])
            || (name == b"te" && value != b"trailers")
            || name.is_empty()
            || !name.iter().all(is_token)
            || value.iter().any(|byte| b"\r\n\0".contains(byte));
        fields.push((name, value));
    }
    if length.is_none() && !rest.is_empty() && !malformed {
        return Err("what follows a body that is not framed");
    }
    let declared = length.map(|length| String::from_utf8_lossy(&length).parse::<usize>());
    if let Some(declared) = &declared {
        malformed |= declared.as_ref().map_or(true, |length| *length != rest.len());
    }
    let mut all = vec![(b":method".to_vec(), method.to_vec())];
    if method != b"CONNECT" {
        all.push((b":scheme".to_vec(), b"http".to_vec()));
        all.push((b":path".to_vec(), target.to_vec()));
    }
    all.extend(authority.map(|authority| (b":authority".to_vec(), authority)));
    all.extend(fields);
    let body = declared.is_some().then(|| rest.to_vec());
    Ok(Http2Request { fields: all, body, malformed })
}

fn split<'b>(bytes: &'b [u8], separator: &[u8]) -> Vec<&'b [u8]> {
    let (mut parts, mut rest) = (Vec::new(), bytes);
    while let Some(at) = rest.windows(separator.len()).position(|w| w == separator) {
        parts.push(&rest[..at]);
        rest = &rest[at + separator.len()..];
    }
    parts.push(rest);
    parts
}

fn send(bench: &Bench, translated: &Http2Request) -> Answered {
    let fields: Vec<(&[u8], &[u8])> =
        translated.fields.iter().map(|(name, value)| (&name[..], &value[..])).collect();
    http2_exchange(bench.gateway.address, &fields, translated.body.as_deref())
}

/// What is asserted of a connection of HTTP/1.1, not of a request.
const OF_CONNECTIONS: [&str; 4] = ["closed", "responses", "max_responses", "no_interim"];

fn replay(bench: &mut Bench, case: &Case, translated: &Http2Request) -> Vec<String> {
    bench.upstream.clear();
    let answered = send(bench, translated);
    let upstream = bench.upstream.requests();
    let log = bench.gateway.log();
    let mut asserts = adapted(case);
    OF_CONNECTIONS.iter().for_each(|name| drop(asserts.remove(*name)));
    let mut wrong = match answered {
        // A malformed request is reset, and no upstream receives it.
        Answered::Refused => {
            let refused = |status: &serde_json::Value| status.as_u64().is_some_and(|status| status >= 400);
            let may_be = translated.malformed
                || asserts
                    .get("status")
                    .and_then(|s| s.as_array())
                    .is_some_and(|all| all.iter().any(refused));
            let mut wrong = Vec::new();
            if !upstream.is_empty() || !may_be {
                wrong.push(format!("reset, and the upstream received {} requests", upstream.len()));
            }
            wrong
        }
        Answered::Reply(reply) if translated.malformed && reply.status < 400 => {
            vec![format!("a malformed request was answered with {}", reply.status)]
        }
        Answered::Reply(reply) => {
            let transcript = Transcript { replies: vec![reply], closed: true, ..Transcript::default() };
            let canary_touched = bench.canary.was_touched();
            if translated.malformed {
                asserts.retain(|name, _| name == "upstream");
            }
            failures(
                &asserts,
                &Outcome { transcript: &transcript, upstream: &upstream, canary_touched, log: &log },
            )
        }
    };
    wrong.extend(bench.broken_invariants(&[], &log));
    wrong
}

#[test]
fn raw_attacks_are_refused_over_http2_as_well() {
    let mut bench = Bench::start_with("EdDSA", "h2c = true");
    let mut report = Report::default();
    let mut tried: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    for case in cases().iter().filter(|case| case.kind == "raw") {
        let bytes = bench.values.expand_bytes(case.template());
        let counts = tried.entry(case.category.as_str()).or_default();
        match translate(&bytes) {
            Err(reason) => {
                counts.1 += 1;
                report.left_out.push(format!("{}: HTTP/2 has no words for {reason}", case.id));
            }
            Ok(translated) => {
                counts.0 += 1;
                let wrong = replay(&mut bench, case, &translated);
                report.add(case, wrong);
            }
        }
    }
    for (category, (translated, not)) in tried {
        println!("{category}: {translated} tried over HTTP/2, {not} cannot be translated in it");
    }
    report.close("raw over HTTP/2", &bench);
}

#[test]
fn what_only_http2_can_get_wrong_is_refused() {
    let bench = Bench::start_with("EdDSA", "h2c = true");
    let bearer = format!("Bearer {}", bench.access);
    let good: [(&str, &str); 5] = [
        (":method", "GET"),
        (":scheme", "http"),
        (":path", "/api/echo"),
        (":authority", "gw.test"),
        ("authorization", &bearer),
    ];
    type Fields = Vec<(String, String)>;
    let with = |change: &dyn Fn(&mut Fields)| {
        let mut fields: Vec<_> =
            good.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        change(&mut fields);
        fields
    };
    let set = |name: &'static str, value: &'static str| {
        with(&|fields| {
            fields.iter_mut().filter(|field| field.0 == name).for_each(|field| field.1 = value.into())
        })
    };
    let add =
        |name: &'static str, value: &'static str| with(&|fields| fields.push((name.into(), value.into())));
    let without = |name: &'static str| with(&|fields| fields.retain(|field| field.0 != name));
    let large = "x".repeat(40_000);
    for (what, fields, body) in [
        ("an upper-case name", add("X-Auth-User", "root"), None),
        ("a Host that disagrees", add("host", "evil.test"), None),
        ("two Hosts", with(&|f| f.extend([0; 2].map(|_| ("host".into(), "gw.test".into())))), None),
        ("a path without a slash", set(":path", "api/echo"), None),
        ("an empty path", set(":path", ""), None),
        ("a path with a space", set(":path", "/api/echo HTTP/1.1"), None),
        ("a path with a line break", set(":path", "/api/echo\r\nx: y"), None),
        ("a method with a line break", set(":method", "GET\r\n"), None),
        ("an authority with userinfo", set(":authority", "a@gw.test"), None),
        ("no authority at all", without(":authority"), None),
        ("no path", without(":path"), None),
        ("no method", without(":method"), None),
        ("two paths", with(&|f| f.insert(2, (":path".into(), "/public".into()))), None),
        ("a pseudo field behind a field", add(":path", "/public"), None),
        ("an unknown pseudo field", with(&|f| f.insert(0, (":x".into(), "y".into()))), None),
        ("a pseudo field of answers", with(&|f| f.insert(0, (":status".into(), "200".into()))), None),
        ("connection", add("connection", "x-auth-user"), None),
        ("transfer-encoding", add("transfer-encoding", "chunked"), None),
        ("te", add("te", "gzip"), None),
        ("a line break in a value", add("x-a", "b\r\nx-auth-user: root"), None),
        ("a NUL in a value", add("x-a", "b\0"), None),
        ("more body than was said", add("content-length", "3"), Some(&b"hello"[..])),
        ("less body than was said", add("content-length", "30"), Some(b"hello")),
        ("a length and no body", add("content-length", "5"), None),
        (
            "two lengths",
            with(&|f| f.extend(["5", "6"].map(|n| ("content-length".into(), n.into())))),
            Some(b"hello"),
        ),
        ("two tokens", with(&|f| f.push(("authorization".into(), "Bearer x".into()))), None),
        ("a head that is too large", with(&|f| f.push(("x-large".into(), large.clone()))), None),
        (
            "CONNECT",
            with(&|f| {
                f[0].1 = "CONNECT".into();
                f.retain(|f| f.0 != ":path" && f.0 != ":scheme");
            }),
            None,
        ),
        (
            "CONNECT for a protocol",
            with(&|f| {
                f[0].1 = "CONNECT".into();
                f.insert(1, (":protocol".into(), "websocket".into()));
            }),
            None,
        ),
    ] {
        bench.upstream.clear();
        let fields: Vec<(&[u8], &[u8])> = fields.iter().map(|(n, v)| (n.as_bytes(), v.as_bytes())).collect();
        match http2_exchange(bench.gateway.address, &fields, body) {
            Answered::Refused => {}
            Answered::Reply(reply) => assert!(reply.status >= 400, "{what}: {reply:?}"),
        }
        let received: Vec<_> = bench.upstream.requests().iter().map(|r| r.target.clone()).collect();
        assert!(received.is_empty(), "{what}: the upstream received {received:?}");
        let control = get(bench.gateway.address, "/api/echo", &[("Authorization", &bearer)]);
        assert_eq!(control.unwrap().status, 200, "{what}: the control request");
    }
    let fields: Vec<(&[u8], &[u8])> = good.iter().map(|(n, v)| (n.as_bytes(), v.as_bytes())).collect();
    let reply = http2_exchange(bench.gateway.address, &fields, None);
    assert!(matches!(&reply, Answered::Reply(reply) if reply.status == 200), "{reply:?}");
}
