//! WebSocket handshakes (RFC 6455), and the token that one carries among its subprotocols.

use http::Method;

use crate::admission::RequestView;
use crate::auth::bearer::Bearer;
use crate::http1::{BodyFraming, HeaderKind, Version};
use crate::rejection::Rejection;

/// The name of WebSockets in `Upgrade`.
pub(crate) const WEBSOCKET: &str = "websocket";
/// The subprotocol that stands before a token. A browser's script can choose subprotocols, and no other field.
pub(crate) const BEARER_SUBPROTOCOL: &str = "bearer";
/// The subprotocol that stands before a token that is bound to a key, and its proof.
pub(crate) const DPOP_SUBPROTOCOL: &str = "dpop";

/// The subprotocols that a client offers (RFC 6455 section 11.3.4), and the token among them.
#[derive(Debug, Default)]
pub(crate) struct Offer<'h> {
    pub(crate) protocols: Vec<&'h [u8]>,
    pub(crate) token: Option<Bearer<'h>>,
}

/// The token that a handshake carries in its subprotocols; with `dpop`, it may be one that is bound to a key.
pub(crate) fn token<'h>(request: RequestView<'h>, dpop: bool) -> Result<Option<Bearer<'h>>, Rejection> {
    if asked_for(request, &[WEBSOCKET]).is_none() {
        return Ok(None);
    }
    check_websocket(request)?;
    Ok(Offer::of(request, dpop)?.token)
}

impl<'h> Offer<'h> {
    pub(crate) fn of(request: RequestView<'h>, dpop: bool) -> Result<Offer<'h>, Rejection> {
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

/// Whether a field has subprotocols.
pub(crate) fn is_offer(name: &[u8]) -> bool {
    name.eq_ignore_ascii_case(b"sec-websocket-protocol")
}

/// The first protocol that an upgrade requests of those that are taken. Any other is ignored, as RFC 9110 section 7.8 lets a server
/// do.
pub(crate) fn asked_for<'t>(request: RequestView<'_>, taken: &'t [impl AsRef<str>]) -> Option<&'t str> {
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
pub(crate) fn check_websocket(request: RequestView<'_>) -> Result<(), Rejection> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::test_support::AdmittedHead;

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
