//! Admission: validates framing, target and host, so that all parsers downstream agree on the request
//! (request smuggling), for HTTP/1.1 and HTTP/2.

use http::Method;

use crate::http1::{CanonicalTarget, HeaderKind, Host, RequestHead, Version, request_framing};
use crate::rejection::Rejection;
use crate::request::{Admission, Admitted, Received};

/// The methods of a route without its own list.
pub(crate) const USUAL_METHODS: [Method; 7] =
    [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::OPTIONS];

/// The step from [`Received`] to [`Admitted`].
pub(crate) fn admit_request(received: Received) -> Result<Admitted, Rejection> {
    let Received { context, mut body, refused } = received;
    if let Some(rejection) = refused {
        return Err(*rejection);
    }
    let admission = admit(&context.head)?;
    if admission.expects_continue {
        body.set_expects_continue();
    }
    Ok(Admitted::new(context, admission, body))
}

/// Validates a head. After a rejection the connection is closed, for what follows may be anything.
///
/// # Errors
///
/// The framing is ambiguous, the method is never forwarded, or the target or the host can be interpreted in
/// more than one way.
pub(crate) fn admit(head: &RequestHead) -> Result<Admission, Rejection> {
    let framing = request_framing(head).map_err(Rejection::BadFraming)?;
    let method = head.method();
    // Neither is ever forwarded: CONNECT opens tunnels, TRACE echoes credentials (RFC 9110 sections 9.3.6 and
    // 9.3.8).
    if matches!(*method, Method::CONNECT | Method::TRACE) {
        let usual = USUAL_METHODS.map(|m| m.to_string()).join(", ");
        return Err(Rejection::MethodNeverForwarded(usual));
    }
    let target = CanonicalTarget::parse(method, head.target()).map_err(Rejection::BadTarget)?;
    let host = Host::of(head, target.authority()).map_err(Rejection::BadHost)?;
    let expects_continue = expects_continue(head)?;
    Ok(Admission::new(&host, target, framing, expects_continue))
}

/// RFC 9110 section 10.1.1: an HTTP/1.0 client's expectation is ignored, an unknown one is rejected.
fn expects_continue(head: &RequestHead) -> Result<bool, Rejection> {
    if head.version() == Version::Http10 {
        return Ok(false);
    }
    let mut expects = false;
    for field in head.headers().of_kind(HeaderKind::Expect) {
        if !field.value.eq_ignore_ascii_case(b"100-continue") {
            return Err(Rejection::UnknownExpectation);
        }
        expects = true;
    }
    Ok(expects)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::http1::{BodyFraming, FramingError, HostError, TargetError};
    use crate::request::test_support::head;

    #[test]
    fn an_admitted_head_says_how_its_body_ends_and_whether_its_client_waits() {
        for (text, framing, expects_continue) in [
            ("GET / HTTP/1.1\r\nHost: a\r\n", BodyFraming::Empty, false),
            ("OPTIONS * HTTP/1.1\r\nHost: a\r\n", BodyFraming::Empty, false),
            ("GET http://a/x HTTP/1.1\r\nHost: a\r\n", BodyFraming::Empty, false),
            ("GET / HTTP/1.0\r\n", BodyFraming::Empty, false),
            ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n", BodyFraming::Empty, false),
            ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 7\r\n", BodyFraming::Length(7), false),
            ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n", BodyFraming::Chunked, false),
            (
                "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 7\r\nExpect: 100-Continue\r\n",
                BodyFraming::Length(7),
                true,
            ),
            (
                "PUT / HTTP/1.0\r\nHost: a\r\nContent-Length: 7\r\nExpect: else\r\n",
                BodyFraming::Length(7),
                false,
            ),
        ] {
            let admission = admit(&head(text)).unwrap();
            assert_eq!(
                (admission.framing, admission.expects_continue),
                (framing, expects_continue),
                "{text}"
            );
        }
    }

    #[test]
    fn what_two_parsers_could_read_differently_is_refused_with_its_reason() {
        let both = "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n";
        let usual = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS".to_owned();
        for (text, rejection) in [
            (
                format!("POST / HTTP/1.1\r\nHost: a\r\n{both}"),
                Rejection::BadFraming(FramingError::BothFramings),
            ),
            ("TRACE / HTTP/1.1\r\nHost: a\r\n".into(), Rejection::MethodNeverForwarded(usual.clone())),
            ("CONNECT a:443 HTTP/1.1\r\nHost: a\r\n".into(), Rejection::MethodNeverForwarded(usual)),
            ("GET x HTTP/1.1\r\nHost: a\r\n".into(), Rejection::BadTarget(TargetError::Malformed)),
            ("GET / HTTP/1.1\r\n".into(), Rejection::BadHost(HostError::NotOne)),
            ("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n".into(), Rejection::BadHost(HostError::NotOne)),
            ("GET / HTTP/1.1\r\nHost: a b\r\n".into(), Rejection::BadHost(HostError::Malformed)),
            ("GET http://b/ HTTP/1.1\r\nHost: a\r\n".into(), Rejection::BadHost(HostError::Disagrees)),
            ("GET / HTTP/1.1\r\nHost: a\r\nExpect: tea\r\n".into(), Rejection::UnknownExpectation),
        ] {
            assert_eq!(admit(&head(&text)).unwrap_err(), rejection, "{text}");
        }
        for target in ["/a/../b", "/a/./b", "/a\\b", "/a#b"] {
            let rejection = admit(&head(&format!("GET {target} HTTP/1.1\r\nHost: a\r\n"))).unwrap_err();
            assert!(
                matches!(rejection, Rejection::BadTarget(TargetError::Ambiguous(_))),
                "{target}: {rejection:?}"
            );
        }
    }
}
