//! Admission: validates framing, target and host, so that all parsers downstream agree on the request
//! (request smuggling), for HTTP/1.1 and HTTP/2.

use http::Method;

use crate::http1::{
    BodyFraming, CanonicalTarget, HeaderKind, Headers, Host, HostSpan, RequestHead, TargetSpan, Version,
    request_framing,
};
use crate::rejection::Rejection;

/// The methods of a route without its own list.
pub(crate) const USUAL_METHODS: [Method; 7] =
    [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::OPTIONS];

/// The result of validating a head: its host and its target as text, how they are split, and how its body is framed.
#[derive(Debug)]
pub(crate) struct Admission {
    /// The host and, behind it, the target in origin form: one allocation, and text that is validated once.
    text: Box<str>,
    host_len: usize,
    host: HostSpan,
    target: TargetSpan,
    pub(crate) framing: BodyFraming,
    /// Whether the client waits for `100 Continue` before it sends the body (RFC 9110 section 10.1.1).
    pub(crate) expects_continue: bool,
}

impl Admission {
    fn new(
        host: &Host<'_>,
        target: CanonicalTarget<'_>,
        framing: BodyFraming,
        expects_continue: bool,
    ) -> Admission {
        let host_len = host.as_str().len();
        let mut text = String::with_capacity(host_len + target.as_str().len());
        text.push_str(host.as_str());
        text.push_str(target.as_str());
        let (host, target) = (host.span(), target.span());
        Admission { text: text.into(), host_len, host, target, framing, expects_continue }
    }

    fn host(&self) -> Host<'_> {
        Host::of_admitted(&self.text[..self.host_len], self.host)
    }

    fn target(&self) -> CanonicalTarget<'_> {
        self.target.of(&self.text[self.host_len..])
    }

    fn decoded_path(&self) -> &str {
        self.target.decoded_path(&self.text[self.host_len..])
    }
}

/// A head with its validation result: the input of layers and pure functions.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RequestView<'r> {
    head: &'r RequestHead,
    admission: &'r Admission,
}

impl<'r> RequestView<'r> {
    /// `admission` must be the result of [`admit`] for this `head`.
    pub(crate) fn new(head: &'r RequestHead, admission: &'r Admission) -> RequestView<'r> {
        RequestView { head, admission }
    }

    pub(crate) fn head(&self) -> &'r RequestHead {
        self.head
    }

    pub(crate) fn headers(&self) -> &'r Headers {
        self.head.headers()
    }

    pub(crate) fn method(&self) -> &'r Method {
        self.head.method()
    }

    pub(crate) fn version(&self) -> Version {
        self.head.version()
    }

    pub(crate) fn target(&self) -> CanonicalTarget<'r> {
        self.admission.target()
    }

    /// The path with its percent-encoding decoded once, for matching.
    pub(crate) fn decoded_path(&self) -> &'r str {
        self.admission.decoded_path()
    }

    pub(crate) fn host(&self) -> Host<'r> {
        self.admission.host()
    }

    pub(crate) fn framing(&self) -> BodyFraming {
        self.admission.framing
    }
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

/// Requests from text, for tests of pure functions.
#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(crate) mod test_support {
    use super::{Admission, RequestView, admit};
    use crate::http1::{HeadLimits, RequestHead};

    /// The head of this text, which has no empty line at its end.
    pub(crate) fn head(text: &str) -> RequestHead {
        let mut head = RequestHead::default();
        head.parse(format!("{text}\r\n").as_bytes(), &HeadLimits::default()).unwrap().unwrap();
        head
    }

    /// A head that was admitted.
    pub(crate) struct AdmittedHead(RequestHead, Admission);

    impl AdmittedHead {
        pub(crate) fn new(text: &str) -> AdmittedHead {
            let head = head(text);
            let admission = admit(&head).unwrap_or_else(|rejection| panic!("{rejection:?}: {text}"));
            AdmittedHead(head, admission)
        }

        pub(crate) fn view(&self) -> RequestView<'_> {
            RequestView::new(&self.0, &self.1)
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::test_support::head;
    use super::*;
    use crate::http1::{BodyFraming, FramingError, HostError, TargetError};

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
