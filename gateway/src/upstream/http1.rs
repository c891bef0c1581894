//! An HTTP/1.1 exchange with an upstream server over a pooled connection.
//!
//! The gateway's own client: hyper's costs a fifth more CPU time per request (see CONTRIBUTING, "Decisions
//! that are not obvious").

use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::StatusCode;

use super::body::UpstreamBody;
use super::client::{AttemptError, OutgoingRequest, Processed, SendError, UpstreamResponse};
use super::connection::UpstreamConnection;
use super::http1_body::Http1Body;
use super::pool::{Lease, LeaseError, ReusePolicy, Server, UpstreamPool};
use super::request_body_forwarder::{BodyForwarder, ForwardError, Forwarding};
use crate::config::Timeouts;
use crate::http1::{BodyFraming, BodyReader, response_framing};
use crate::proxy::upstream_request::UpstreamRequest;
use crate::request_body::RequestBody;

/// Size of a read of a response head and, mostly, its whole body, in bytes.
const READ_SIZE: usize = 8 * 1024;
/// Maximum number of interim (1xx) responses.
const MAX_INTERIM_RESPONSES: usize = 20;

/// One attempt on a connection to `server`; the body is taken once there is a connection.
pub(super) async fn attempt(
    pool: &Rc<UpstreamPool>,
    server: &Rc<Server>,
    policy: ReusePolicy,
    request: &OutgoingRequest<'_>,
    body: &mut Option<RequestBody>,
) -> Result<UpstreamResponse, AttemptError> {
    let mut lease = lease(pool, server, policy, request).await?;
    let body = body.take().filter(|body| body.framing() != BodyFraming::Empty);
    let forwarder = body.map(|body| Box::new(BodyForwarder::new(body)));
    let rest = exchange_heads(&mut lease.connection, request, forwarder).await.map_err(|error| {
        let connection_lost = matches!(error, SendError::Broken(_));
        AttemptError { error, processed: Processed::Maybe, reused: lease.reused, connection_lost }
    })?;
    respond(pool, lease, request, rest)
}

/// A connection to `server`.
pub(super) async fn lease(
    pool: &Rc<UpstreamPool>,
    server: &Rc<Server>,
    policy: ReusePolicy,
    request: &OutgoingRequest<'_>,
) -> Result<Lease, AttemptError> {
    pool.lease_from(Rc::clone(server), policy, request.now).await.map_err(|error| match error {
        LeaseError::Unreachable(error) => AttemptError::unreachable(SendError::Connect(error)),
        LeaseError::Full => AttemptError::final_error(SendError::Full),
    })
}

/// State of the request body when the response's head has arrived.
pub(super) enum Rest {
    Nothing,
    Forwarding(Box<BodyForwarder>),
    /// The upstream did not accept all of it.
    Refused,
}

pub(super) fn respond(
    pool: &Rc<UpstreamPool>,
    mut lease: Lease,
    request: &OutgoingRequest<'_>,
    rest: Rest,
) -> Result<UpstreamResponse, AttemptError> {
    let head = &lease.connection.head;
    let framing = response_framing(head, request.method).map_err(|error| {
        AttemptError::final_error(SendError::BadResponse(format!("the response has {error}").into()))
    })?;
    let keep_alive = !head.headers().has_connection_option(b"close")
        && !head.is_http10()
        && framing != BodyFraming::UntilClose;
    let (forwarding, reusable) = match rest {
        Rest::Nothing => (None, keep_alive),
        // It is forwarded to its end, independently of the response.
        Rest::Forwarding(forwarder) => {
            (Some(Forwarding::spawn(forwarder, Rc::clone(&lease.connection.socket))), keep_alive)
        }
        Rest::Refused => (None, false),
    };
    lease.connection.deadline.clear();
    let Timeouts { body: timeout, total, .. } = *request.timeouts;
    let body = UpstreamBody::Http1(Box::new(Http1Body {
        pool: Rc::clone(pool),
        lease: Some(lease),
        reader: BodyReader::new(framing),
        forwarding,
        reusable,
        timeout,
        ends_at: total.map(|total| request.now + total),
    }));
    Ok(UpstreamResponse { framing, body })
}

/// Sends the head and as much of the body as the upstream accepts, and reads up to the head of the response.
pub(super) async fn exchange_heads(
    connection: &mut UpstreamConnection,
    request: &OutgoingRequest<'_>,
    mut forwarder: Option<Box<BodyForwarder>>,
) -> Result<Rest, SendError> {
    let UpstreamRequest::Http1(head) = request.head else {
        return Err(SendError::BadResponse("the request was made for HTTP/2".into()));
    };
    let timeout = request.timeouts.head();
    connection.socket.write_all(&mut connection.deadline, timeout, head, |_| {}).await.map_err(
        |e| match e.kind() {
            io::ErrorKind::TimedOut => SendError::Timeout,
            _ => SendError::Broken(e),
        },
    )?;
    connection.deadline.set(request.now + timeout);
    let mut interim = 0;
    let mut refused = false;
    poll_fn(|cx| {
        if let Some(transfer) = &mut forwarder {
            match transfer.poll(cx, &connection.socket) {
                Poll::Ready(Err(ForwardError::Client(e))) => return Poll::Ready(Err(SendError::Body(e))),
                // An upstream that stops reading may have responded already: the read below decides.
                Poll::Ready(done) => {
                    refused = done.is_err();
                    connection.deadline.clear();
                    forwarder = None;
                }
                Poll::Pending if transfer.waits_for_client() => connection.deadline.clear(),
                Poll::Pending => {}
            }
        }
        poll_head(cx, connection, timeout, &mut interim, request.upgrade)
    })
    .await?;
    Ok(match forwarder {
        Some(forwarder) => Rest::Forwarding(forwarder),
        None if refused => Rest::Refused,
        None => Rest::Nothing,
    })
}

/// Reads up to the head of the final response.
fn poll_head(
    cx: &mut Context<'_>,
    connection: &mut UpstreamConnection,
    timeout: Duration,
    interim: &mut usize,
    upgrade: bool,
) -> Poll<Result<(), SendError>> {
    let UpstreamConnection { socket, input, head, deadline } = connection;
    let bad = |why: String| Poll::Ready(Err(SendError::BadResponse(why.into())));
    loop {
        match head.parse(input.filled()) {
            Ok(Some(length)) => {
                input.consume(length);
                match head.status() {
                    StatusCode::SWITCHING_PROTOCOLS if upgrade => return Poll::Ready(Ok(())),
                    StatusCode::SWITCHING_PROTOCOLS => return bad("an unsolicited 101".into()),
                    status if !status.is_informational() => return Poll::Ready(Ok(())),
                    _ if *interim == MAX_INTERIM_RESPONSES => return bad("too many interim responses".into()),
                    _ => *interim += 1,
                }
                continue;
            }
            Ok(None) => {}
            Err(error) => return bad(error.to_string()),
        }
        match socket.poll_read(cx, input, READ_SIZE) {
            Poll::Ready(Ok(0)) if input.filled().is_empty() && *interim == 0 => {
                return Poll::Ready(Err(SendError::Broken(io::ErrorKind::UnexpectedEof.into())));
            }
            Poll::Ready(Ok(0)) => return bad("the connection ended inside the response head".into()),
            Poll::Ready(Ok(_)) => {}
            Poll::Ready(Err(e)) => return Poll::Ready(Err(SendError::Broken(e))),
            Poll::Pending => return deadline.poll_within(cx, timeout).map(|()| Err(SendError::Timeout)),
        }
    }
}
