//! Upgrades (RFC 9110 section 7.8), WebSockets (RFC 6455) above all: the handshake, which is a request like any other until the
//! upstream agrees.

use http::header::{CONNECTION, SEC_WEBSOCKET_PROTOCOL, UPGRADE};
use http::{HeaderName, HeaderValue, StatusCode};

use crate::admission::RequestView;
use crate::auth::bearer::Scheme;
use crate::auth::dpop;
use crate::auth::websocket::{
    BEARER_SUBPROTOCOL, DPOP_SUBPROTOCOL, Offer, WEBSOCKET, asked_for, check_websocket, is_offer,
};
use crate::browser::Browser;
use crate::client_addr::ClientAddr;
use crate::config::Dpop;
use crate::http1::{HeaderKind, ResponseHead};
use crate::rejection::Rejection;
use crate::request::Authorized;
use crate::response::{self, Response};
use crate::routing::Forwarding;
use crate::routing::cors::Cors;

/// A request to switch to another protocol.
#[derive(Debug)]
pub(crate) struct Handshake<'h> {
    /// Its name, as the configuration spells it.
    protocol: &'h str,
    /// The subprotocols, where a token may stand among them.
    offer: Option<Offer<'h>>,
}

/// The handshake that a request is, on a route that takes its protocol.
pub(crate) fn handshake<'h>(
    request: &'h Authorized,
    forwarding: &'h Forwarding,
) -> Result<Option<Handshake<'h>>, Rejection> {
    let view = request.view();
    let Some(protocol) = asked_for(view, &forwarding.upgrades) else { return Ok(None) };
    let is_websocket = protocol == WEBSOCKET;
    if is_websocket {
        check_websocket(view)?;
    }
    check_page(request, forwarding)?;
    let has_token = is_websocket && forwarding.token_in_subprotocol;
    let dpop = dpop::mode(request.route(), request.context()) != Dpop::Off;
    let offer = has_token.then(|| Offer::of(view, dpop)).transpose()?;
    Ok(Some(Handshake { protocol, offer }))
}

/// Refuses an upgrade that a page of a foreign origin requests. The page of a request that came with a session's cookie was checked
/// by authentication.
pub(crate) fn check_page(request: &Authorized, forwarding: &Forwarding) -> Result<(), Rejection> {
    let (view, context) = (request.view(), request.context());
    let cors = context.state.config.cors.of(Some(request.route().index));
    let is_checked = request.is_by_cookie() || asked_for(view, &forwarding.upgrades).is_none();
    match is_checked || is_allowed_origin(view, cors, &context.client) {
        true => Ok(()),
        false => Err(Rejection::UpgradeOrigin),
    }
}

/// Origin check against cross-site WebSocket hijacking: browsers open WebSockets for every page and send its
/// `Origin` (RFC 6455 section 10.2). Clients other than browsers send none.
fn is_allowed_origin(request: RequestView<'_>, cors: &Cors, client: &ClientAddr) -> bool {
    let mut origins = request.headers().of_kind(HeaderKind::Origin);
    let Some(origin) = origins.next() else { return true };
    let is_own = || client.origin(request.head(), request.host().as_str()).is(origin.value);
    origins.next().is_none() && (is_own() || cors.allows(origin.value))
}

impl Handshake<'_> {
    /// The protocol that it requests to switch to.
    pub(crate) fn protocol(&self) -> &[u8] {
        self.protocol.as_bytes()
    }

    /// Whether a field of the client's goes to the upstream in another form.
    pub(crate) fn rewrites(&self, name: &[u8]) -> bool {
        self.offer.is_some() && is_offer(name)
    }

    /// Appends the replacements of hop-by-hop and rewritten fields.
    pub(crate) fn push_lines(&self, head: &mut Vec<u8>) {
        head.extend_from_slice(b"Connection: Upgrade\r\nUpgrade: ");
        head.extend_from_slice(self.protocol());
        head.extend_from_slice(b"\r\n");
        if let Some(Offer { protocols, .. }) = &self.offer
            && !protocols.is_empty()
        {
            head.extend_from_slice(b"Sec-WebSocket-Protocol: ");
            head.extend_from_slice(&protocols.join(&b", "[..]));
            head.extend_from_slice(b"\r\n");
        }
    }
}

/// The response that makes the client's connection one of the other protocol.
pub(crate) fn upgrade_accepted(
    handshake: &Handshake<'_>,
    head: &ResponseHead,
    browser: Option<&Browser>,
) -> Response {
    let mut response = response::empty(StatusCode::SWITCHING_PROTOCOLS);
    let fields = response.headers_mut();
    fields.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    fields.insert(UPGRADE, response::header_value(handshake.protocol));
    let connection_options = head.headers().connection_options();
    for field in head.headers().iter() {
        let passes = match field.kind {
            HeaderKind::Other | HeaderKind::Via | HeaderKind::Vary | HeaderKind::ContentType => true,
            HeaderKind::SetCookie => !browser.is_some_and(|browser| browser.cookies.sets_own(field.value)),
            _ => false,
        };
        if passes
            && !connection_options.contains(field.name)
            && let (Ok(name), Ok(value)) =
                (HeaderName::from_bytes(field.name), HeaderValue::from_bytes(field.value))
        {
            fields.append(name, value);
        }
    }
    // Browsers close a WebSocket for which none of its subprotocols was selected.
    let token = handshake.offer.as_ref().and_then(|offer| offer.token);
    if let Some(token) = token.filter(|_| !head.headers().iter().any(|field| is_offer(field.name))) {
        let marker = if token.scheme() == Scheme::Bearer { BEARER_SUBPROTOCOL } else { DPOP_SUBPROTOCOL };
        fields.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(marker));
    }
    response
}
