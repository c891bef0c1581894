//! WebSockets (RFC 6455): the handshake, which is a request like any other until the upstream agrees.

use http::{Method, StatusCode};

use super::admission::Admitted;
use super::lifetime::Lifetime;
use super::response::Response;
use crate::problem::{Code, Rejection};
use crate::upstreams::Upgraded;
use crate::wire::{BodyFraming, FieldKind, Version};

/// Its name in `Upgrade`.
pub(crate) const PROTOCOL: &[u8] = b"websocket";

/// What a connection becomes when the upstream has agreed.
#[derive(Debug)]
pub(crate) struct Tunnel {
    pub(crate) upstream: Upgraded,
    /// What ends it before its end, where a token has opened it.
    pub(crate) lifetime: Option<Lifetime>,
}

/// Whether a request asks for a WebSocket, on a route that has them. A handshake that upstreams could read in different ways is
/// refused (RFC 6455 section 4.2.1); any other upgrade is ignored, as RFC 9110 section 7.8 lets a server do.
pub(crate) fn is_asked_for(request: &Admitted<'_>) -> Result<bool, Rejection> {
    let head = request.head();
    let fields = head.fields();
    let asks =
        fields.of_kind(FieldKind::Upgrade).any(|f| f.members().any(|m| m.eq_ignore_ascii_case(PROTOCOL)));
    if !asks || !fields.connection_has(b"upgrade") || head.version() != Version::Http11 {
        return Ok(false);
    }
    let one = |name: &[u8]| {
        let mut found = fields.iter().filter(|f| f.name.eq_ignore_ascii_case(name));
        found.next().filter(|_| found.next().is_none()).map(|f| f.value)
    };
    let is_plain = fields.only(FieldKind::Upgrade).is_some_and(|f| f.value.eq_ignore_ascii_case(PROTOCOL));
    // 16 bytes in base64.
    let has_key = one(b"sec-websocket-key").is_some_and(|key| key.len() == 24 && key.ends_with(b"=="));
    let problem = if *request.method() != Method::GET || request.framing() != BodyFraming::Empty {
        "a WebSocket begins with a GET without a body"
    } else if !is_plain {
        "a request for a WebSocket asks for nothing else"
    } else if !has_key {
        "a request for a WebSocket has one Sec-WebSocket-Key of 16 bytes in base64"
    } else if one(b"sec-websocket-version") != Some(b"13") {
        "only version 13 of WebSocket is spoken here"
    } else {
        return Ok(true);
    };
    Err(Rejection::new(Code::BadRequest, problem))
}

/// The answer that makes the client's connection a WebSocket.
pub(crate) fn opened<'c>(upstream: Upgraded, lifetime: Option<Lifetime>) -> Response<'c> {
    let mut response = Response::new(StatusCode::SWITCHING_PROTOCOLS)
        .field("Connection", "Upgrade")
        .field("Upgrade", "websocket");
    for field in upstream.head.fields().iter() {
        let passes = matches!(field.kind, FieldKind::Other | FieldKind::Via | FieldKind::Vary);
        if passes && !upstream.head.fields().connection_has(field.name) {
            response.fields.push(field.name, field.value);
        }
    }
    response.tunnel = Some(Box::new(Tunnel { upstream, lifetime }));
    response
}
