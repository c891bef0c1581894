//! HTTP/2 exchanges with upstream servers through hyper's client, multiplexed over one connection (RFC 9113).

use std::cell::{Cell, RefCell};
use std::error::Error as _;
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};

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
use super::pool::{PoolPermit, ReusePolicy, Server, UpstreamPool};
use crate::config::UpstreamUrl;
use crate::http1::{BodyError, BodyFraming, ResponseHead, response_framing};
use crate::net::Deadline;
use crate::proxy::upstream_request::{Http2Head, UpstreamRequest};
use crate::request_body::RequestBody;

/// Flow-control windows of a stream and of a connection, in bytes: how much a server may send ahead.
const STREAM_WINDOW: u32 = 64 << 10;
const CONNECTION_WINDOW: u32 = 1 << 20;
/// Maximum size of a response's header list, in bytes.
const MAX_HEADER_LIST: u32 = 64 << 10;

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
pub(super) async fn open(upstream: &Upstream, endpoint: &Endpoint) -> io::Result<Sender> {
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

async fn handshake<S>(stream: S) -> io::Result<Sender>
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let mut builder = Builder::new(LocalExecutor);
    builder
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(MAX_HEADER_LIST);
    let (sender, connection) = builder.handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
    spawn_local(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a connection to an upstream broke");
        }
    });
    Ok(sender)
}

/// One attempt on the shared connection to `server`, or on a new one.
pub(super) async fn attempt(
    pool: &Rc<UpstreamPool>,
    server: &Rc<Server>,
    policy: ReusePolicy,
    request: &OutgoingRequest<'_>,
    body: &mut Option<RequestBody>,
) -> Result<UpstreamResponse, AttemptError> {
    let UpstreamRequest::Http2(head) = request.head else {
        return Err(AttemptError::final_error(SendError::BadResponse(
            "the request was made for HTTP/1.1".into(),
        )));
    };
    let permit = pool.place(Rc::clone(server));
    if policy == ReusePolicy::New {
        server.evict_http2();
    }
    let (sender, is_new) =
        sender(pool, server).await.map_err(|error| AttemptError::unreachable(SendError::Connect(error)))?;
    let secure = matches!(pool.settings().urls[server.endpoint.url], UpstreamUrl::Tcp { secure: true, .. });
    let exchanged = exchange(permit, sender, head, secure, request, body.take().unwrap_or_default()).await;
    exchanged.map_err(|mut failed| {
        if matches!(failed.error, SendError::Timeout) {
            // It may be dead; one that is known to be closed is not used again anyway.
            server.evict_http2();
        }
        failed.reused = !is_new;
        failed
    })
}

/// A handle of a connection that accepts a stream: the cached one or a new one, and whether it is new.
async fn sender(pool: &UpstreamPool, server: &Server) -> io::Result<(Sender, bool)> {
    if let Some(sender) = usable(server).await {
        return Ok((sender, false));
    }
    // Of many requests that find none, one opens it.
    let _turn = server.opening.lock().await;
    if let Some(sender) = usable(server).await {
        return Ok((sender, false));
    }
    let mut sender = open(pool.upstream(), &server.endpoint).await?;
    server.cache_http2(sender.clone());
    sender.ready().await.map_err(io::Error::other)?;
    Ok((sender, true))
}

async fn usable(server: &Server) -> Option<Sender> {
    let mut sender = server.http2()?;
    sender.ready().await.ok()?;
    Some(sender)
}

async fn exchange(
    permit: PoolPermit,
    mut sender: Sender,
    head: &Http2Head,
    secure: bool,
    request: &OutgoingRequest<'_>,
    body: RequestBody,
) -> Result<UpstreamResponse, AttemptError> {
    let progress = Rc::new(ForwardProgress::default());
    let forwarded = ForwardedBody { body, progress: Rc::clone(&progress) };
    let timeout = request.timeouts.head();
    let mut deadline = Deadline::default();
    deadline.set(request.now + timeout);
    let mut response = pin!(sender.send_request(http2_request(head, secure, forwarded)?));
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
    .await?;
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
    body: RequestBody,
    progress: Rc<ForwardProgress>,
}

/// State of a body that hyper sends, for the exchange.
#[derive(Debug, Default)]
struct ForwardProgress {
    waits_for_client: Cell<bool>,
    /// The client did not send it properly.
    error: RefCell<Option<BodyError>>,
    /// The task that waits for the response's head.
    waiter: RefCell<Option<std::task::Waker>>,
}

impl ForwardProgress {
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

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        self.progress.set_waits_for_client(polled.is_pending());
        polled.map(|frame| {
            frame.map(|frame| {
                frame.map_err(|error| {
                    self.progress.error.replace(Some(error));
                    io::Error::other("the client did not send the body properly")
                })
            })
        })
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A connection, and when it was last used.
#[derive(Debug)]
pub(super) struct CachedConnection {
    pub(super) sender: Sender,
    pub(super) since: Instant,
}
