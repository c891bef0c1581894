//! `/status`: a page for people, without scripts.

use std::time::Duration;

use minijinja::value::Serde;
use minijinja::{Environment, Value};
use serde::Serialize;

use super::status::Status;

const TEMPLATE: &str = include_str!("status.html");

/// What the template shows.
#[derive(Serialize)]
struct Page<'s> {
    s: &'s Status,
    refresh: Option<u64>,
}

/// The page. With `refresh` the browser loads it again after so many seconds.
///
/// # Errors
///
/// The template is broken, which a test excludes.
pub(super) fn render(status: &Status, refresh: Option<u64>) -> Result<String, minijinja::Error> {
    let mut environment = Environment::new();
    environment.add_filter("ago", move |at: u64, now: u64| age(now.saturating_sub(at)));
    environment.add_filter("time", |at: i64| time(at));
    environment.add_filter("total", total);
    environment.add_template("status.html", TEMPLATE)?;
    environment.get_template("status.html")?.render(Serde(Page { s: status, refresh }))
}

/// The sum of a map's values.
fn total(counts: &Value) -> u64 {
    let keys = counts.try_iter().into_iter().flatten();
    keys.filter_map(|key| u64::try_from(counts.get_item(&key).ok()?).ok()).sum()
}

/// `?refresh=SECONDS`, from two seconds to an hour.
pub(super) fn refresh(query: Option<&str>) -> Option<u64> {
    let given = form_urlencoded::parse(query?.as_bytes()).find(|(name, _)| name == "refresh");
    given?.1.parse().ok().filter(|seconds| (2..=3600).contains(seconds))
}

/// A time span with its two largest units.
pub(crate) fn age(seconds: u64) -> String {
    let units = [(86_400, "d"), (3_600, "h"), (60, "min"), (1, "s")];
    let first = units.iter().position(|(length, _)| seconds >= *length).unwrap_or(3);
    let mut rest = seconds;
    let parts = units[first..].iter().take(2).map(|(length, name)| {
        let count = rest / length;
        rest %= length;
        (count, name)
    });
    let parts: Vec<_> =
        parts.filter(|(count, _)| *count > 0).map(|(count, name)| format!("{count} {name}")).collect();
    if parts.is_empty() { "0 s".to_owned() } else { parts.join(" ") }
}

/// A time in UTC, to the minute.
pub(crate) fn time(at: i64) -> String {
    let at = std::time::UNIX_EPOCH + Duration::from_secs(u64::try_from(at).unwrap_or_default());
    let text = humantime::format_rfc3339_seconds(at).to_string();
    format!("{} UTC", text[..16].replace('T', " "))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::server::status::{
        CertificateStatus, FileStatus, KeyStatus, RouteStatus, ServerStatus, StoreStatus, UpstreamStatus,
    };

    fn status() -> Status {
        let file = FileStatus { loaded_at: Some(90), reloads: 1, failures: 0, error: None, count: None };
        Status {
            version: "0.1.0".into(),
            status: "degraded".into(),
            process: 7,
            workers: 2,
            started_at: 100,
            now: 100 + 86_400 + 7_200 + 5,
            connections: 3,
            configuration: FileStatus { error: Some("line 3: <nonsense>".into()), ..file.clone() },
            users: FileStatus { count: Some(4), ..file },
            store: StoreStatus {
                kind: "embedded".into(),
                error: None,
                sessions: Some(11),
                locked_names: Some(1),
                revoked_sessions: 2,
                revocations_age_seconds: 0,
            },
            logins: [("success".to_owned(), 5)].into(),
            refreshes: [("reused".to_owned(), 1)].into(),
            routes: vec![RouteStatus {
                path: "/<b>".into(),
                hosts: vec!["app.example".into()],
                access: Some("authenticated".into()),
                roles: vec!["admin".into()],
                target: Some("upstream app".into()),
                requests: [("2xx".to_owned(), 8), ("5xx".to_owned(), 1)].into(),
                average_milliseconds: Some(1.25),
            }],
            upstreams: vec![UpstreamStatus {
                name: "app".into(),
                servers: vec![ServerStatus { address: "127.0.0.1:9000".into(), state: "ejected".into() }],
                requests: [("ok".to_owned(), 8)].into(),
                average_milliseconds: None,
                retries: 2,
                ejections: 1,
            }],
            keys: vec![KeyStatus {
                id: "kid-1".into(),
                algorithm: "EdDSA".into(),
                state: "signing".into(),
                signs_since: Some(100),
                verifies_until: None,
                verified: 6,
            }],
            certificates: vec![CertificateStatus { file: "app.pem".into(), expires_at: 1_900_000_000 }],
        }
    }

    #[test]
    fn the_page_has_all_of_it_and_escapes_it() {
        let page = render(&status(), Some(5)).unwrap();
        for text in [
            "degraded",
            "0.1.0",
            "1 d 2 h",
            "&#x2f;&lt;b&gt;",
            "line 3: &lt;nonsense&gt;",
            "app.example",
            "127.0.0.1:9000",
            "ejected",
            "kid-1",
            "2030-03-17 17:46 UTC",
            "content=\"5\"",
        ] {
            assert!(page.contains(text), "{text} is not in\n{page}");
        }
        assert!(!page.contains("<script") && !page.contains("<b>"));
        assert!(!render(&status(), None).unwrap().contains("http-equiv=\"refresh\""));
    }

    #[test]
    fn ages_and_refresh_times_are_short() {
        for (seconds, text) in
            [(0, "0 s"), (59, "59 s"), (61, "1 min 1 s"), (3600, "1 h"), (90_061, "1 d 1 h"), (86_460, "1 d")]
        {
            assert_eq!(age(seconds), text);
        }
        for (query, seconds) in [
            (None, None),
            (Some("refresh=5"), Some(5)),
            (Some("a=1&refresh=10"), Some(10)),
            (Some("refresh=1"), None),
            (Some("refresh=x"), None),
        ] {
            assert_eq!(refresh(query), seconds, "{query:?}");
        }
    }
}
