//! Protocol upgrades (RFC 9110 section 7.8), on a connection of their own.

use std::rc::Rc;

use http::StatusCode;

use crate::config::UpstreamProtocol;
use crate::http1::{BodyFraming, HeaderKind, ResponseHead};
use crate::net::{ReadBuffer, Socket};
use crate::request_body::RequestBody;
use crate::upstream::client::{OutgoingRequest, SendError, UpstreamResponse, next_server};
use crate::upstream::http1::{Rest, exchange_heads, lease, respond};
use crate::upstream::pool::{Lease, PoolPermit, ReusePolicy, UpstreamPool};
use crate::upstream::request_body_forwarder::BodyForwarder;

/// The response of an upstream to an upgrade request.
#[derive(Debug)]
pub(crate) enum UpgradeResponse {
    /// 101: from here on the connection carries the new protocol.
    Accepted(Box<Upgraded>),
    /// Any other response.
    Declined(Box<UpstreamResponse>),
}

/// An upgraded connection.
#[derive(Debug)]
pub(crate) struct Upgraded {
    pub(crate) socket: Rc<Socket>,
    /// What was received behind the head.
    pub(crate) input: ReadBuffer,
    /// The head of the 101.
    pub(crate) head: ResponseHead,
    /// Counts the request against its server for as long as it lasts.
    pub(crate) permit: PoolPermit,
}

/// Asks for `protocol`. The request is sent once, with its body, and nothing goes before the answer that the client sent behind it.
pub(crate) async fn upgrade(
    pool: &Rc<UpstreamPool>,
    request: &OutgoingRequest<'_>,
    protocol: &[u8],
    body: RequestBody,
) -> Result<UpgradeResponse, SendError> {
    if pool.settings().protocol == UpstreamProtocol::Http2 {
        return Err(SendError::BadResponse("upgrades need an upstream with protocol = \"http1\"".into()));
    }
    let (mut tried, mut failure) = (Vec::new(), SendError::NoServer);
    let mut lease = loop {
        let server = next_server(pool, request, &tried, &mut failure)?;
        match lease(pool, &server, ReusePolicy::New, request).await {
            Ok(lease) => break lease,
            Err(unreachable) if matches!(unreachable.error, SendError::Connect(_)) => {
                pool.failed(&server);
                tried.push(server);
                failure = unreachable.error;
            }
            Err(error) => return Err(error.error),
        }
    };
    let forwarder = (body.framing() != BodyFraming::Empty).then(|| Box::new(BodyForwarder::new(body)));
    let rest = match exchange_heads(&mut lease.connection, request, forwarder).await {
        Ok(rest) => rest,
        Err(error) => {
            if matches!(error, SendError::Broken(_)) {
                pool.failed(&lease.place.server);
            }
            return Err(error);
        }
    };
    lease.place.server.endpoint.record_success();
    let head = &lease.connection.head;
    if head.status() != StatusCode::SWITCHING_PROTOCOLS {
        // The connection was made for this request, and ends with it.
        let rest = if matches!(rest, Rest::Nothing) { Rest::Refused } else { rest };
        let declined = respond(pool, lease, request, rest).map_err(|failed| failed.error)?;
        return Ok(UpgradeResponse::Declined(Box::new(declined)));
    }
    if !matches!(rest, Rest::Nothing) {
        return Err(SendError::BadResponse("a 101 before the end of the request".into()));
    }
    let chosen = head.headers().only(HeaderKind::Upgrade);
    let is_handshake = chosen.is_some_and(|field| field.value.eq_ignore_ascii_case(protocol));
    if !is_handshake || !head.headers().has_connection_option(b"upgrade") {
        return Err(SendError::BadResponse("a 101 for another protocol than was asked for".into()));
    }
    let Lease { connection, place, .. } = lease;
    let connection = *connection;
    Ok(UpgradeResponse::Accepted(Box::new(Upgraded {
        socket: connection.socket,
        input: connection.input,
        head: connection.head,
        permit: place,
    })))
}
