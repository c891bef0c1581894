//! A request head that came over HTTP/2, put into the form in which every head is judged (RFC 9113 section 8.3).

use http::Method;
use http::header::{COOKIE, HOST};
use http::request::Parts;

use crate::http1::{HeadError, HeadLimits, Host, RequestHead};

impl RequestHead {
    /// Takes over a head that was decoded from HTTP/2. It is written down as the HTTP/1.1 head that says the same and
    /// parsed as one: so all that holds of those holds of these, and there is no second opinion on anything.
    ///
    /// `body_follows` tells that the stream goes on after the head.
    pub(crate) fn read_http2(
        &mut self,
        parts: &Parts,
        body_follows: bool,
        limits: &HeadLimits,
    ) -> Result<(), HeadError> {
        let mut text = Vec::with_capacity(512);
        let mut put = |bytes: &[u8]| text.extend_from_slice(bytes);
        put(parts.method.as_str().as_bytes());
        put(b" ");
        match (parts.uri.path_and_query(), parts.uri.authority()) {
            (None, Some(authority)) if parts.method == Method::CONNECT => put(authority.as_str().as_bytes()),
            (path, _) => put(path.map_or("/", |path| path.as_str()).as_bytes()),
        }
        put(b" HTTP/1.1\r\n");
        // `:authority` is what HTTP/2 has for Host; some clients send both, and then they must agree.
        let authority = parts.uri.authority().map(|authority| authority.as_str().as_bytes());
        if let Some(authority) = authority {
            [b"Host: ", authority, b"\r\n"].into_iter().for_each(&mut put);
        }
        let (mut hosts, mut crumbs) = (0, 0);
        for (name, value) in &parts.headers {
            match authority {
                Some(authority) if *name == HOST => {
                    hosts += 1;
                    if hosts > 1 || !same_host(authority, value.as_bytes()) {
                        return Err(HeadError::AuthorityDisagrees);
                    }
                    continue;
                }
                _ if *name == COOKIE => {
                    crumbs += 1;
                    continue;
                }
                _ => {}
            }
            [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].into_iter().for_each(&mut put);
        }
        if crumbs > 0 {
            // A cookie may come in pieces so that it compresses better; no upstream expects that (section 8.2.3).
            put(b"Cookie: ");
            for (place, crumb) in parts.headers.get_all(COOKIE).iter().enumerate() {
                put(if place > 0 { b"; " } else { b"" });
                put(crumb.as_bytes());
            }
            put(b"\r\n");
        }
        put(b"\r\n");
        self.parse(&text, limits)?.ok_or(HeadError::BadRequestLine)?;
        self.is_from_http2(body_follows);
        Ok(())
    }
}

fn same_host(authority: &[u8], host: &[u8]) -> bool {
    match (Host::parse(authority), Host::parse(host)) {
        (Ok(authority), Ok(host)) => authority.same_as(&host),
        _ => false,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::http1::{BodyFraming, FieldKind, Version, request_framing};

    fn read(request: http::request::Builder, body_follows: bool) -> Result<RequestHead, HeadError> {
        let mut head = RequestHead::default();
        head.read_http2(&request.body(()).unwrap().into_parts().0, body_follows, &HeadLimits::default())
            .map(|()| head)
    }

    fn get(uri: &str) -> http::request::Builder {
        http::Request::builder().uri(uri)
    }

    #[test]
    fn pseudo_fields_become_request_line_and_host() {
        let head = read(get("https://app.test/a?b=c").header("accept", "x"), false).unwrap();
        assert_eq!((head.method(), head.target()), (&Method::GET, &b"/a?b=c"[..]));
        assert_eq!(head.version(), Version::Http2);
        let fields: Vec<_> = head.fields().iter().map(|f| (f.name, f.value)).collect();
        assert_eq!(fields, [(&b"Host"[..], &b"app.test"[..]), (b"accept", b"x")]);
    }

    #[test]
    fn a_host_beside_the_authority_must_say_the_same() {
        let head = read(get("https://app.test/").header("host", "APP.test"), false).unwrap();
        assert_eq!(head.fields().of_kind(FieldKind::Host).count(), 1);
        for host in ["evil.test", "", "app.test:1", "app.test, evil.test"] {
            let refused = read(get("https://app.test/").header("host", host), false).unwrap_err();
            assert_eq!(refused, HeadError::AuthorityDisagrees, "{host:?}");
        }
        let twice = get("https://app.test/").header("host", "app.test").header("host", "app.test");
        assert_eq!(read(twice, false).unwrap_err(), HeadError::AuthorityDisagrees);
    }

    #[test]
    fn cookie_crumbs_are_one_cookie_again() {
        let crumbs = get("https://a/").header("cookie", "a=1").header("accept", "x").header("cookie", "b=2");
        let head = read(crumbs, false).unwrap();
        let cookies: Vec<_> = head.fields().iter().filter(|f| f.name == b"Cookie").map(|f| f.value).collect();
        assert_eq!(cookies, [b"a=1; b=2"]);
    }

    #[test]
    fn a_body_without_a_length_ends_with_its_stream() {
        let framing = |request, follows| request_framing(&read(request, follows).unwrap()).unwrap();
        assert_eq!(framing(get("https://a/"), false), BodyFraming::Empty);
        assert_eq!(framing(get("https://a/"), true), BodyFraming::Chunked);
        assert_eq!(framing(get("https://a/").header("content-length", "5"), true), BodyFraming::Length(5));
    }

    #[test]
    fn limits_hold_as_for_other_heads() {
        let many = (0..101).fold(get("https://a/"), |request, n| request.header(format!("x-{n}"), "v"));
        assert!(matches!(read(many, false).unwrap_err(), HeadError::TooManyFields(100)));
        let long = get(&format!("https://a/{}", "a".repeat(9000)));
        assert_eq!(read(long, false).unwrap_err(), HeadError::LineTooLong(8192));
    }
}
