//! The upstream client: server selection, transport and retries, in one loop for HTTP/1.1 and HTTP/2.

use std::io;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method};
use tokio::time::Instant;

use super::body::UpstreamBody;
use super::pool::{ReusePolicy, Server, UpstreamPool};
use super::{http1, http2};
use crate::config::{Timeouts, UpstreamProtocol};
use crate::http1::{BodyError, BodyFraming, ResponseHead};
use crate::request_body::RequestBody;
use crate::tls::remedy_of_late_alert;

/// A request's head as it is sent to an upstream. Only `proxy::upstream_request`
/// makes one, from an admitted request, so what was validated is what is sent.
#[derive(Debug)]
pub(crate) enum UpstreamRequest {
    /// Request line and fields, including the empty line.
    Http1(Vec<u8>),
    Http2(Box<Http2Head>),
}

/// A head for HTTP/2; the scheme is that of the server that gets it.
#[derive(Debug, Clone)]
pub(crate) struct Http2Head {
    pub(crate) method: Method,
    /// Path and query, byte for byte.
    pub(crate) target: Bytes,
    /// The `:authority`.
    pub(crate) host: Bytes,
    pub(crate) headers: HeaderMap,
}

/// A request that is ready to be sent.
pub(crate) struct OutgoingRequest<'r> {
    pub(crate) head: &'r UpstreamRequest,
    pub(crate) method: &'r Method,
    /// The current time, accurate enough for deadlines.
    pub(crate) now: Instant,
    /// Timeouts and number of retries.
    pub(crate) timeouts: &'r Timeouts,
    /// Whether it is an upgrade request, for which 101 is a valid response.
    pub(crate) upgrade: bool,
    /// Called with each informational response (1xx) other than 100 and 101 that comes before the response.
    pub(crate) on_informational: &'r dyn Fn(&ResponseHead),
}

/// A response whose body has not been read.
#[derive(Debug)]
pub(crate) struct UpstreamResponse {
    pub(crate) framing: BodyFraming,
    pub(crate) body: UpstreamBody,
}

/// Why there is no response.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SendError {
    #[error("cannot connect: {0}")]
    Connect(io::Error),
    #[error("no server is healthy")]
    NoServer,
    #[error("all connections are taken")]
    Full,
    #[error("no response in time")]
    Timeout,
    #[error("the connection broke before the response: {error}{remedy}", error = .0, remedy = remedy_of_late_alert(&.0.to_string()))]
    Broken(io::Error),
    #[error("{0}")]
    BadResponse(std::borrow::Cow<'static, str>),
    #[error("the request body: {0}")]
    Body(BodyError),
}

/// The failure of one attempt on one connection.
#[derive(Debug)]
pub(super) struct AttemptError {
    pub(super) error: SendError,
    pub(super) processed: Processed,
    /// Whether the connection was reused: its failure then says nothing about the server.
    pub(super) reused: bool,
    /// Whether the whole connection failed, not this exchange alone.
    pub(super) connection_lost: bool,
}

/// A request that a server reports not to have processed (GOAWAY, REFUSED_STREAM) is sent to it again so often, after a pause
/// that grows by this where a stream was refused.
const MAX_REPEATS: u32 = 3;
const REFUSED_BACKOFF: Duration = Duration::from_millis(25);

/// Whether the server may have processed a request that it did not respond to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Processed {
    /// It did not: it was not reached, or reported so (RFC 9113 section 8.7).
    No,
    Maybe,
}

impl AttemptError {
    /// The server could not be reached.
    pub(super) fn unreachable(error: SendError) -> AttemptError {
        AttemptError { error, processed: Processed::No, reused: false, connection_lost: true }
    }

    /// A failure that is not retried, whatever the request.
    pub(super) fn final_error(error: SendError) -> AttemptError {
        AttemptError { error, processed: Processed::Maybe, reused: false, connection_lost: false }
    }
}

/// Sends a request and waits for the response's head.
///
/// Retries only where the request cannot take effect twice (RFC 9110 section 9.2.2): on the same server where
/// a reused connection turns out to be dead, on another where the server cannot be reached, reports that it
/// did not process the request or, if the request is idempotent, closes the connection. A body is sent once.
///
/// # Errors
///
/// No server responded within the timeouts, or the response is invalid.
pub(crate) async fn send(
    pool: &Rc<UpstreamPool>,
    request: &OutgoingRequest<'_>,
    body: RequestBody,
) -> Result<UpstreamResponse, SendError> {
    pool.budget.earn(pool.settings().retry_budget);
    let bodiless = body.framing() == BodyFraming::Empty;
    let repeatable = bodiless && request.method.is_idempotent();
    let policy = if repeatable { ReusePolicy::Any } else { ReusePolicy::KnownIdle };
    let mut body = Some(body);
    let mut tried: Vec<Rc<Server>> = Vec::new();
    let (mut again, mut repeated) = (None, 0);
    let mut failure = SendError::NoServer;
    loop {
        let (server, policy) = match again.take() {
            Some(again) => again,
            None => (next_server(pool, request, &tried, &mut failure)?, policy),
        };
        let attempt = match pool.settings().protocol {
            UpstreamProtocol::Http1 => http1::attempt(pool, &server, policy, request, &mut body).await,
            // Boxed, for most upstreams use HTTP/1.1.
            UpstreamProtocol::Http2 => Box::pin(http2::attempt(pool, &server, request, &mut body)).await,
        };
        let AttemptError { error, processed, reused, connection_lost } = match attempt {
            Ok(response) => {
                server.endpoint.record_success();
                return Ok(response);
            }
            Err(failed) => failed,
        };
        // A server that closes a connection gracefully before it processes a request is healthy.
        let ended_in_order = processed == Processed::No && !matches!(error, SendError::Connect(_));
        if connection_lost && !reused && !ended_in_order {
            pool.failed(&server);
        }
        let may_repeat = match processed {
            // A body that was partly sent can be sent again only where it was kept.
            Processed::No => bodiless || body.is_some(),
            // What a connection in use brings that is no response was there before the request.
            Processed::Maybe => {
                repeatable
                    && (matches!(error, SendError::Broken(_))
                        || reused && matches!(error, SendError::BadResponse(_)))
            }
        };
        if !may_repeat {
            return Err(error);
        }
        if bodiless {
            body = Some(RequestBody::default());
        }
        let most = if ended_in_order { MAX_REPEATS } else { 1 };
        if repeated < most && connection_lost && (reused || ended_in_order) {
            repeated += 1;
            again = Some((server, ReusePolicy::New));
        } else if repeated < most && ended_in_order && pool.is_only(&server) {
            // REFUSED_STREAM: the server has too much to do for the moment.
            repeated += 1;
            tokio::time::sleep(REFUSED_BACKOFF * repeated).await;
            again = Some((server, policy));
        } else {
            tried.push(server);
        }
        failure = error;
    }
}

/// The server of the next attempt, or the last failure where no server or no retry is left.
pub(super) fn next_server(
    pool: &UpstreamPool,
    request: &OutgoingRequest<'_>,
    tried: &[Rc<Server>],
    failure: &mut SendError,
) -> Result<Rc<Server>, SendError> {
    let mut last = || std::mem::replace(failure, SendError::NoServer);
    let Some(server) = pool.choose(tried) else { return Err(last()) };
    if !tried.is_empty() {
        if tried.len() > request.timeouts.retries as usize || !pool.budget.spend() {
            return Err(last());
        }
        pool.upstream().counts.retries.fetch_add(1, Ordering::Relaxed);
    }
    Ok(server)
}
