//! WebSocket handshakes (RFC 6455): origin check, token in subprotocols, and the upgrade response.

use http::header::{CONNECTION, SEC_WEBSOCKET_PROTOCOL, UPGRADE};
use http::{HeaderName, HeaderValue, Method, StatusCode};

use crate::auth::bearer::Bearer;
use crate::client_addr::ClientAddr;
use crate::http1::{BodyFraming, HeaderKind, ResponseHead, Version};
use crate::layers::access_log::ResponseLog;
use crate::layers::cors::Cors;
use crate::layers::route::Forwarding;
use crate::rejection::Rejection;
use crate::request::RequestView;
use crate::response::{self, Response};
use crate::upstream::Upgraded;

/// The protocol name in `Upgrade`.
pub(crate) const PROTOCOL: &[u8] = b"websocket";
/// The subprotocol that precedes a token. Scripts in browsers can set subprotocols, and no other field.
const BEARER_SUBPROTOCOL: &str = "bearer";

/// A WebSocket handshake.
#[derive(Debug)]
pub(crate) struct Handshake<'h> {
    /// The offered subprotocols, where they may contain a token.
    offer: Option<Offer<'h>>,
}

/// The subprotocols that a client offers (RFC 6455 section 11.3.4), and the token among them.
#[derive(Debug, Default)]
struct Offer<'h> {
    protocols: Vec<&'h [u8]>,
    token: Option<&'h [u8]>,
}

/// The tunnel that a connection becomes once the upstream has accepted the upgrade.
#[derive(Debug)]
pub(crate) struct Tunnel {
    pub(crate) upstream: Upgraded,
    /// The access log entry that is written when it ends; set by the access log's layer.
    pub(crate) log: Option<ResponseLog>,
}

/// The handshake of a request, on a route with WebSockets.
pub(crate) fn handshake<'h>(
    request: RequestView<'h>,
    forwarding: &Forwarding,
    cors: &Cors,
    client: &ClientAddr,
) -> Result<Option<Handshake<'h>>, Rejection> {
    if !forwarding.websocket || !is_handshake(request)? {
        return Ok(None);
    }
    if !is_allowed_origin(request, cors, client) {
        return Err(Rejection::WebSocketOrigin);
    }
    let offer = forwarding.token_in_subprotocol.then(|| Offer::of(request)).transpose()?;
    Ok(Some(Handshake { offer }))
}

/// The token that a handshake carries in its subprotocols.
pub(crate) fn token<'h>(request: RequestView<'h>) -> Result<Option<Bearer<'h>>, Rejection> {
    if !is_handshake(request)? {
        return Ok(None);
    }
    Ok(Offer::of(request)?.token.map(Bearer::new))
}

/// Origin check against cross-site WebSocket hijacking: browsers open WebSockets for every page and send its
/// `Origin` (RFC 6455 section 10.2). Clients other than browsers send none.
fn is_allowed_origin(request: RequestView<'_>, cors: &Cors, client: &ClientAddr) -> bool {
    let mut origins = request.headers().of_kind(HeaderKind::Origin);
    let Some(origin) = origins.next() else { return true };
    let is_own = || client.origin(request.head(), request.host().as_str()).is(origin.value);
    origins.next().is_none() && (is_own() || cors.allows(origin.value))
}

impl<'h> Offer<'h> {
    fn of(request: RequestView<'h>) -> Result<Offer<'h>, Rejection> {
        let fields = request.headers().iter().filter(|field| is_offer(field.name));
        let mut members = fields.flat_map(|field| field.members());
        let mut offer = Offer::default();
        while let Some(member) = members.next() {
            if member == BEARER_SUBPROTOCOL.as_bytes() {
                let token = members.next().ok_or(Rejection::TokenSubprotocols)?;
                if offer.token.replace(token).is_some() {
                    return Err(Rejection::TokenSubprotocols);
                }
            } else {
                offer.protocols.push(member);
            }
        }
        Ok(offer)
    }
}

fn is_offer(name: &[u8]) -> bool {
    name.eq_ignore_ascii_case(b"sec-websocket-protocol")
}

impl Handshake<'_> {
    /// Whether a field of the client is replaced.
    pub(crate) fn rewrites(&self, name: &[u8]) -> bool {
        self.offer.is_some() && is_offer(name)
    }

    /// Appends the replacements of hop-by-hop and rewritten fields.
    pub(crate) fn push_lines(&self, head: &mut Vec<u8>) {
        head.extend_from_slice(b"Connection: Upgrade\r\nUpgrade: websocket\r\n");
        if let Some(Offer { protocols, .. }) = &self.offer
            && !protocols.is_empty()
        {
            head.extend_from_slice(b"Sec-WebSocket-Protocol: ");
            head.extend_from_slice(&protocols.join(&b", "[..]));
            head.extend_from_slice(b"\r\n");
        }
    }
}

/// Whether a request is a WebSocket handshake. One that upstreams could interpret differently is rejected
/// (RFC 6455 section 4.2.1); any other upgrade is ignored, as RFC 9110 section 7.8 allows.
fn is_handshake(request: RequestView<'_>) -> Result<bool, Rejection> {
    let head = request.head();
    let fields = head.headers();
    let asks =
        fields.of_kind(HeaderKind::Upgrade).any(|f| f.members().any(|m| m.eq_ignore_ascii_case(PROTOCOL)));
    if !asks || !fields.has_connection_option(b"upgrade") || head.version() != Version::Http11 {
        return Ok(false);
    }
    let one = |name: &[u8]| {
        let mut found = fields.iter().filter(|f| f.name.eq_ignore_ascii_case(name));
        found.next().filter(|_| found.next().is_none()).map(|f| f.value)
    };
    let is_plain = fields.only(HeaderKind::Upgrade).is_some_and(|f| f.value.eq_ignore_ascii_case(PROTOCOL));
    // 16 bytes in base64.
    let has_key = one(b"sec-websocket-key").is_some_and(|key| key.len() == 24 && key.ends_with(b"=="));
    let problem = if *request.method() != Method::GET || request.framing() != BodyFraming::Empty {
        Rejection::WebSocketNotGet
    } else if !is_plain {
        Rejection::WebSocketNotAlone
    } else if !has_key {
        Rejection::WebSocketKey
    } else if one(b"sec-websocket-version") != Some(b"13") {
        Rejection::WebSocketVersion
    } else {
        return Ok(true);
    };
    Err(problem)
}

/// The 101 response to the client.
pub(crate) fn upgrade_accepted(handshake: &Handshake<'_>, head: &ResponseHead) -> Response {
    let mut response = response::empty(StatusCode::SWITCHING_PROTOCOLS);
    let fields = response.headers_mut();
    fields.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    fields.insert(UPGRADE, HeaderValue::from_static("websocket"));
    let connection_options = head.headers().connection_options();
    for field in head.headers().iter() {
        let passes = matches!(field.kind, HeaderKind::Other | HeaderKind::Via | HeaderKind::Vary);
        if passes
            && !connection_options.contains(field.name)
            && let (Ok(name), Ok(value)) =
                (HeaderName::from_bytes(field.name), HeaderValue::from_bytes(field.value))
        {
            fields.append(name, value);
        }
    }
    // Browsers close a WebSocket for which none of its subprotocols was selected.
    let brought_token = handshake.offer.as_ref().is_some_and(|offer| offer.token.is_some());
    if brought_token && !head.headers().iter().any(|field| is_offer(field.name)) {
        fields.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(BEARER_SUBPROTOCOL));
    }
    response
}
