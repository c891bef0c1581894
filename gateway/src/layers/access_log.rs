//! Access log and request metrics: one entry and one count per request, when its response has ended.

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
use crate::layers::request_spans;
use crate::request::{Received, RequestContext};
use crate::response::{Body, Response};
use crate::stream_state::TunnelLog;
use crate::telemetry::{AbortReason, AccessRecord, ProofOutcome, logged_host, logged_request_line};

/// The logged status of a request whose client disconnected before a response (nginx's 499).
const CLIENT_CLOSED_REQUEST: u16 = 499;

/// Writes the access log entry, and counts the request.
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
                tunnel.log = log.take().map(|log| Box::new(log) as Box<dyn TunnelLog>);
            }
        } else if bodiless && let Some(log) = &mut log {
            log.outcome = Outcome::Complete;
        }
        if let Some(log) = &log {
            let head = &log.context.head;
            let grpc = head.version() == Version::Http2 && grpc::call_type(head).is_some();
            log.context.stream.ends_with_trailers.set(grpc);
        }
        Poll::Ready(Ok(response.map(|body| LoggedBody { body, log, failed: None })))
    }
}

/// A pending access log entry: when it is dropped, the response has ended, for whatever reason.
#[derive(Debug)]
pub(crate) struct ResponseLog {
    context: Rc<RequestContext>,
    /// `None` where the request was cancelled before a response.
    status: Option<StatusCode>,
    bytes: u64,
    outcome: Outcome,
}

/// The progress of a response's body.
#[derive(Debug, Clone, Copy)]
enum Outcome {
    Open,
    Complete,
    /// The source failed.
    Aborted(AbortReason),
}

impl TunnelLog for ResponseLog {
    fn finish(mut self: Box<Self>, bytes: u64) {
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
            // The body was not polled to its end: the connection has the reason, or the client disconnected.
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
        let (settings, record) = (&context.state.config.settings, &context.record);
        let code = record.rejection.borrow().as_ref().map(|rejection| rejection.code().name());
        let aborted = aborted.map(AbortReason::name);
        if let Some(trace) = context.trace.as_deref().filter(|trace| trace.context.sampled)
            && let Some(exporter) = &worker.gateway.spans
        {
            request_spans::export(context, (trace, exporter), status, code.or(aborted), ended);
        }
        let Some(access_log) = &worker.access_log else { return };
        let head = &context.head;
        let (method, path) = logged_request_line(head);
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
            route: context.route_path(),
            upstream: record.upstream.get().map(|index| context.state.upstream(index).name()),
            user: verified.or(username.as_deref()),
            code,
            cors: record.cors.get(),
            dpop: record.dpop.get().map(ProofOutcome::name),
            aborted,
            trace: context.trace.as_ref().map(|trace| trace.context.ids),
        });
    }
}

fn protocol(version: Version) -> &'static str {
    match version {
        Version::Http10 => "HTTP/1.0",
        Version::Http11 => "HTTP/1.1",
        Version::Http2 => "HTTP/2",
    }
}

/// A response's body; the access log entry is written when it is dropped.
#[derive(Debug)]
pub(crate) struct LoggedBody {
    body: Body,
    log: Option<ResponseLog>,
    /// Why the body ends early, held back for so many polls.
    failed: Option<(AbortReason, u8)>,
}

/// hyper resets a stream ahead of what it has queued, and drops what it has not written to a connection. So that an abort never
/// overtakes head and data, the connection's task runs so often before hyper gets the error.
const POLLS_BEFORE_RESET: u8 = 3;

impl LoggedBody {
    /// The end of a body that failed: over HTTP/2 as trailers where that is gRPC, and otherwise as an error.
    fn fail(
        &mut self,
        aborted: AbortReason,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, AbortReason>>> {
        let Some(log) = &mut self.log else { return Poll::Ready(Some(Err(aborted))) };
        log.outcome = Outcome::Aborted(aborted);
        let head = &log.context.head;
        if head.version() == Version::Http2 && grpc::call_type(head).is_some() {
            return Poll::Ready(Some(Ok(Frame::trailers(grpc_trailers(aborted)))));
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

impl LoggedBody {
    /// The request that it answers; none once a tunnel has it.
    pub(crate) fn context(&self) -> Option<&Rc<RequestContext>> {
        self.log.as_ref().map(|log| &log.context)
    }
}

impl http_body::Body for LoggedBody {
    type Data = Bytes;
    type Error = AbortReason;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, AbortReason>>> {
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
            return self.fail(reason, cx);
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
                let reason = *aborted;
                return self.fail(reason, cx);
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
