//! One request to an upstream and the head of its response.

use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Method, StatusCode};
use tokio::time::Instant;

use crate::config::{Patience, UpstreamProtocol};
use crate::http1::response_framing;
use crate::http1::{BodyError, BodyFraming, BodyReader, RequestBody};
use crate::upstream::body::UpstreamBody;
use crate::upstream::connection::UpstreamConnection;
use crate::upstream::http1_body::Http1Body;
use crate::upstream::http2;
use crate::upstream::pool::{Lease, LeaseError, Need, Server, UpstreamPool};
use crate::upstream::request_body_forwarder::{Upload, UploadError};

/// What is read at once for a response head and, mostly, its whole body.
const READ_SIZE: usize = 8 * 1024;
/// More interim responses than this are a fault.
const MAX_INTERIM: usize = 20;

/// A request that is ready for the wire.
#[derive(Debug)]
pub(crate) struct OutgoingRequest<'r> {
    /// Request line and fields through the empty line.
    pub(crate) head: &'r [u8],
    pub(crate) method: &'r Method,
    /// Now, as exactly as deadlines need it.
    pub(crate) now: Instant,
    /// How long it may take, and how often it is tried.
    pub(crate) patience: &'r Patience,
    /// Whether it asks to leave HTTP, so that 101 is an answer.
    pub(crate) upgrade: bool,
}

/// A response whose body is still on its way.
#[derive(Debug)]
pub(crate) struct UpstreamResponse<'c> {
    pub(crate) framing: BodyFraming,
    pub(crate) body: UpstreamBody<'c>,
}

/// Why there is no response.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SendError {
    #[error("cannot connect: {0}")]
    Connect(io::Error),
    #[error("no server is well")]
    NoServer,
    #[error("all connections are taken")]
    Full,
    #[error("no response in time")]
    Timeout,
    #[error("the connection broke before the response: {0}")]
    Broken(io::Error),
    #[error("{0}")]
    BadResponse(&'static str),
    #[error("the request body: {0}")]
    Body(BodyError),
}

/// Sends a request and waits for the response's head.
///
/// It is sent a second time only where the first cannot have had an effect (RFC 9110 section 9.2.2): to the same server
/// where a pooled connection turns out to be dead, to another where the server cannot be reached or, if the request may be
/// repeated, drops it.
pub(crate) async fn send<'c>(
    pool: &Rc<UpstreamPool>,
    request: &OutgoingRequest<'_>,
    body: RequestBody<'c>,
) -> Result<UpstreamResponse<'c>, SendError> {
    if pool.settings().protocol == UpstreamProtocol::Http2 {
        // Boxed, for most upstreams do without.
        return Box::pin(http2::send(pool, request, body)).await;
    }
    pool.budget.earn(pool.settings().retry_budget);
    let repeatable = body.framing() == BodyFraming::Empty && request.method.is_idempotent();
    let need = if repeatable { Need::Any } else { Need::Alive };
    let mut tried = Vec::new();
    let mut lease = connect(pool, need, request, &mut tried, SendError::NoServer).await?;
    if body.framing() != BodyFraming::Empty {
        let rest = try_once(pool, &mut lease, request, Some(Box::new(Upload::new(body)))).await?;
        return respond(pool, lease, request, rest);
    }
    loop {
        let error = match try_once(pool, &mut lease, request, None).await {
            Err(error @ SendError::Broken(_)) if repeatable => error,
            other => {
                other?;
                return respond(pool, lease, request, Rest::Nothing);
            }
        };
        let server = Rc::clone(&lease.place.server);
        let fresh = match lease.reused {
            // Most likely it was closed while it was idle.
            true => pool.lease_of(server, Need::New, request.now).await,
            false => Err(LeaseError::Unreachable(server, error)),
        };
        lease = match fresh {
            Err(LeaseError::Unreachable(server, error)) => {
                tried.push(server);
                connect(pool, need, request, &mut tried, error).await?
            }
            other => other.map_err(no_lease)?,
        };
    }
}

/// A connection to a server that can be reached and is none of those that were `tried`; `failure` is what came of those. A
/// request that no server has heard may go on to another, whatever its method.
pub(crate) async fn connect(
    pool: &Rc<UpstreamPool>,
    need: Need,
    request: &OutgoingRequest<'_>,
    tried: &mut Vec<Rc<Server>>,
    mut failure: SendError,
) -> Result<Lease, SendError> {
    loop {
        let Some(server) = pool.choose(tried) else { return Err(failure) };
        if !tried.is_empty() {
            if tried.len() > request.patience.retries as usize || !pool.budget.spend() {
                return Err(failure);
            }
            pool.upstream().counts.retries.fetch_add(1, Ordering::Relaxed);
        }
        match pool.lease_of(server, need, request.now).await {
            Err(LeaseError::Unreachable(server, error)) => {
                tried.push(server);
                failure = error;
            }
            other => return other.map_err(no_lease),
        }
    }
}

fn no_lease(error: LeaseError) -> SendError {
    match error {
        LeaseError::Unreachable(_, error) => error,
        LeaseError::Full => SendError::Full,
    }
}

/// What is left of the request body when the response's head has arrived.
pub(crate) enum Rest<'c> {
    Nothing,
    Upload(Box<Upload<'c>>),
    /// The upstream did not take all of it.
    Refused,
}

pub(crate) fn respond<'c>(
    pool: &Rc<UpstreamPool>,
    mut lease: Lease,
    request: &OutgoingRequest<'_>,
    rest: Rest<'c>,
) -> Result<UpstreamResponse<'c>, SendError> {
    let head = &lease.connection.head;
    let framing = response_framing(head, request.method)
        .map_err(|_| SendError::BadResponse("the response's framing is ambiguous"))?;
    let one_more =
        !head.fields().connection_has(b"close") && !head.is_http10() && framing != BodyFraming::UntilClose;
    let (upload, reusable) = match rest {
        Rest::Nothing => (None, one_more),
        Rest::Upload(upload) => (Some(upload), one_more),
        Rest::Refused => (None, false),
    };
    lease.connection.deadline.clear();
    let Patience { body: patience, total, .. } = *request.patience;
    let body = UpstreamBody::Http1(Box::new(Http1Body {
        pool: Rc::clone(pool),
        lease,
        reader: BodyReader::new(framing),
        upload,
        reusable,
        patience,
        ends_at: total.map(|total| request.now + total),
    }));
    Ok(UpstreamResponse { framing, body })
}

/// One try on one connection. What the server does, or fails to do, is held for or against it.
pub(crate) async fn try_once<'c>(
    pool: &UpstreamPool,
    lease: &mut Lease,
    request: &OutgoingRequest<'_>,
    upload: Option<Box<Upload<'c>>>,
) -> Result<Rest<'c>, SendError> {
    let tried = exchange_heads(&mut lease.connection, request, upload).await;
    let server = &lease.place.server;
    match &tried {
        Ok(_) => server.endpoint.succeeded_now(),
        // That a pooled connection was closed meanwhile says nothing, and what takes too long may be the client's doing.
        Err(SendError::Broken(_)) if !lease.reused => pool.failed(server),
        Err(_) => {}
    }
    tried
}

async fn exchange_heads<'c>(
    connection: &mut UpstreamConnection,
    request: &OutgoingRequest<'_>,
    mut upload: Option<Box<Upload<'c>>>,
) -> Result<Rest<'c>, SendError> {
    let patience = request.patience.head();
    connection.socket.write_all(&mut connection.deadline, patience, request.head, |_| {}).await.map_err(
        |e| match e.kind() {
            io::ErrorKind::TimedOut => SendError::Timeout,
            _ => SendError::Broken(e),
        },
    )?;
    connection.deadline.set(request.now + patience);
    let mut interim = 0;
    let mut refused = false;
    poll_fn(|cx| {
        if let Some(transfer) = &mut upload {
            match transfer.poll(cx, &connection.socket) {
                Poll::Ready(Err(UploadError::Client(e))) => return Poll::Ready(Err(SendError::Body(e))),
                // An upstream that stops reading may have answered already: the read below tells.
                Poll::Ready(done) => {
                    refused = done.is_err();
                    connection.deadline.clear();
                    upload = None;
                }
                Poll::Pending if transfer.waits_for_client() => connection.deadline.clear(),
                Poll::Pending => {}
            }
        }
        poll_head(cx, connection, patience, &mut interim, request.upgrade)
    })
    .await?;
    Ok(match upload {
        Some(upload) => Rest::Upload(upload),
        None if refused => Rest::Refused,
        None => Rest::Nothing,
    })
}

/// Reads up to the head of the final response.
fn poll_head(
    cx: &mut Context<'_>,
    connection: &mut UpstreamConnection,
    patience: Duration,
    interim: &mut usize,
    upgrade: bool,
) -> Poll<Result<(), SendError>> {
    let UpstreamConnection { socket, input, head, deadline } = connection;
    loop {
        match head.parse(input.filled()) {
            Ok(Some(length)) => {
                input.consume(length);
                match head.status() {
                    StatusCode::SWITCHING_PROTOCOLS if upgrade => return Poll::Ready(Ok(())),
                    StatusCode::SWITCHING_PROTOCOLS => {
                        return Poll::Ready(Err(SendError::BadResponse("a 101 that nobody asked for")));
                    }
                    status if !status.is_informational() => return Poll::Ready(Ok(())),
                    _ if *interim == MAX_INTERIM => {
                        return Poll::Ready(Err(SendError::BadResponse("too many interim responses")));
                    }
                    _ => *interim += 1,
                }
                continue;
            }
            Ok(None) => {}
            Err(_) => {
                return Poll::Ready(Err(SendError::BadResponse(
                    "the response head is malformed or too large",
                )));
            }
        }
        match socket.poll_read(cx, input, READ_SIZE) {
            Poll::Ready(Ok(0)) if input.filled().is_empty() && *interim == 0 => {
                return Poll::Ready(Err(SendError::Broken(io::ErrorKind::UnexpectedEof.into())));
            }
            Poll::Ready(Ok(0)) => {
                return Poll::Ready(Err(SendError::BadResponse(
                    "the connection ended inside the response head",
                )));
            }
            Poll::Ready(Ok(_)) => {}
            Poll::Ready(Err(e)) => return Poll::Ready(Err(SendError::Broken(e))),
            Poll::Pending => return deadline.poll_within(cx, patience).map(|()| Err(SendError::Timeout)),
        }
    }
}
