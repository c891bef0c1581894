//! HTTP/2 exchanges with upstream servers through hyper's client, multiplexed over one connection (RFC 9113).

use std::cell::{Cell, RefCell};
use std::error::Error as _;
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::HOST;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Request, Uri};
use http_body::{Body, Frame, SizeHint};
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::spawn_local;
use tokio::time::{Instant, timeout};

use super::body::UpstreamBody;
use super::client::{AttemptError, OutgoingRequest, Processed, SendError, UpstreamResponse};
use super::cluster::Upstream;
use super::connection::{Transport, connect};
use super::http2_body::Http2Body;
use super::outlier_ejection::Endpoint;
use super::pool::{PoolPermit, Server, UpstreamPool};
use crate::config::UpstreamUrl;
use crate::http1::{BodyError, BodyFraming, ResponseHead, response_framing};
use crate::net::Deadline;
use crate::request_body::RequestBody;
use crate::upstream::{Http2Head, UpstreamRequest};

/// Flow-control windows of a stream and of a connection, in bytes: how much a server may send ahead.
const STREAM_WINDOW: u32 = 64 << 10;
const CONNECTION_WINDOW: u32 = 1 << 20;
/// Maximum size of a response's header list, in bytes.
const MAX_HEADER_LIST: u32 = 64 << 10;
/// How often a new connection is checked for the server's settings.
const SETTINGS_POLL_INTERVAL: Duration = Duration::from_millis(1);
/// Up to so many bytes of a request body are kept until the response, to be sent again where the server did not process them.
const REPLAY_LIMIT_BYTES: usize = 64 << 10;

/// A handle of a connection, shared by many requests.
pub(crate) type Sender = SendRequest<ForwardedBody>;

/// Runs hyper's tasks on the worker's own thread.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LocalExecutor;

impl<F: Future<Output: 'static> + 'static> hyper::rt::Executor<F> for LocalExecutor {
    fn execute(&self, task: F) {
        spawn_local(task);
    }
}

/// Opens a connection; it lasts until its last handle is dropped.
pub(super) async fn open(upstream: &Upstream, endpoint: &Endpoint) -> io::Result<SharedConnection> {
    let opening = async {
        match connect(upstream, endpoint).await? {
            Transport::Tcp(tcp) => handshake(tcp).await,
            Transport::Unix(unix) => handshake(unix).await,
            Transport::Tls(tls) if tls.get_ref().1.alpn_protocol() != Some(b"h2") => {
                Err(io::Error::other("the server does not speak HTTP/2 (ALPN)"))
            }
            Transport::Tls(tls) => handshake(*tls).await,
        }
    };
    let opened = Box::pin(timeout(upstream.settings.connect_timeout, opening)).await;
    opened.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}

async fn handshake<S>(stream: S) -> io::Result<SharedConnection>
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let mut builder = Builder::new(LocalExecutor);
    builder
        .timer(TokioTimer::new())
        // No stream before the server has said how many it accepts: more would be refused (REFUSED_STREAM).
        .initial_max_send_streams(0)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(MAX_HEADER_LIST);
    let (sender, mut connection) = builder.handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
    // hyper does not notify of the server's settings.
    while connection.current_max_send_streams() == 0 {
        if poll_fn(|cx| Poll::Ready(Pin::new(&mut connection).poll(cx).is_ready())).await {
            return Err(io::Error::from(io::ErrorKind::ConnectionReset));
        }
        tokio::time::sleep(SETTINGS_POLL_INTERVAL).await;
    }
    let max_streams = Rc::new(Cell::new(connection.current_max_send_streams()));
    let shared = SharedConnection {
        sender,
        streams: Rc::default(),
        max_streams: Rc::clone(&max_streams),
        since: Instant::now(),
    };
    spawn_local(async move {
        let ended = poll_fn(|cx| {
            max_streams.set(connection.current_max_send_streams());
            Pin::new(&mut connection).poll(cx)
        });
        if let Err(error) = ended.await {
            tracing::debug!(%error, "a connection to an upstream broke");
        }
    });
    Ok(shared)
}

/// One attempt on a shared connection to `server`, or on a new one. A body that the server did not process comes back.
pub(super) async fn attempt(
    pool: &Rc<UpstreamPool>,
    server: &Rc<Server>,
    request: &OutgoingRequest<'_>,
    body: &mut Option<RequestBody>,
) -> Result<UpstreamResponse, AttemptError> {
    let UpstreamRequest::Http2(head) = request.head else {
        return Err(AttemptError::final_error(SendError::BadResponse(
            "the request was made for HTTP/1.1".into(),
        )));
    };
    let permit = pool.place(Rc::clone(server));
    let (lease, is_new) =
        lease(pool, server).await.map_err(|error| AttemptError::unreachable(SendError::Connect(error)))?;
    let secure = matches!(pool.settings().urls[server.endpoint.url], UpstreamUrl::Tcp { secure: true, .. });
    let streams = Rc::clone(&lease.streams);
    exchange(permit, lease, head, secure, request, body).await.map_err(|mut failed| {
        // A connection that is silent may be dead, and one that has sent GOAWAY accepts no more streams.
        if failed.connection_lost || matches!(failed.error, SendError::Timeout) {
            server.evict_http2(&streams);
        }
        failed.reused = !is_new;
        failed
    })
}

/// A stream on a connection that accepts one, and whether that connection is new.
async fn lease(pool: &UpstreamPool, server: &Server) -> io::Result<(StreamLease, bool)> {
    if let Some(lease) = server.lease_stream(pool.max_connections()) {
        return Ok((lease, false));
    }
    // Of many requests that find none, one opens it.
    let _turn = server.opening.lock().await;
    if let Some(lease) = server.lease_stream(pool.max_connections()) {
        return Ok((lease, false));
    }
    let connection = open(pool.upstream(), &server.endpoint).await?;
    let lease = connection.lease();
    server.cache_http2(connection);
    Ok((lease, true))
}

async fn exchange(
    permit: PoolPermit,
    mut lease: StreamLease,
    head: &Http2Head,
    secure: bool,
    request: &OutgoingRequest<'_>,
    body_slot: &mut Option<RequestBody>,
) -> Result<UpstreamResponse, AttemptError> {
    let progress = Rc::new(ForwardProgress::new(body_slot.take().unwrap_or_default()));
    let forwarded = ForwardedBody { progress: Rc::clone(&progress) };
    let timeout = request.timeouts.head();
    let mut deadline = Deadline::default();
    deadline.set(request.now + timeout);
    let mut response = pin!(lease.sender.send_request(http2_request(head, secure, forwarded)?));
    let response = poll_fn(|cx| {
        if let Poll::Ready(response) = response.as_mut().poll(cx) {
            return Poll::Ready(response.map_err(|error| match progress.error.take() {
                Some(error) => AttemptError::final_error(SendError::Body(error)),
                None => attempt_error(error),
            }));
        }
        // The time of a body that the client sends slowly does not count against the server.
        if progress.waits_for_client.get() {
            deadline.clear();
            progress.watch(cx);
            return Poll::Pending;
        }
        progress.watch(cx);
        deadline.poll_within(cx, timeout).map(|()| {
            Err(AttemptError {
                error: SendError::Timeout,
                processed: Processed::Maybe,
                reused: false,
                connection_lost: false,
            })
        })
    })
    .await
    .inspect_err(|failed| {
        if failed.processed == Processed::No {
            *body_slot = progress.take_back();
        }
    })?;
    progress.keep_no_more();
    let (parts, incoming) = response.into_parts();
    let head = ResponseHead::from_http2(&parts);
    let framing = match response_framing(&head, request.method) {
        Ok(BodyFraming::UntilClose) if incoming.is_end_stream() => BodyFraming::Empty,
        Ok(BodyFraming::UntilClose) => BodyFraming::Chunked,
        Ok(framing) => framing,
        Err(error) => {
            let why = format!("the response has {error}").into();
            return Err(AttemptError::final_error(SendError::BadResponse(why)));
        }
    };
    let body = Http2Body {
        _permit: permit,
        _lease: lease,
        head,
        framing,
        incoming,
        deadline: Deadline::default(),
        timeout: request.timeouts.body,
        ends_at: request.timeouts.total.map(|total| request.now + total),
    };
    Ok(UpstreamResponse { framing, body: UpstreamBody::Http2(Box::new(body)) })
}

/// hyper's request; the head was built by `proxy::upstream_request`.
fn http2_request(
    head: &Http2Head,
    secure: bool,
    body: ForwardedBody,
) -> Result<Request<ForwardedBody>, AttemptError> {
    let uri = Authority::from_maybe_shared(head.host.clone())
        .map_err(http::Error::from)
        .and_then(|authority| {
            let target = PathAndQuery::from_maybe_shared(head.target.clone())?;
            let scheme = if secure { Scheme::HTTPS } else { Scheme::HTTP };
            Uri::builder().scheme(scheme).authority(authority).path_and_query(target).build()
        })
        .map_err(|error| {
            let why = format!("the request cannot be represented in HTTP/2: {error}").into();
            AttemptError::final_error(SendError::BadResponse(why))
        })?;
    let mut request = Request::new(body);
    *request.method_mut() = head.method.clone();
    *request.uri_mut() = uri;
    *request.headers_mut() = head.headers.clone();
    request.headers_mut().remove(HOST);
    Ok(request)
}

/// What a failed request means for the server and the connection. hyper does not expose frames in its own
/// types, so the text of its source error is matched; the tests of GOAWAY and REFUSED_STREAM cover that.
fn attempt_error(error: hyper::Error) -> AttemptError {
    let text = error.source().map_or_else(|| error.to_string(), ToString::to_string);
    let refused = text.contains("refused stream");
    let ended_in_order = text.contains("not a result of an error");
    AttemptError {
        processed: if refused || ended_in_order || error.is_canceled() {
            Processed::No
        } else {
            Processed::Maybe
        },
        connection_lost: !text.contains("stream error"),
        reused: false,
        error: SendError::Broken(io::Error::other(format!("{error}: {text}"))),
    }
}

/// A request body that is sent by hyper at the pace of the server's flow control.
#[derive(Debug)]
pub(crate) struct ForwardedBody {
    progress: Rc<ForwardProgress>,
}

/// State of a body that hyper sends, shared with the exchange.
#[derive(Debug)]
struct ForwardProgress {
    /// `None` where the exchange has taken it back.
    body: RefCell<Option<RequestBody>>,
    /// What was sent, and its length in bytes, as long as it can be sent again.
    sent: RefCell<Option<(Vec<Bytes>, usize)>>,
    waits_for_client: Cell<bool>,
    /// The client did not send it properly.
    error: RefCell<Option<BodyError>>,
    /// The task that waits for the response's head.
    waiter: RefCell<Option<std::task::Waker>>,
}

impl ForwardProgress {
    fn new(body: RequestBody) -> ForwardProgress {
        ForwardProgress {
            body: RefCell::new(Some(body)),
            sent: RefCell::new(Some((Vec::new(), 0))),
            waits_for_client: Cell::default(),
            error: RefCell::default(),
            waiter: RefCell::default(),
        }
    }

    /// The body from its beginning, unless too much of it was sent.
    fn take_back(&self) -> Option<RequestBody> {
        let (sent, _) = self.sent.take()?;
        let mut body = self.body.take()?;
        body.replay(sent);
        Some(body)
    }

    fn keep_no_more(&self) {
        self.sent.replace(None);
    }

    fn keep(&self, piece: &Bytes) {
        let mut sent = self.sent.borrow_mut();
        let Some((pieces, length)) = sent.as_mut() else { return };
        *length += piece.len();
        if *length > REPLAY_LIMIT_BYTES {
            *sent = None;
        } else {
            pieces.push(piece.clone());
        }
    }

    fn watch(&self, cx: &Context<'_>) {
        let mut waiter = self.waiter.borrow_mut();
        if !waiter.as_ref().is_some_and(|waiter| waiter.will_wake(cx.waker())) {
            *waiter = Some(cx.waker().clone());
        }
    }

    fn set_waits_for_client(&self, waits: bool) {
        if self.waits_for_client.replace(waits) != waits
            && let Some(waiter) = self.waiter.borrow_mut().take()
        {
            waiter.wake();
        }
    }
}

impl Body for ForwardedBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let progress = &self.progress;
        let polled = match progress.body.borrow_mut().as_mut() {
            Some(body) => Pin::new(body).poll_frame(cx),
            None => return Poll::Ready(Some(Err(io::Error::other("the body is sent elsewhere")))),
        };
        progress.set_waits_for_client(polled.is_pending());
        polled.map(|frame| {
            frame.map(|frame| match frame {
                Ok(frame) => {
                    frame.data_ref().iter().for_each(|piece| progress.keep(piece));
                    Ok(frame)
                }
                Err(error) => {
                    progress.error.replace(Some(error));
                    Err(io::Error::other("the client did not send the body properly"))
                }
            })
        })
    }

    fn is_end_stream(&self) -> bool {
        self.progress.body.borrow().as_ref().is_none_or(RequestBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.progress.body.borrow().as_ref().map_or_else(SizeHint::default, RequestBody::size_hint)
    }
}

/// A connection, shared by as many streams as its server accepts.
#[derive(Debug)]
pub(super) struct SharedConnection {
    sender: Sender,
    /// The streams on it; it is known by this cell.
    streams: Rc<Cell<usize>>,
    /// The server's SETTINGS_MAX_CONCURRENT_STREAMS.
    max_streams: Rc<Cell<usize>>,
    pub(super) since: Instant,
}

impl SharedConnection {
    fn lease(&self) -> StreamLease {
        self.streams.set(self.streams.get() + 1);
        StreamLease { sender: self.sender.clone(), streams: Rc::clone(&self.streams) }
    }
}

/// One stream on a connection, counted until this is dropped.
#[derive(Debug)]
pub(crate) struct StreamLease {
    sender: Sender,
    streams: Rc<Cell<usize>>,
}

impl Drop for StreamLease {
    fn drop(&mut self) {
        self.streams.set(self.streams.get() - 1);
    }
}

/// The connections to one server.
#[derive(Debug, Default)]
pub(super) struct SharedConnections(Vec<SharedConnection>);

impl SharedConnections {
    /// A stream on the first connection that accepts one; where `max_connections` are open, on that with the fewest.
    pub(super) fn lease(&mut self, max_connections: Option<usize>) -> Option<StreamLease> {
        self.0.retain(|connection| !connection.sender.is_closed());
        let free = self.0.iter().position(|c| c.streams.get() < c.max_streams.get());
        let is_full = max_connections.is_some_and(|max| self.0.len() >= max);
        let fewest = || (0..self.0.len()).min_by_key(|&place| self.0[place].streams.get());
        let place = free.or_else(|| is_full.then(fewest).flatten())?;
        self.0[place].since = Instant::now();
        Some(self.0[place].lease())
    }

    pub(super) fn push(&mut self, connection: SharedConnection) {
        self.0.push(connection);
    }

    pub(super) fn evict(&mut self, streams: &Rc<Cell<usize>>) {
        self.0.retain(|connection| !Rc::ptr_eq(&connection.streams, streams));
    }

    /// Closes connections that nothing has used for `idle_timeout`.
    pub(super) fn prune(&mut self, idle_timeout: Duration) {
        self.0.retain(|c| c.streams.get() > 0 || c.since.elapsed() < idle_timeout);
    }
}
