//! The access log and the request metrics: one line and one count per request, when the last of its response is gone.

use std::convert::Infallible;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::StatusCode;
use http_body::{Body as _, Frame, SizeHint};
use pin_project_lite::pin_project;
use tokio::time::Instant;
use tower::{Layer, Service};

use crate::grpc;
use crate::http1::Version;
use crate::request::{Received, RequestContext};
use crate::response::{AbortedBody, Body, Response};
use crate::telemetry::{AbortReason, AccessRecord};

/// What the log says of a request whose client left before it was answered (nginx's 499): nobody was told anything.
const CLIENT_CLOSED_REQUEST: u16 = 499;

/// Writes the access line, and counts.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AccessLogLayer;

impl<S> Layer<S> for AccessLogLayer {
    type Service = AccessLogService<S>;

    fn layer(&self, inner: S) -> AccessLogService<S> {
        AccessLogService { inner }
    }
}

/// See [`AccessLogLayer`].
#[derive(Debug)]
pub(crate) struct AccessLogService<S> {
    inner: S,
}

impl<S: Service<Received, Response = Response, Error = Infallible>> Service<Received>
    for AccessLogService<S>
{
    type Response = http::Response<LoggedBody>;
    type Error = Infallible;
    type Future = AccessLogFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Received) -> Self::Future {
        let log = ResponseLog {
            context: Rc::clone(&request.context),
            status: None,
            bytes: 0,
            outcome: Outcome::Open,
        };
        AccessLogFuture { inner: self.inner.call(request), log: Some(log) }
    }
}

pin_project! {
    /// See [`AccessLogLayer`].
    #[derive(Debug)]
    pub(crate) struct AccessLogFuture<F> {
        #[pin]
        inner: F,
        log: Option<ResponseLog>,
    }
}

impl<F: Future<Output = Result<Response, Infallible>>> Future for AccessLogFuture<F> {
    type Output = Result<http::Response<LoggedBody>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let response = ready!(this.inner.poll(cx))?;
        let Some(mut log) = this.log.take() else { return Poll::Pending };
        log.status = Some(response.status());
        let is_head = *log.context.head.method() == http::Method::HEAD;
        let bodiless = is_head
            || matches!(response.status(), StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
            || response.body().is_end_stream();
        let mut log = Some(log);
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            let stream = log.as_ref().map(|log| Rc::clone(&log.context.stream));
            if let Some(stream) = stream
                && let Some(tunnel) = &mut *stream.tunnel.borrow_mut()
            {
                tunnel.log = log.take();
            }
        } else if bodiless && let Some(log) = &mut log {
            log.outcome = Outcome::Complete;
        }
        if let Some(log) = &log {
            let head = &log.context.head;
            let grpc = head.version() == Version::Http2 && grpc::media_type(head).is_some();
            log.context.stream.ends_with_trailers.set(grpc);
        }
        Poll::Ready(Ok(response.map(|body| LoggedBody { body, log, failed: None })))
    }
}

/// One access line to be written: when this is dropped, the response is over, by whomever.
#[derive(Debug)]
pub(crate) struct ResponseLog {
    context: Rc<RequestContext>,
    /// None where the request was given up before it was answered.
    status: Option<StatusCode>,
    bytes: u64,
    outcome: Outcome,
}

/// How far a response's body has come.
#[derive(Debug, Clone, Copy)]
enum Outcome {
    Open,
    Complete,
    /// The source failed.
    Aborted(AbortReason),
}

impl ResponseLog {
    /// Ends the exchange of a connection that has left HTTP; so many bytes went to the client.
    pub(crate) fn finish_tunnel(mut self, bytes: u64) {
        self.bytes = bytes;
        self.outcome = Outcome::Complete;
    }
}

impl Drop for ResponseLog {
    fn drop(&mut self) {
        let context = &*self.context;
        context.stream.in_flight.set(false);
        let aborted = match self.outcome {
            Outcome::Complete => None,
            Outcome::Aborted(reason) => Some(reason),
            // Nobody asked for more of it: the connection says why, or the client left.
            Outcome::Open => Some(context.stream.abort.get().unwrap_or(AbortReason::ClientClosed)),
        };
        let status = self.status.map_or(CLIENT_CLOSED_REQUEST, |status| status.as_u16());
        let ended = Instant::now();
        let duration = ended.duration_since(context.started);
        let worker = &context.worker;
        worker.metrics.request(&context.state.counters, context.route_label(), status, duration);
        if let Some(reason) = aborted {
            worker.metrics.response_aborted(reason);
        }
        let Some(access_log) = &worker.access_log else { return };
        let (settings, record) = (&context.state.config.settings, &context.record);
        let head = &context.head;
        let (method, path) = match head.has_request_line() {
            true => (head.method().as_str(), logged_path(head.target())),
            false => ("-", "-".into()),
        };
        let identity = record.identity.borrow();
        let username = record.username.borrow();
        let verified = identity.as_ref().map(|identity| identity.claims().username());
        access_log.write(&AccessRecord {
            at_millis: context.now_millis + duration.as_millis() as u64,
            request_id: context.request_id.as_str(),
            client: &context.client.address_text(head, &settings.server.trusted_proxies),
            method,
            path: &path,
            host: logged_host(head),
            protocol: if head.has_request_line() { protocol(head.version()) } else { "-" },
            status,
            bytes_sent: self.bytes,
            duration,
            route: record.route.get().map(|index| settings.routes[index].path.as_str()),
            upstream: record.upstream.get().map(|index| context.state.upstream(index).name()),
            user: verified.or(username.as_deref()),
            code: record.code.get().map(crate::rejection::Code::name),
            cors: record.cors.get(),
            aborted: aborted.map(AbortReason::name),
        });
    }
}

/// The path of a target without its query, which may carry secrets; in absolute form without the authority.
fn logged_path(target: &[u8]) -> std::borrow::Cow<'_, str> {
    let path = target.split(|&b| b == b'?').next().unwrap_or(target);
    let authority = path.windows(3).position(|w| w == b"://").filter(|_| !path.starts_with(b"/"));
    let path = match authority {
        Some(at) => {
            path[at + 3..].iter().position(|&b| b == b'/').map_or(&b"/"[..], |slash| &path[at + 3 + slash..])
        }
        None => path,
    };
    String::from_utf8_lossy(path)
}

fn logged_host(head: &crate::http1::RequestHead) -> &str {
    let field = head.headers().only(crate::http1::HeaderKind::Host);
    field
        .and_then(|field| std::str::from_utf8(field.value).ok())
        .filter(|host| !host.is_empty())
        .unwrap_or("-")
}

fn protocol(version: Version) -> &'static str {
    match version {
        Version::Http10 => "HTTP/1.0",
        Version::Http11 => "HTTP/1.1",
        Version::Http2 => "HTTP/2",
    }
}

/// A response's body; when it is gone, the access line is written.
#[derive(Debug)]
pub(crate) struct LoggedBody {
    body: Body,
    log: Option<ResponseLog>,
    /// Why the body ends early, held back for so many polls.
    failed: Option<(AbortedBody, u8)>,
}

/// hyper resets a stream ahead of what it has queued. So that an abort never overtakes head and data, the connection's task runs
/// so often before hyper gets the error.
const POLLS_BEFORE_RESET: u8 = 3;

impl LoggedBody {
    /// The end of a body that failed: over HTTP/2 as trailers where that is gRPC, and otherwise as an error.
    fn fail(
        &mut self,
        aborted: AbortedBody,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, AbortedBody>>> {
        let Some(log) = &mut self.log else { return Poll::Ready(Some(Err(aborted))) };
        log.outcome = Outcome::Aborted(aborted.reason);
        let head = &log.context.head;
        if head.version() != Version::Http2 {
            return Poll::Ready(Some(Err(aborted)));
        }
        if grpc::media_type(head).is_some() {
            return Poll::Ready(Some(Ok(Frame::trailers(grpc_trailers(aborted.reason)))));
        }
        self.failed = Some((aborted, POLLS_BEFORE_RESET));
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

fn grpc_trailers(reason: AbortReason) -> http::HeaderMap {
    let code = match reason {
        AbortReason::SessionRevoked | AbortReason::SessionExpired => grpc::UNAUTHENTICATED,
        _ => grpc::UNAVAILABLE,
    };
    grpc::status(code, &format!("the stream was aborted: {}", reason.name()))
}

impl http_body::Body for LoggedBody {
    type Data = Bytes;
    type Error = AbortedBody;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, AbortedBody>>> {
        if let Some((aborted, polls)) = self.failed.take() {
            if polls == 0 {
                return Poll::Ready(Some(Err(aborted)));
            }
            self.failed = Some((aborted, polls - 1));
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if let Some(log) = &self.log
            && let Some(reason) = log.context.stream.abort.get()
        {
            return self.fail(AbortedBody { reason }, cx);
        }
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        let Some(log) = &mut self.log else { return polled };
        let stream = &log.context.stream;
        stream.waits_for_source.set(polled.is_pending());
        match &polled {
            Poll::Pending => return polled,
            Poll::Ready(None) => log.outcome = Outcome::Complete,
            Poll::Ready(Some(Ok(frame))) => {
                stream.progress.set(true);
                log.bytes += frame.data_ref().map_or(0, |data| data.len() as u64);
            }
            Poll::Ready(Some(Err(aborted))) => {
                let reason = aborted.reason;
                return self.fail(AbortedBody { reason }, cx);
            }
        }
        if self.body.is_end_stream()
            && let Some(log) = &mut self.log
            && matches!(log.outcome, Outcome::Open)
        {
            log.outcome = Outcome::Complete;
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
