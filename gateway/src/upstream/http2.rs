//! Requests to a server that speaks HTTP/2: many at once over one connection, each on a stream of its own (RFC 9113).

use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::client::{Builder, SendRequest};
use h2::{Reason, SendStream};
use http::header::{CONNECTION, HOST, TE, TRANSFER_ENCODING};
use http::uri::Scheme;
use http::{HeaderName, HeaderValue, Request, Uri};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::spawn_local;
use tokio::time::{Instant, timeout};

use crate::config::UpstreamUrl;
use crate::http1::{
    BodyError, BodyFraming, HeadLimits, RequestBody, RequestHead, ResponseHead, response_framing,
};
use crate::net::Deadline;
use crate::upstream::body::UpstreamBody;
use crate::upstream::client::{OutgoingRequest, SendError, UpstreamResponse};
use crate::upstream::connection::{Link, connect};
use crate::upstream::http2_body::Http2Body;
use crate::upstream::outlier_ejection::Endpoint;
use crate::upstream::pool::{Place, Server, UpstreamPool};
use crate::upstream::upstream::Upstream;

/// What a server may send of one answer, and of all answers of a connection, before some was passed on.
const STREAM_WINDOW: u32 = 64 << 10;
const CONNECTION_WINDOW: u32 = 1 << 20;
/// More than this is no head that an application means.
const HEADER_LIST: u32 = 64 << 10;
/// Pieces of a body are sent in frames of at most so many bytes.
const PIECE: usize = 16 << 10;

/// Opens a connection; it lasts until its last handle is dropped.
pub(crate) async fn open(upstream: &Upstream, endpoint: &Endpoint) -> io::Result<SendRequest<Bytes>> {
    let opening = async {
        match connect(upstream, endpoint).await? {
            Link::Tcp(tcp) => begin(tcp).await,
            Link::Unix(unix) => begin(unix).await,
            Link::Tls(tls) if tls.get_ref().1.alpn_protocol() != Some(b"h2") => {
                Err(io::Error::other("the server does not speak HTTP/2 (ALPN)"))
            }
            Link::Tls(tls) => begin(*tls).await,
        }
    };
    let opened = Box::pin(timeout(upstream.settings.connect_timeout, opening)).await;
    opened.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}

async fn begin<S>(stream: S) -> io::Result<SendRequest<Bytes>>
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let mut builder = Builder::new();
    builder
        .enable_push(false)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(HEADER_LIST);
    let (sender, connection) = builder.handshake(stream).await.map_err(io::Error::other)?;
    spawn_local(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a connection to an upstream broke");
        }
    });
    Ok(sender)
}

/// Sends a request over HTTP/2 and waits for the response's head.
///
/// It is sent again only where no server has acted on it: one could not be connected to, or said that it did not process the
/// stream, or the request may be repeated and the connection was lost before the answer. The first time that a connection in
/// use turns out to have ended, the same server may get it over a new one.
pub(crate) async fn send<'c>(
    pool: &Rc<UpstreamPool>,
    request: &OutgoingRequest<'_>,
    body: RequestBody<'c>,
) -> Result<UpstreamResponse<'c>, SendError> {
    pool.budget.earn(pool.settings().retry_budget);
    let mut body = Some(body);
    let bodiless = body.as_ref().is_some_and(|body| body.framing() == BodyFraming::Empty);
    let mut tried: Vec<Rc<Server>> = Vec::new();
    let (mut paid, mut reconnected) = (0, false);
    let mut failure = SendError::NoServer;
    loop {
        let Some(server) = pool.choose(&tried) else { return Err(failure) };
        if tried.len() > paid {
            if tried.len() > request.patience.retries as usize || !pool.budget.spend() {
                return Err(failure);
            }
            paid = tried.len();
            pool.upstream().counts.retries.fetch_add(1, Ordering::Relaxed);
        }
        let place = pool.place(Rc::clone(&server));
        let (sender, is_new) = match sender(pool, &server).await {
            Ok(ready) => ready,
            Err(error) => {
                pool.failed(&server);
                tried.push(server);
                failure = SendError::Connect(error);
                continue;
            }
        };
        // Taken by the one try that a body has; without one there is nothing to take.
        let upload = if bodiless { None } else { body.take() };
        match exchange(pool, place, sender, request, upload).await {
            Ok(response) => {
                server.endpoint.succeeded_now();
                return Ok(response);
            }
            Err(Failed { error, done, connection_ended }) => {
                if matches!(error, SendError::Timeout) {
                    // It may be dead; one that is known to have ended is not used again anyway.
                    server.forget_http2();
                }
                if connection_ended && is_new && done == Done::Anything {
                    pool.failed(&server);
                }
                if !bodiless || !(done == Done::Nothing || request.method.is_idempotent()) {
                    return Err(error);
                }
                if connection_ended && !reconnected && (done == Done::Nothing || !is_new) {
                    reconnected = true;
                } else {
                    tried.push(server);
                }
                failure = error;
            }
        }
    }
}

/// A handle of a connection on which a stream may be opened: the one that is there, or a new one, and whether it is new.
async fn sender(pool: &UpstreamPool, server: &Server) -> io::Result<(SendRequest<Bytes>, bool)> {
    if let Some(sender) = server.http2()
        && let Ok(ready) = sender.ready().await
    {
        return Ok((ready, false));
    }
    // Of many requests that find none, one opens it.
    let _turn = server.opening.lock().await;
    if let Some(sender) = server.http2()
        && let Ok(ready) = sender.ready().await
    {
        return Ok((ready, false));
    }
    let sender = open(pool.upstream(), &server.endpoint).await?;
    server.keep_http2(sender.clone());
    Ok((sender.ready().await.map_err(io::Error::other)?, true))
}

struct Failed {
    error: SendError,
    done: Done,
    /// Whether the whole connection has ended, not this stream alone.
    connection_ended: bool,
}

/// What the server may have done with a request that it did not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Done {
    /// It has said so (RFC 9113 section 8.7).
    Nothing,
    Anything,
}

impl From<h2::Error> for Failed {
    fn from(error: h2::Error) -> Failed {
        let ended_in_order =
            error.is_go_away() && error.is_remote() && error.reason() == Some(Reason::NO_ERROR);
        let refused = error.reason() == Some(Reason::REFUSED_STREAM);
        Failed {
            done: if refused || ended_in_order { Done::Nothing } else { Done::Anything },
            connection_ended: error.is_go_away() || error.is_io(),
            error: SendError::Broken(io::Error::other(error)),
        }
    }
}

impl From<SendError> for Failed {
    fn from(error: SendError) -> Failed {
        Failed { error, done: Done::Anything, connection_ended: false }
    }
}

async fn exchange<'c>(
    pool: &Rc<UpstreamPool>,
    place: Place,
    mut sender: SendRequest<Bytes>,
    request: &OutgoingRequest<'_>,
    body: Option<RequestBody<'c>>,
) -> Result<UpstreamResponse<'c>, Failed> {
    let settings = pool.settings();
    let patience = request.patience.head();
    let secure = matches!(settings.urls[place.server.endpoint.url], UpstreamUrl::Tcp { secure: true, .. });
    let head = told_in_http2(request.head, secure)?;
    let (mut response, stream) = sender.send_request(head, body.is_none())?;
    let mut upload = body.map(|body| Http2Upload::new(body, stream));
    let mut deadline = Deadline::default();
    deadline.set(request.now + patience);
    let response = poll_fn(|cx| {
        if let Some(transfer) = &mut upload {
            match transfer.poll(cx) {
                Poll::Ready(Err(UploadEnd::Client(error))) => {
                    return Poll::Ready(Err(SendError::Body(error).into()));
                }
                // A server that takes no more may have answered already: the look below tells.
                Poll::Ready(_) => {
                    upload = None;
                    deadline.clear();
                }
                Poll::Pending if transfer.waits_for_client => deadline.clear(),
                Poll::Pending => {}
            }
        }
        match std::pin::Pin::new(&mut response).poll(cx) {
            Poll::Ready(response) => Poll::Ready(response.map_err(Failed::from)),
            Poll::Pending => deadline.poll_within(cx, patience).map(|()| Err(SendError::Timeout.into())),
        }
    })
    .await?;
    let (parts, stream) = response.into_parts();
    let head = told_in_http1(&parts).map_err(Failed::from)?;
    let framing = match response_framing(&head, request.method) {
        Ok(BodyFraming::UntilClose) if stream.is_end_stream() => BodyFraming::Empty,
        Ok(BodyFraming::UntilClose) => BodyFraming::Chunked,
        Ok(framing) => framing,
        Err(_) => return Err(SendError::BadResponse("the response's framing is ambiguous").into()),
    };
    let ends_at = request.patience.total.map(|total| request.now + total);
    let body = Http2Body::new(place, head, stream, upload, request.patience.body, ends_at);
    Ok(UpstreamResponse { framing, body: UpstreamBody::Http2(Box::new(body)) })
}

/// A head as it would go out over HTTP/1.1, in the terms of HTTP/2. It was made by the one place that strips and injects.
fn told_in_http2(head: &[u8], secure: bool) -> Result<Request<()>, SendError> {
    const CANNOT: SendError = SendError::BadResponse("the request cannot be told in HTTP/2");
    let mut parsed = RequestHead::default();
    let limits = HeadLimits { line: usize::MAX, block: usize::MAX, ..HeadLimits::default() };
    parsed.parse(head, &HeadLimits { fields: 256, ..limits }).map_err(|_| CANNOT)?.ok_or(CANNOT)?;
    let mut request = Request::new(());
    *request.method_mut() = parsed.method().clone();
    let fields = request.headers_mut();
    let mut authority = None;
    for field in parsed.fields().iter() {
        let name = HeaderName::from_bytes(field.name).map_err(|_| CANNOT)?;
        let value = HeaderValue::from_bytes(field.value).map_err(|_| CANNOT)?;
        match name {
            HOST => authority = Some(value),
            CONNECTION | TRANSFER_ENCODING => {}
            name => drop(fields.append(name, value)),
        }
    }
    // gRPC asks for it, and trailers are taken.
    fields.insert(TE, HeaderValue::from_static("trailers"));
    let uri = Uri::builder()
        .scheme(if secure { Scheme::HTTPS } else { Scheme::HTTP })
        .authority(authority.as_ref().map_or(&b""[..], HeaderValue::as_bytes))
        .path_and_query(parsed.target())
        .build();
    *request.uri_mut() = uri.map_err(|_| CANNOT)?;
    Ok(request)
}

/// A response's head as it would have come over HTTP/1.1, so that there is one way to pass it on.
fn told_in_http1(parts: &http::response::Parts) -> Result<ResponseHead, SendError> {
    let mut text = format!("HTTP/1.1 {} \r\n", parts.status.as_str()).into_bytes();
    for (name, value) in &parts.headers {
        for piece in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
            text.extend_from_slice(piece);
        }
    }
    text.extend_from_slice(b"\r\n");
    let mut head = ResponseHead::default();
    match head.parse(&text) {
        Ok(Some(_)) => Ok(head),
        _ => Err(SendError::BadResponse("the response head is malformed or too large")),
    }
}

/// A request body on its way to a server, at the pace of its flow control.
#[derive(Debug)]
pub(crate) struct Http2Upload<'c> {
    body: RequestBody<'c>,
    stream: SendStream<Bytes>,
    waits_for_client: bool,
}

/// Why a body ends before its end.
pub(crate) enum UploadEnd {
    /// The client did not send it properly.
    Client(BodyError),
    /// The server wants no more of it.
    Server,
}

impl<'c> Http2Upload<'c> {
    fn new(body: RequestBody<'c>, stream: SendStream<Bytes>) -> Http2Upload<'c> {
        Http2Upload { body, stream, waits_for_client: false }
    }

    /// Carries on until the body is through or one of the two sides is not ready.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), UploadEnd>> {
        self.waits_for_client = false;
        loop {
            let piece = match self.body.poll_fill(cx) {
                Poll::Ready(Ok(piece)) => &piece[..piece.len().min(PIECE)],
                Poll::Ready(Err(error)) => {
                    self.stream.send_reset(Reason::CANCEL);
                    return Poll::Ready(Err(UploadEnd::Client(error)));
                }
                Poll::Pending => {
                    self.waits_for_client = true;
                    return Poll::Pending;
                }
            };
            if piece.is_empty() {
                return Poll::Ready(self.stream.send_data(Bytes::new(), true).map_err(|_| UploadEnd::Server));
            }
            self.stream.reserve_capacity(piece.len());
            while self.stream.capacity() == 0 {
                match ready!(self.stream.poll_capacity(cx)) {
                    Some(Ok(_)) => {}
                    Some(Err(_)) | None => return Poll::Ready(Err(UploadEnd::Server)),
                }
            }
            let n = piece.len().min(self.stream.capacity());
            if self.stream.send_data(Bytes::copy_from_slice(&piece[..n]), false).is_err() {
                return Poll::Ready(Err(UploadEnd::Server));
            }
            self.body.consume(n);
        }
    }
}

/// The status that a server answers a GET with, over a connection of its own.
pub(crate) async fn status_of(upstream: &Upstream, endpoint: &Endpoint, path: &str) -> Option<u16> {
    let url = &upstream.settings.urls[endpoint.url];
    let secure = matches!(url, UpstreamUrl::Tcp { secure: true, .. });
    let head = format!(
        "GET {path} HTTP/1.1\r\nHost: {}\r\nUser-Agent: auth-gateway-health\r\n\r\n",
        url.authority()
    );
    let mut sender = open(upstream, endpoint).await.ok()?.ready().await.ok()?;
    let (response, _) = sender.send_request(told_in_http2(head.as_bytes(), secure).ok()?, true).ok()?;
    Some(response.await.ok()?.status().as_u16())
}

/// When a connection was last used.
#[derive(Debug)]
pub(crate) struct Kept {
    pub(crate) sender: SendRequest<Bytes>,
    pub(crate) since: Instant,
}
