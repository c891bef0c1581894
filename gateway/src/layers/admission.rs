//! The first step: is this a request that everyone downstream will read the same way?

use http::{Method, StatusCode};

use crate::http1::{
    BodyFraming, CanonicalTarget, FieldKind, FramingError, Host, HostError, RequestHead, TargetError,
    Version, request_framing,
};
use crate::rejection::{Code, Rejection};

/// The methods a route accepts unless it lists its own.
pub(crate) const USUAL_METHODS: [Method; 7] =
    [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::OPTIONS];

/// A request on whose meaning every parser agrees. Only [`admit`] makes one.
#[derive(Debug)]
pub(crate) struct Admitted<'h> {
    head: &'h RequestHead,
    target: CanonicalTarget<'h>,
    host: Host<'h>,
    framing: BodyFraming,
    awaits_continue: bool,
}

impl<'h> Admitted<'h> {
    pub(crate) fn head(&self) -> &'h RequestHead {
        self.head
    }

    pub(crate) fn method(&self) -> &'h Method {
        self.head.method()
    }

    pub(crate) fn target(&self) -> &CanonicalTarget<'h> {
        &self.target
    }

    pub(crate) fn host(&self) -> Host<'h> {
        self.host
    }

    pub(crate) fn framing(&self) -> BodyFraming {
        self.framing
    }

    /// Whether the client waits for `100 Continue` before it sends the body.
    pub(crate) fn awaits_continue(&self) -> bool {
        self.awaits_continue
    }
}

/// Judges a head. What is refused here is refused for good: the connection ends, for what follows on it may be
/// anything.
pub(crate) fn admit(head: &RequestHead) -> Result<Admitted<'_>, Rejection> {
    let framing = request_framing(head).map_err(bad_framing)?;
    let method = head.method();
    // Neither is ever forwarded: CONNECT opens tunnels, TRACE echoes credentials.
    if matches!(*method, Method::CONNECT | Method::TRACE) {
        let usual = USUAL_METHODS.map(|m| m.to_string()).join(", ");
        return Err(Rejection::new(Code::MethodNotAllowed, "this method is never forwarded")
            .allow(usual)
            .close());
    }
    let target = CanonicalTarget::parse(method, head.target()).map_err(bad_target)?;
    let host = Host::of(head, target.authority()).map_err(bad_host)?;
    let awaits_continue = awaits_continue(head)?;
    Ok(Admitted { head, target, host, framing, awaits_continue })
}

/// RFC 9110 section 10.1.1: an HTTP/1.0 client's expectation is ignored, one that is not known is refused.
fn awaits_continue(head: &RequestHead) -> Result<bool, Rejection> {
    if head.version() == Version::Http10 {
        return Ok(false);
    }
    let mut awaits = false;
    for field in head.fields().of_kind(FieldKind::Expect) {
        if !field.value.eq_ignore_ascii_case(b"100-continue") {
            return Err(Rejection::new(Code::BadRequest, "the only expectation known here is 100-continue")
                .with_status(StatusCode::EXPECTATION_FAILED)
                .close());
        }
        awaits = true;
    }
    Ok(awaits)
}

fn bad_framing(error: FramingError) -> Rejection {
    let code = match error {
        FramingError::UnknownCoding => Code::UnsupportedTransferCoding,
        _ => Code::BadRequest,
    };
    Rejection::new(code, error.to_string()).close()
}

fn bad_target(error: TargetError) -> Rejection {
    let code = match error {
        TargetError::Malformed => Code::BadRequest,
        TargetError::Ambiguous(_) => Code::AmbiguousTarget,
    };
    Rejection::new(code, error.to_string()).close()
}

fn bad_host(error: HostError) -> Rejection {
    let code = match error {
        HostError::Disagrees => Code::AmbiguousTarget,
        _ => Code::BadRequest,
    };
    Rejection::new(code, error.to_string()).close()
}
