//! Request id (`X-Request-Id`): assigned to each request when it arrives, together with the configuration
//! that it uses to its end.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use http::header::CONNECTION;
use http::{HeaderName, HeaderValue};
use pin_project_lite::pin_project;
use tokio::time::Instant;
use tower::{Layer, Service};

use crate::client_addr::ClientAddr;
use crate::config::{TraceSource, Tracing};
use crate::http1::{HeaderKind, RequestHead, Version};
use crate::request::{AccessLogRecord, Incoming, Received, RequestContext, RequestTrace};
use crate::runtime::Worker;
use crate::telemetry::{RequestId, TraceContext, TracePolicy};

static X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Creates the [`RequestContext`], and adds the id to the response.
#[derive(Clone)]
pub(crate) struct RequestIdLayer {
    worker: Rc<Worker>,
}

impl RequestIdLayer {
    pub(crate) fn new(worker: Rc<Worker>) -> RequestIdLayer {
        RequestIdLayer { worker }
    }
}

impl<S> Layer<S> for RequestIdLayer {
    type Service = RequestIdService<S>;

    fn layer(&self, inner: S) -> RequestIdService<S> {
        RequestIdService { inner, worker: Rc::clone(&self.worker) }
    }
}

/// See [`RequestIdLayer`].
pub(crate) struct RequestIdService<S> {
    inner: S,
    worker: Rc<Worker>,
}

impl<S, B> Service<Incoming> for RequestIdService<S>
where
    S: Service<Received, Response = http::Response<B>>,
{
    type Response = http::Response<B>;
    type Error = S::Error;
    type Future = RequestIdFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, incoming: Incoming) -> Self::Future {
        let Incoming { head, refused, body, client, stream } = incoming;
        let worker = &self.worker;
        if refused.is_some() {
            // What follows on the connection may be anything.
            stream.close.set(true);
        }
        let state = worker.state();
        let settings = &state.config.settings.tracing;
        let exports = worker.gateway.spans.is_some();
        let trace = if settings.enabled { trace_of(settings, exports, &client, &head) } else { None };
        let context = Rc::new(RequestContext {
            trace: trace.map(RequestTrace::new),
            request_id: accepted_id(&client, &head)
                .unwrap_or_else(|| worker.request_ids.borrow_mut().next_id()),
            head: head.into(),
            client,
            state,
            stream,
            started: Instant::now(),
            now_millis: worker.now_millis(),
            record: AccessLogRecord::default(),
            worker: Rc::clone(worker),
        });
        let inner = self.inner.call(Received { context: Rc::clone(&context), body, refused });
        RequestIdFuture { inner, context }
    }
}

/// A trusted proxy's request id is kept, so that one id correlates a request across all logs.
fn accepted_id(client: &ClientAddr, head: &RequestHead) -> Option<RequestId> {
    let given = client.is_trusted().then(|| head.headers().only(HeaderKind::XRequestId)).flatten()?;
    RequestId::accept(given.value)
}

/// The trace that a request continues or begins.
fn trace_of(
    settings: &Tracing,
    exports: bool,
    client: &ClientAddr,
    head: &RequestHead,
) -> Option<TraceContext> {
    let accepted = match settings.accept {
        TraceSource::Always => true,
        TraceSource::Trusted => client.is_trusted(),
        TraceSource::Never => false,
    };
    let values = |kind| head.headers().of_kind(kind).filter(move |_| accepted).map(|field| field.value);
    let policy = TracePolicy { generate: settings.generate, sample: settings.sample_ratio, exports };
    TraceContext::of(values(HeaderKind::TraceParent), values(HeaderKind::TraceState), policy)
}

pin_project! {
    /// See [`RequestIdLayer`].
    pub(crate) struct RequestIdFuture<F> {
        #[pin]
        inner: F,
        context: Rc<RequestContext>,
    }
}

impl<F, B, E> Future for RequestIdFuture<F>
where
    F: Future<Output = Result<http::Response<B>, E>>,
{
    type Output = Result<http::Response<B>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        // What is logged meanwhile belongs to this trace.
        let _current = this.context.trace.as_ref().map(|trace| trace.context.enter());
        // Edited in place: to take it out and put it back would copy it.
        let mut polled = this.inner.poll(cx);
        let Poll::Ready(Ok(response)) = &mut polled else { return polled };
        let (context, headers) = (&**this.context, response.headers_mut());
        if let Ok(id) = HeaderValue::from_bytes(context.request_id.as_bytes()) {
            headers.insert(X_REQUEST_ID.clone(), id);
        }
        context.stream.responded.set(true);
        // HTTP/2 has no such field (RFC 9113 section 8.2.2): its connections end with GOAWAY.
        let closes = context.stream.close.get() || context.worker.is_draining();
        if closes && context.head.version() != Version::Http2 && !headers.contains_key(CONNECTION) {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        polled
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::admission::test_support::head;

    #[test]
    fn only_a_trusted_proxys_one_well_formed_id_is_kept() {
        let proxies = ["192.0.2.0/24".parse().unwrap()];
        for (peer, fields, kept) in [
            ([192, 0, 2, 1], "X-Request-Id: abc-123\r\n", true),
            ([198, 51, 100, 1], "X-Request-Id: abc-123\r\n", false),
            ([192, 0, 2, 1], "", false),
            ([192, 0, 2, 1], "X-Request-Id: a\r\nX-Request-Id: b\r\n", false),
            ([192, 0, 2, 1], "X-Request-Id: with \"quotes\"\r\n", false),
        ] {
            let client = ClientAddr::new((peer, 1).into(), &proxies, false);
            let head = head(&format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}"));
            let id = accepted_id(&client, &head);
            assert_eq!(id.as_ref().map(RequestId::as_str), kept.then_some("abc-123"), "{peer:?} {fields}");
        }
    }
}
