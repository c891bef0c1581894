//! Upgrades (RFC 9110 section 7.8), WebSockets (RFC 6455) above all: the handshake, which is a request like any other until the
//! upstream agrees.

use http::header::{CONNECTION, SEC_WEBSOCKET_PROTOCOL, UPGRADE};
use http::{HeaderName, HeaderValue, Method, StatusCode};

use crate::auth::bearer::{Bearer, Scheme};
use crate::auth::dpop;
use crate::browser::Browser;
use crate::client_addr::ClientAddr;
use crate::config::Dpop;
use crate::http1::{BodyFraming, HeaderKind, ResponseHead, Version};
use crate::layers::cors::Cors;
use crate::layers::route::Forwarding;
use crate::rejection::Rejection;
use crate::request::{Authorized, RequestView};
use crate::response::{self, Response};

/// The name of WebSockets in `Upgrade`.
const WEBSOCKET: &str = "websocket";
/// The subprotocol that stands before a token. A browser's script can choose subprotocols, and no other field.
const BEARER_SUBPROTOCOL: &str = "bearer";
/// The subprotocol that stands before a token that is bound to a key, and its proof.
const DPOP_SUBPROTOCOL: &str = "dpop";

/// A request to switch to another protocol.
#[derive(Debug)]
pub(crate) struct Handshake<'h> {
    /// Its name, as the configuration spells it.
    protocol: &'h str,
    /// The subprotocols, where a token may stand among them.
    offer: Option<Offer<'h>>,
}

/// The subprotocols that a client offers (RFC 6455 section 11.3.4), and the token among them.
#[derive(Debug, Default)]
struct Offer<'h> {
    protocols: Vec<&'h [u8]>,
    token: Option<Bearer<'h>>,
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

/// The token that a handshake carries in its subprotocols; with `dpop`, it may be one that is bound to a key.
pub(crate) fn token<'h>(request: RequestView<'h>, dpop: bool) -> Result<Option<Bearer<'h>>, Rejection> {
    if asked_for(request, &[WEBSOCKET]).is_none() {
        return Ok(None);
    }
    check_websocket(request)?;
    Ok(Offer::of(request, dpop)?.token)
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
    fn of(request: RequestView<'h>, dpop: bool) -> Result<Offer<'h>, Rejection> {
        let fields = request.headers().iter().filter(|field| is_offer(field.name));
        let mut members = fields.flat_map(|field| field.members());
        let mut offer = Offer::default();
        while let Some(member) = members.next() {
            let mut next = || members.next().ok_or(Rejection::TokenSubprotocols);
            let token = if member == BEARER_SUBPROTOCOL.as_bytes() {
                Bearer::new(next()?)
            } else if dpop && member == DPOP_SUBPROTOCOL.as_bytes() {
                Bearer::with_proof(next()?, next()?)
            } else {
                offer.protocols.push(member);
                continue;
            };
            if offer.token.replace(token).is_some() {
                return Err(Rejection::TokenSubprotocols);
            }
        }
        Ok(offer)
    }
}

fn is_offer(name: &[u8]) -> bool {
    name.eq_ignore_ascii_case(b"sec-websocket-protocol")
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

/// The first protocol that an upgrade requests of those that are taken. Any other is ignored, as RFC 9110 section 7.8 lets a server
/// do.
fn asked_for<'t>(request: RequestView<'_>, taken: &'t [impl AsRef<str>]) -> Option<&'t str> {
    let (head, fields) = (request.head(), request.headers());
    if taken.is_empty() || head.version() != Version::Http11 || !fields.has_connection_option(b"upgrade") {
        return None;
    }
    let mut asked = fields.of_kind(HeaderKind::Upgrade).flat_map(|field| field.members());
    asked.find_map(|name| {
        taken.iter().map(AsRef::as_ref).find(|taken| name.eq_ignore_ascii_case(taken.as_bytes()))
    })
}

/// A handshake that upstreams could read in different ways is refused (RFC 6455 section 4.2.1).
fn check_websocket(request: RequestView<'_>) -> Result<(), Rejection> {
    let fields = request.headers();
    let one = |name: &[u8]| {
        let mut found = fields.iter().filter(|f| f.name.eq_ignore_ascii_case(name));
        found.next().filter(|_| found.next().is_none()).map(|f| f.value)
    };
    let is_plain =
        fields.only(HeaderKind::Upgrade).is_some_and(|f| f.value.eq_ignore_ascii_case(WEBSOCKET.as_bytes()));
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
        return Ok(());
    };
    Err(problem)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::test_support::AdmittedHead;

    const KEY: &str = "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n";
    const UPGRADE_FIELDS: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\n";
    const VERSION: &str = "Sec-WebSocket-Version: 13\r\n";

    fn is_handshake(request: RequestView<'_>) -> Result<bool, Rejection> {
        match asked_for(request, &[WEBSOCKET]) {
            Some(_) => check_websocket(request).map(|()| true),
            None => Ok(false),
        }
    }

    #[test]
    fn a_handshake_is_one_that_every_upstream_reads_alike() {
        let get = |fields: &str| AdmittedHead::new(&format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}"));
        for (request, result) in [
            (get(&format!("{UPGRADE_FIELDS}{KEY}{VERSION}")), Ok(true)),
            (
                get(&format!("Connection: keep-alive, UPGRADE\r\nUpgrade: WebSocket\r\n{KEY}{VERSION}")),
                Ok(true),
            ),
            (get(""), Ok(false)),
            // Without `Connection: upgrade` it is no upgrade, and another protocol's is ignored.
            (get(&format!("Upgrade: websocket\r\n{KEY}{VERSION}")), Ok(false)),
            (get("Connection: Upgrade\r\nUpgrade: h2c\r\n"), Ok(false)),
            (
                get(&format!("{UPGRADE_FIELDS}Upgrade: h2c\r\n{KEY}{VERSION}")),
                Err(Rejection::WebSocketNotAlone),
            ),
            (get(&format!("{UPGRADE_FIELDS}{VERSION}")), Err(Rejection::WebSocketKey)),
            (get(&format!("{UPGRADE_FIELDS}{KEY}{KEY}{VERSION}")), Err(Rejection::WebSocketKey)),
            (
                get(&format!("{UPGRADE_FIELDS}Sec-WebSocket-Key: short\r\n{VERSION}")),
                Err(Rejection::WebSocketKey),
            ),
            (get(&format!("{UPGRADE_FIELDS}{KEY}")), Err(Rejection::WebSocketVersion)),
            (
                get(&format!("{UPGRADE_FIELDS}{KEY}Sec-WebSocket-Version: 8\r\n")),
                Err(Rejection::WebSocketVersion),
            ),
            (
                get(&format!("{UPGRADE_FIELDS}{KEY}{VERSION}Content-Length: 1\r\n")),
                Err(Rejection::WebSocketNotGet),
            ),
            (
                AdmittedHead::new(&format!("POST / HTTP/1.1\r\nHost: a\r\n{UPGRADE_FIELDS}{KEY}{VERSION}")),
                Err(Rejection::WebSocketNotGet),
            ),
            (
                AdmittedHead::new(&format!("GET / HTTP/1.0\r\nHost: a\r\n{UPGRADE_FIELDS}{KEY}{VERSION}")),
                Ok(false),
            ),
        ] {
            assert_eq!(is_handshake(request.view()), result, "{:?}", request.view().head());
        }
    }

    #[test]
    fn a_token_among_the_subprotocols_follows_its_marker() {
        for (value, result) in [
            ("chat, bearer, abc", Ok((vec!["chat"], Some("abc")))),
            ("bearer, abc, chat", Ok((vec!["chat"], Some("abc")))),
            ("chat", Ok((vec!["chat"], None))),
            ("Bearer, abc", Ok((vec!["Bearer", "abc"], None))),
            ("chat, dpop, abc, proof", Ok((vec!["chat"], Some("abc")))),
            ("dpop, abc", Err(Rejection::TokenSubprotocols)),
            ("bearer, a, dpop, b, c", Err(Rejection::TokenSubprotocols)),
            ("bearer", Err(Rejection::TokenSubprotocols)),
            ("bearer, a, bearer, b", Err(Rejection::TokenSubprotocols)),
        ] {
            let request = AdmittedHead::new(&format!(
                "GET / HTTP/1.1\r\nHost: a\r\nSec-WebSocket-Protocol: {value}\r\n"
            ));
            let offer = Offer::of(request.view(), true).map(|offer| {
                let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                (
                    offer.protocols.into_iter().map(text).collect::<Vec<_>>(),
                    offer.token.map(|token| text(token.as_bytes())),
                )
            });
            let result = result.map(|(protocols, token): (Vec<&str>, Option<&str>)| {
                (protocols.into_iter().map(str::to_owned).collect(), token.map(str::to_owned))
            });
            assert_eq!(offer, result, "{value}");
        }
    }
}
