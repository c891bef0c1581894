//! Admission: is this a request that everyone downstream will read the same way? Framing, target and host, for HTTP/1.1 and HTTP/2.

use http::Method;

use crate::http1::{CanonicalTarget, HeaderKind, Host, RequestHead, Version, request_framing};
use crate::rejection::Rejection;
use crate::request::{Admission, Admitted, Received};

/// The methods a route accepts unless it lists its own.
pub(crate) const USUAL_METHODS: [Method; 7] =
    [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::OPTIONS];

/// The step: [`Received`] to [`Admitted`].
pub(crate) fn admit_request(received: Received) -> Result<Admitted, Rejection> {
    let Received { context, mut body, refused } = received;
    if let Some(rejection) = refused {
        return Err(rejection);
    }
    let admission = admit(&context.head)?;
    if admission.expects_continue {
        body.set_expects_continue();
    }
    Ok(Admitted::new(context, admission, body))
}

/// Judges a head. What is refused here is refused for good: the connection ends, for what follows on it may be
/// anything.
///
/// # Errors
///
/// The framing is ambiguous, the method is never forwarded, or the target or the host can be read in more than one way.
pub(crate) fn admit(head: &RequestHead) -> Result<Admission, Rejection> {
    let framing = request_framing(head).map_err(Rejection::BadFraming)?;
    let method = head.method();
    // Neither is ever forwarded: CONNECT opens tunnels, TRACE echoes credentials (RFC 9110 sections 9.3.6 and 9.3.8).
    if matches!(*method, Method::CONNECT | Method::TRACE) {
        let usual = USUAL_METHODS.map(|m| m.to_string()).join(", ");
        return Err(Rejection::MethodNeverForwarded(usual));
    }
    let target = CanonicalTarget::parse(method, head.target()).map_err(Rejection::BadTarget)?;
    let host = Host::of(head, target.authority()).map_err(Rejection::BadHost)?;
    let expects_continue = expects_continue(head)?;
    Ok(Admission::new(&host, target, framing, expects_continue))
}

/// RFC 9110 section 10.1.1: an HTTP/1.0 client's expectation is ignored, one that is not known is refused.
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
