//! Assertions of an attack case.

use serde_json::{Map, Value};

use crate::fixture::{Recorded, Transcript};

/// What there is to look at after a case.
pub(super) struct Outcome<'o> {
    pub(super) transcript: &'o Transcript,
    pub(super) upstream: &'o [Recorded],
    pub(super) canary_touched: bool,
    pub(super) log: &'o str,
}

/// The times in the cases are those of a quiet machine; ours is not one.
const SLOWER: u64 = 50;

/// Everything that is not as asserted.
pub(super) fn failures(asserts: &Map<String, Value>, outcome: &Outcome<'_>) -> Vec<String> {
    asserts.iter().filter_map(|(name, expected)| failure(name, expected, outcome)).collect()
}

fn failure(name: &str, expected: &Value, outcome: &Outcome<'_>) -> Option<String> {
    let Outcome { transcript, upstream, .. } = outcome;
    let statuses: Vec<u64> = transcript.replies.iter().map(|r| u64::from(r.status)).collect();
    let first = transcript.replies.first();
    let heads = || upstream.iter().map(|r| latin1(&r.raw).to_lowercase());
    let texts = || strings(expected).into_iter().map(|text| text.to_lowercase());
    let (holds, got) = match name {
        "status" => {
            let status = statuses.first().copied().unwrap_or(0);
            (numbers(expected).contains(&status), format!("status {status}"))
        }
        "responses" => (numbers(expected) == statuses, format!("statuses {statuses:?}")),
        "max_responses" => (statuses.len() as u64 <= expected.as_u64()?, format!("statuses {statuses:?}")),
        "upstream" => (in_range(upstream.len(), expected), format!("{} upstream requests", upstream.len())),
        "upstream_has" => {
            let missing: Vec<_> = texts().filter(|text| !heads().any(|head| head.contains(text))).collect();
            (missing.is_empty() || upstream.is_empty(), format!("upstream lacks {missing:?}"))
        }
        "upstream_lacks" => {
            let there: Vec<_> = texts().filter(|text| heads().any(|head| head.contains(text))).collect();
            (there.is_empty(), format!("upstream has {there:?}"))
        }
        "upstream_count" => {
            let wrong = expected.as_object()?.iter().find(|(field, count)| {
                upstream.iter().any(|request| request.values(field).len() as u64 != count.as_u64().unwrap())
            });
            (wrong.is_none(), format!("upstream count of {wrong:?}"))
        }
        "upstream_never_path" => {
            let path = |r: &Recorded| r.target.split('?').next().unwrap_or_default().to_owned();
            let reached = upstream.iter().any(|r| Some(path(r).as_str()) == expected.as_str());
            (!reached, "the path was reached".into())
        }
        "upstream_crlf_only" => {
            let bare = heads().any(|head| head.replace("\r\n", "").contains(['\r', '\n']));
            (!bare, "a bare CR or LF at the upstream".into())
        }
        "resp_header" => {
            let wrong = expected.as_object()?.iter().find(|(field, value)| {
                first.and_then(|r| r.field(field)).is_none_or(|got| Some(got) != value.as_str())
            });
            (wrong.is_none(), format!("response field {wrong:?}"))
        }
        "resp_header_lacks" => {
            let wrong = expected.as_object()?.iter().find(|(field, value)| {
                let value = value.as_str().unwrap_or_default();
                first.is_some_and(|r| {
                    r.fields.iter().any(|(n, v)| n.eq_ignore_ascii_case(field) && v.contains(value))
                })
            });
            (wrong.is_none(), format!("response field {wrong:?}"))
        }
        "resp_header_absent" => {
            let there = |field: &&str| {
                first.is_some_and(|r| r.fields.iter().any(|(n, _)| n.eq_ignore_ascii_case(field)))
            };
            let there: Vec<_> = strings(expected).into_iter().filter(|f| there(&f.as_str())).collect();
            (there.is_empty(), format!("response has {there:?}"))
        }
        "body_lacks" => {
            let body = first.map(|r| r.text().to_lowercase()).unwrap_or_default();
            let there: Vec<_> = texts().filter(|text| body.contains(text)).collect();
            (there.is_empty(), format!("body has {there:?}"))
        }
        "log_lacks" => {
            let there: Vec<_> =
                strings(expected).into_iter().filter(|text| outcome.log.contains(text)).collect();
            (there.is_empty(), format!("log has {there:?}"))
        }
        "close" => (!expected.as_bool()? || transcript.closed, "the connection stays open".into()),
        "no_interim_100" => (!transcript.interim.contains(&100), "an interim 100".into()),
        "max_ms" => {
            let limit = expected.as_u64()? * SLOWER;
            let took = transcript.took.as_millis() as u64;
            (took <= limit, format!("{took} ms"))
        }
        "canary" => (!outcome.canary_touched, "the canary was touched".into()),
        other => panic!("the case asserts {other:?}, which is not supported here"),
    };
    (!holds).then_some(format!("{name}: expected {expected}, got {got}"))
}

fn numbers(value: &Value) -> Vec<u64> {
    value.as_array().map(|all| all.iter().filter_map(Value::as_u64).collect()).unwrap_or_default()
}

fn strings(value: &Value) -> Vec<String> {
    match value {
        Value::String(one) => vec![one.clone()],
        Value::Array(several) => several.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        _ => Vec::new(),
    }
}

/// `2`, or `"0..1"`.
fn in_range(count: usize, expected: &Value) -> bool {
    let count = count as u64;
    match expected {
        Value::String(range) => {
            let (low, high) = range.split_once("..").unwrap();
            (low.parse().unwrap()..=high.parse().unwrap()).contains(&count)
        }
        exact => exact.as_u64() == Some(count),
    }
}

/// One byte is one character, as in the cases.
pub(super) fn latin1(bytes: &[u8]) -> String {
    bytes.iter().map(|&b| b as char).collect()
}
