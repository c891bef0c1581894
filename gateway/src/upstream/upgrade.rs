//! A request that wants to leave HTTP (RFC 9110 section 7.8): on a connection of its own, which is nobody else's before or
//! after.

use std::rc::Rc;

use http::StatusCode;

use crate::config::UpstreamProtocol;
use crate::http1::{FieldKind, ResponseHead};
use crate::net::{ReadBuffer, Socket};
use crate::upstream::client::{
    OutgoingRequest, Rest, SendError, UpstreamResponse, connect, respond, try_once,
};
use crate::upstream::pool::{Lease, Need, Place, UpstreamPool};

/// What an upstream says to it.
#[derive(Debug)]
pub(crate) enum UpgradeAnswer<'c> {
    /// 101: from here on the connection carries whatever the new protocol is.
    Accepted(Box<Upgraded>),
    /// Any other answer, which is one of HTTP.
    Declined(Box<UpstreamResponse<'c>>),
}

/// A connection that has left HTTP.
#[derive(Debug)]
pub(crate) struct Upgraded {
    pub(crate) socket: Socket,
    /// What came right behind the head.
    pub(crate) input: ReadBuffer,
    /// The head of the 101.
    pub(crate) head: ResponseHead,
    /// It counts as a request of its server as long as it lasts.
    _place: Place,
}

/// Asks for `protocol`. The request is sent once, and nothing goes before the answer that the client sent behind it.
pub(crate) async fn upgrade<'c>(
    pool: &Rc<UpstreamPool>,
    request: &OutgoingRequest<'_>,
    protocol: &[u8],
) -> Result<UpgradeAnswer<'c>, SendError> {
    if pool.settings().protocol == UpstreamProtocol::Http2 {
        return Err(SendError::BadResponse("WebSockets need an upstream with protocol = \"http1\""));
    }
    let mut lease = connect(pool, Need::New, request, &mut Vec::new(), SendError::NoServer).await?;
    try_once(pool, &mut lease, request, None).await?;
    let head = &lease.connection.head;
    if head.status() != StatusCode::SWITCHING_PROTOCOLS {
        return respond(pool, lease, request, Rest::Refused).map(Box::new).map(UpgradeAnswer::Declined);
    }
    let chosen = head.fields().only(FieldKind::Upgrade);
    let is_asked_for = chosen.is_some_and(|field| field.value.eq_ignore_ascii_case(protocol));
    if !is_asked_for || !head.fields().connection_has(b"upgrade") {
        return Err(SendError::BadResponse("a 101 for another protocol than was asked for"));
    }
    let Lease { connection, place, .. } = lease;
    let connection = *connection;
    Ok(UpgradeAnswer::Accepted(Box::new(Upgraded {
        socket: connection.socket,
        input: connection.input,
        head: connection.head,
        _place: place,
    })))
}
