//! What logs have of a request: its line and host, without secrets.

use std::borrow::Cow;

use crate::http1::{HeaderKind, RequestHead};

/// Method and path of a request; `-` where its first line could not be read.
pub(crate) fn logged_request_line(head: &RequestHead) -> (&str, Cow<'_, str>) {
    match head.has_request_line() {
        true => (head.method().as_str(), logged_path(head.target())),
        false => ("-", "-".into()),
    }
}

/// The path of a target without its query, which may contain secrets; in absolute form without the authority.
fn logged_path(target: &[u8]) -> Cow<'_, str> {
    let path = target.split(|&b| b == b'?').next().unwrap_or(target);
    let authority = path.windows(3).position(|w| w == b"://").filter(|_| !path.starts_with(b"/"));
    let path = match authority {
        Some(at) => {
            path[at + 3..].iter().position(|&b| b == b'/').map_or(&b"/"[..], |slash| &path[at + 3 + slash..])
        }
        None => path,
    };
    let path = String::from_utf8_lossy(path);
    let has_parameters = memchr::memchr2_iter(b';', b'%', path.as_bytes()).any(|at| {
        let escape = path.as_bytes().get(at..at + 3);
        path.as_bytes()[at] == b';' || escape.is_some_and(|escape| escape.eq_ignore_ascii_case(b"%3b"))
    });
    if has_parameters { without_parameters(&path).into() } else { path }
}

/// The path with the values of its path parameters (`/x;name=value`) masked, for tokens and session ids are among them.
fn without_parameters(path: &str) -> String {
    let masked = path.split('/').map(|segment| {
        let encoded = segment.to_ascii_lowercase().find("%3b");
        let Some(start) = segment.find(';').into_iter().chain(encoded).min() else {
            return segment.to_owned();
        };
        let (name, parameters) = segment.split_at(start);
        let parameters =
            parameters.replace("%3b", ";").replace("%3B", ";").replace("%3d", "=").replace("%3D", "=");
        let masked = parameters.split(';').map(|parameter| match parameter.split_once('=') {
            Some((name, _)) => format!("{name}=***"),
            // A token may stand there by itself.
            None if parameter.len() > MAX_PARAMETER_NAME => "***".to_owned(),
            None => parameter.to_owned(),
        });
        name.to_owned() + &masked.collect::<Vec<_>>().join(";")
    });
    masked.collect::<Vec<_>>().join("/")
}

/// What is longer is no name of a parameter, in bytes.
const MAX_PARAMETER_NAME: usize = 32;

/// The host of a request; `-` where it has none, or several.
pub(crate) fn logged_host(head: &RequestHead) -> &str {
    let field = head.headers().only(HeaderKind::Host);
    field
        .and_then(|field| std::str::from_utf8(field.value).ok())
        .filter(|host| !host.is_empty())
        .unwrap_or("-")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::test_support::head;

    #[test]
    fn a_logged_path_has_no_query_and_no_authority() {
        for (target, path) in [
            ("/", "/"),
            ("/a/b?token=secret", "/a/b"),
            ("/a?u=http://b/c", "/a"),
            ("http://a.example/x?y", "/x"),
            ("http://a.example", "/"),
            ("/redirect/http://b/c", "/redirect/http://b/c"),
            ("*", "*"),
        ] {
            assert_eq!(logged_path(target.as_bytes()), path, "{target}");
        }
    }

    #[test]
    fn a_logged_host_is_the_only_one_or_a_dash() {
        for (fields, host) in [
            ("Host: a.example:80\r\n", "a.example:80"),
            ("", "-"),
            ("Host: \r\n", "-"),
            ("Host: a\r\nHost: b\r\n", "-"),
            ("Host: \u{e9}\r\n", "\u{e9}"),
        ] {
            assert_eq!(logged_host(&head(&format!("GET / HTTP/1.1\r\n{fields}"))), host, "{fields:?}");
        }
    }
}
