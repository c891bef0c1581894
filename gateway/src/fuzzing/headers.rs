//! Property: whatever a client sends, its upstream gets a well-formed head without header injection.

use std::cell::RefCell;

use super::config::settings;
use crate::auth::bearer::signed_token;
use crate::clock::UnixSeconds;
use crate::http1::{HeadLimits, RequestHead};
use crate::server::HotPath;

const NOW: u64 = 1_800_000_000;

/// One gateway per thread, and a token that it accepts.
struct Bench {
    path: HotPath,
    token: String,
}

thread_local! {
    static BENCH: RefCell<Bench> = RefCell::new(bench());
}

fn bench() -> Bench {
    let settings = settings(
        "[tokens]\nalgorithm = \"HS256\"\nsecret = \"e312b136263476c1d96bb5260a79f0aa11e40b3af5d4f7c6\"\n\
         [identity_headers]\nemail = \"X-Mail\"\n\
         [[routes]]\npath = \"/\"\nupstream = \"app\"\naccess = \"optional\"\n",
    );
    let path = HotPath::new(settings, ([192, 0, 2, 1], 5).into(), UnixSeconds::new(NOW))
        .expect("the configuration is good");
    let token = path.access_token("alice").expect("the key signs");
    Bench { path, token }
}

/// An even first byte: the rest are fields of a request that has a valid token. An odd one: the rest is a
/// whole head.
pub fn headers(input: &[u8]) {
    let Some((&choice, rest)) = input.split_first() else { return };
    BENCH.with_borrow_mut(|bench| {
        let with_token = choice % 2 == 0;
        let head = if with_token {
            let start =
                format!("POST /a HTTP/1.1\r\nHost: gw.test\r\nAuthorization: Bearer {}\r\n", bench.token);
            [start.as_bytes(), rest, b"\r\n\r\n"].concat()
        } else {
            rest.to_vec()
        };
        let Ok(sent) = bench.path.upstream_head(&head) else { return };
        let sent =
            String::from_utf8(sent).unwrap_or_else(|e| e.into_bytes().iter().map(|&b| b as char).collect());
        check(&sent, with_token);
    });
}

/// Parses a head independently of the gateway's own parser.
fn check(sent: &str, with_token: bool) {
    let body = sent.strip_suffix("\r\n\r\n").expect("it ends with an empty line");
    assert!(!body.contains("\r\n\r\n") && !body.contains('\0'), "{sent:?}");
    let mut lines = body.split("\r\n");
    let request_line: Vec<&str> = lines.next().unwrap_or_default().split(' ').collect();
    assert!(matches!(request_line[..], [_, target, "HTTP/1.1"] if target.starts_with('/')), "{sent:?}");
    let fields: Vec<(String, &str)> = lines
        .map(|line| {
            assert!(!line.contains(['\r', '\n']) && !line.starts_with([' ', '\t']), "{sent:?}");
            let (name, value) =
                line.split_once(": ").unwrap_or_else(|| panic!("no field: {line:?} in {sent:?}"));
            let folded = name
                .bytes()
                .map(|b| if b.is_ascii_alphanumeric() { b.to_ascii_lowercase() as char } else { '-' });
            (folded.collect(), value)
        })
        .collect();
    let of = |wanted: &str| {
        fields.iter().filter(|(name, _)| name == wanted).map(|(_, value)| *value).collect::<Vec<_>>()
    };
    assert_eq!(of("host").len(), 1, "{sent:?}");
    assert!(of("content-length").len() + of("transfer-encoding").len() <= 1, "{sent:?}");
    for gone in [
        "connection",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "upgrade",
        "http2-settings",
        "authorization",
        "proxy-authorization",
        "proxy",
        "expect",
        "x-real-ip",
        "x-original-url",
        "x-http-method-override",
        "x-mail",
        "x-forwarded-port",
    ] {
        assert!(of(gone).is_empty(), "{gone} in {sent:?}");
    }
    for (name, value) in [("x-auth-user", "alice"), ("x-auth-subject", "1"), ("x-auth-roles", "user")] {
        let expected = if with_token { vec![value] } else { Vec::new() };
        assert_eq!(of(name), expected, "{name} in {sent:?}");
    }
    assert_eq!(of("x-forwarded-for"), ["192.0.2.1"], "{sent:?}");
    for once in ["x-forwarded-host", "x-forwarded-proto", "forwarded", "x-request-id"] {
        assert_eq!(of(once).len(), 1, "{once} in {sent:?}");
    }
}

/// The value of an `Authorization` field, or several.
pub fn bearer(input: &[u8]) {
    let text = [b"GET / HTTP/1.1\r\nHost: a\r\nAuthorization: ", input, b"\r\n\r\n"].concat();
    let mut head = RequestHead::default();
    let Ok(Some(length)) = head.parse(&text, &HeadLimits::default()) else { return };
    let Ok(Some(bearer)) = signed_token(&head, true) else { return };
    let Ok(token) = bearer.token() else { return };
    assert!(!token.is_empty() && !token.contains([' ', '\t', ',', '"', '\r', '\n']), "{token:?}");
    let head = &text[..length];
    let lines = head
        .split(|byte| *byte == b'\n')
        .filter(|line| line.to_ascii_lowercase().starts_with(b"authorization:"));
    assert_eq!(lines.count(), 1, "{:?}", String::from_utf8_lossy(head));
    let value = input.split(|byte| *byte == b'\r').next().unwrap_or_default().trim_ascii();
    assert!(value.len() > 7 && value[..7].eq_ignore_ascii_case(b"bearer "), "{value:?}");
    let behind = &value[7..];
    let spaces = behind.iter().take_while(|byte| **byte == b' ').count();
    assert_eq!(&behind[spaces..], token.as_bytes());
}
