//! An HTTP/1.1 exchange with an upstream server over a pooled connection.
//!
//! The gateway's own client: hyper's costs a fifth more CPU time per request (see CONTRIBUTING, "Decisions
//! that are not obvious").

use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Method, StatusCode};

use super::body::UpstreamBody;
use super::client::{AttemptError, OutgoingRequest, Processed, SendError, UpstreamResponse};
use super::connection::UpstreamConnection;
use super::http1_body::Http1Body;
use super::pool::{Lease, LeaseError, ReusePolicy, Server, UpstreamPool};
use super::request_body_forwarder::{BodyForwarder, ForwardError, Forwarding};
use crate::config::Timeouts;
use crate::http1::{BodyFraming, BodyReader, HeaderKind, Headers, response_framing};
use crate::request_body::RequestBody;
use crate::upstream::UpstreamRequest;

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
        // What a connection in use answers may be left from the response before.
        let is_stray = lease.reused && matches!(error, SendError::BadResponse(_));
        if is_stray && lease.connection.is_bodiless {
            server.sends_stray_bytes.set(true);
        }
        let connection_lost = is_stray || matches!(error, SendError::Broken(_));
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
    let announced = announced_keep_alive(head.headers());
    let keep_alive = !head.headers().has_connection_option(b"close")
        && !head.is_http10()
        && framing != BodyFraming::UntilClose
        && announced.is_none_or(|time| !time.is_zero())
        // A body that a server wrongly sends with its answer to HEAD would be read as the next response, however late it comes.
        && *request.method != Method::HEAD;
    let is_bodiless = matches!(head.status(), StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    let (forwarding, reusable) = match rest {
        Rest::Nothing => (None, keep_alive),
        // It is forwarded to its end, independently of the response.
        Rest::Forwarding(forwarder) => {
            (Some(Forwarding::spawn(forwarder, Rc::clone(&lease.connection.socket))), keep_alive)
        }
        Rest::Refused => (None, false),
    };
    lease.connection.deadline.clear();
    lease.connection.is_bodiless = is_bodiless;
    lease.connection.keep_alive = announced;
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

/// For how long the server says that it keeps the connection (`Keep-Alive: timeout=N`), less a margin: a request must not
/// meet the end that is on its way. Zero where it takes no further request.
fn announced_keep_alive(headers: &Headers) -> Option<Duration> {
    let fields = headers.of_kind(HeaderKind::HopByHop).filter(|f| f.name.eq_ignore_ascii_case(b"keep-alive"));
    let parameters = fields.flat_map(|field| field.members()).filter_map(|member| {
        let (name, value) = std::str::from_utf8(member).ok()?.split_once('=')?;
        Some((name.trim().to_ascii_lowercase(), value.trim().trim_matches('"').parse::<u32>().ok()?))
    });
    let mut kept = None;
    for (name, number) in parameters {
        match (name.as_str(), number) {
            ("max", 0) => return Some(Duration::ZERO),
            ("timeout", 0 | 1) => kept = Some(Duration::from_millis(u64::from(number) * 500)),
            ("timeout", seconds) => kept = Some(Duration::from_secs(u64::from(seconds) - 1)),
            _ => {}
        }
    }
    kept
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
        poll_head(cx, connection, timeout, &mut interim, request)
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
    request: &OutgoingRequest<'_>,
) -> Poll<Result<(), SendError>> {
    let UpstreamConnection { socket, input, head, limits, deadline, .. } = connection;
    let bad = |why: String| Poll::Ready(Err(SendError::BadResponse(why.into())));
    loop {
        let parsed = match input.filled() {
            [] => Ok(None),
            filled => head.parse(filled, limits),
        };
        match parsed {
            Ok(Some(length)) => {
                input.consume(length);
                match head.status() {
                    StatusCode::SWITCHING_PROTOCOLS if request.upgrade => return Poll::Ready(Ok(())),
                    StatusCode::SWITCHING_PROTOCOLS => return bad("an unsolicited 101".into()),
                    status if !status.is_informational() => return Poll::Ready(Ok(())),
                    _ if *interim == MAX_INTERIM_RESPONSES => return bad("too many interim responses".into()),
                    status => {
                        *interim += 1;
                        // 100 answers an expectation, and none is forwarded.
                        if status != StatusCode::CONTINUE {
                            (request.on_informational)(head);
                        }
                    }
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::http1::ResponseHead;

    #[test]
    fn a_connection_is_given_up_before_its_server_gives_it_up() {
        let millis = |fields: &str| {
            let mut head = ResponseHead::default();
            let text = format!("HTTP/1.1 200 OK\r\n{fields}\r\n");
            head.parse(text.as_bytes(), &Default::default()).unwrap().unwrap();
            announced_keep_alive(head.headers()).map(|time| time.as_millis())
        };
        for (fields, kept) in [
            ("", None),
            ("Keep-Alive: timeout=5\r\n", Some(4000)),
            ("keep-alive: max=100, Timeout = 72\r\n", Some(71_000)),
            ("Keep-Alive: timeout=\"5\"\r\n", Some(4000)),
            ("Keep-Alive: timeout=1\r\n", Some(500)),
            ("Keep-Alive: timeout=0\r\n", Some(0)),
            ("Keep-Alive: timeout=5, max=0\r\n", Some(0)),
            ("Keep-Alive: timeout=soon\r\n", None),
            ("Keep-Alive: timeout=-5\r\n", None),
            ("Keep-Alive: 300\r\n", None),
            ("X-Keep-Alive: timeout=5\r\n", None),
        ] {
            assert_eq!(millis(fields), kept, "{fields:?}");
        }
    }
}
