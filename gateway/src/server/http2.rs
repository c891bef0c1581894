//! An HTTP/2 connection (RFC 9113): hyper's server, where each stream is a request of the same stack and a
//! task of its own.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::{Rc, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use http::Request;
use http_body::Body as _;
use hyper::body::Incoming as IncomingBody;
use hyper::server::conn::http2::Builder;
use hyper_util::rt::{TokioIo, TokioTimer};
use pin_project_lite::pin_project;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;

use super::http2_frame_sizes::FrameSizes;
use super::worker::SharedStack;
use crate::client_addr::ClientAddr;
use crate::config::Limits;
use crate::http1::{BodyFraming, request_framing};
use crate::layers::access_log::LoggedBody;
use crate::net::{Deadline, Lingering};
use crate::rejection::Rejection;
use crate::request::Incoming;
use crate::request_body::RequestBody;
use crate::runtime::Worker;
use crate::stack::RequestStack;
use crate::stream_state::{StreamState, WATCH_INTERVAL};

/// Flow-control windows of a stream and of a connection, in bytes: how much of its bodies a client may send
/// ahead.
const STREAM_WINDOW: u32 = 64 << 10;
const CONNECTION_WINDOW: u32 = 1 << 20;
/// Maximum of a stream's response that is buffered for writing, in bytes.
const SEND_BUFFER: usize = 128 << 10;
/// Rapid reset protection: a connection is closed after this many streams that the client reset before they
/// were processed, or after this many stream errors of its own (CVE-2023-44487, CVE-2025-8671).
const MAX_PENDING_RESETS: usize = 20;
const MAX_STREAM_ERRORS: usize = 1024;
/// How long an idle client may take to notice GOAWAY.
const GOAWAY_GRACE: Duration = Duration::from_secs(5);

/// Serves a connection until one side closes it. `draining` turns true at graceful shutdown.
pub(super) async fn serve<S, T>(
    socket: T,
    client: ClientAddr,
    stack: SharedStack<S>,
    mut draining: watch::Receiver<bool>,
) where
    S: RequestStack,
    T: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let worker = Rc::clone(stack.worker());
    let limits = worker.state().config.settings.limits.clone();
    let streams = Rc::new(Streams::default());
    let service = Http2Service { stack, client: Rc::new(client), streams: Rc::clone(&streams) };
    let io = TokioIo::new(FrameSizes::new(Lingering::new(socket)));
    let mut connection =
        pin!(builder(&limits, StreamExecutor(Rc::clone(&streams))).serve_connection(io, service));
    let mut stop = pin!(async move {
        // An error means that the sender was dropped: shutdown as well.
        let _ = draining.wait_for(|draining| *draining).await;
    });
    let (mut idle, mut watching) = (Deadline::default(), Deadline::default());
    let (mut leaving, mut begun) = (false, false);
    poll_fn(|cx| {
        loop {
            if let Poll::Ready(ended) = connection.as_mut().poll(cx) {
                if let Err(error) = ended {
                    tracing::debug!(%error, "a connection of HTTP/2 broke");
                }
                return Poll::Ready(());
            }
            if !leaving && stop.as_mut().poll(cx).is_ready() {
                leaving = true;
                idle.clear();
                connection.as_mut().graceful_shutdown();
                continue;
            }
            // The end of a stream wakes the connection, which has the last frames to write.
            if streams.open.get() > 0 {
                begun = true;
                idle.clear();
                // How long open streams may take during shutdown is limited by the drain timeout.
                if watching.poll_within(cx, WATCH_INTERVAL).is_pending() {
                    return Poll::Pending;
                }
                watching.clear();
                streams.watch(&worker, limits.write_timeout);
                continue;
            }
            watching.clear();
            let timeout = match (leaving, begun) {
                (true, _) => GOAWAY_GRACE,
                (false, true) => limits.idle_timeout,
                (false, false) => limits.first_byte_timeout,
            };
            if idle.poll_within(cx, timeout).is_pending() {
                return Poll::Pending;
            }
            if leaving || !begun {
                return Poll::Ready(());
            }
            // GOAWAY: no new requests are accepted, except those the client sent before it could know (RFC
            // 9113 section 6.8).
            leaving = true;
            idle.clear();
            connection.as_mut().graceful_shutdown();
        }
    })
    .await;
}

fn builder(limits: &Limits, executor: StreamExecutor) -> Builder<StreamExecutor> {
    let mut builder = Builder::new(executor);
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.streams)
        .keep_alive_interval(limits.http2_keep_alive_interval)
        .keep_alive_timeout(limits.http2_keep_alive_timeout)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(u32::try_from(limits.header_block).unwrap_or(u32::MAX))
        .max_send_buf_size(SEND_BUFFER)
        .max_pending_accept_reset_streams(MAX_PENDING_RESETS)
        .max_local_error_reset_streams(MAX_STREAM_ERRORS);
    builder
}

/// The open streams of a connection.
#[derive(Default)]
struct Streams {
    open: Cell<usize>,
    states: RefCell<Vec<Weak<StreamState>>>,
    /// The stream whose request was just handed to the stack: hyper creates its task next.
    starting: Cell<Option<Rc<StreamState>>>,
}

impl Streams {
    fn start(&self) -> Rc<StreamState> {
        let state = StreamState::of_http2_stream();
        self.states.borrow_mut().push(Rc::downgrade(&state));
        self.starting.set(Some(Rc::clone(&state)));
        state
    }

    /// Checks whether the open streams may go on, and wakes those that may not.
    fn watch(&self, worker: &Worker, write_timeout: Duration) {
        self.states.borrow_mut().retain(|state| {
            let Some(state) = state.upgrade() else { return false };
            if worker.watch(&state, write_timeout).is_some() {
                state.wake();
            }
            true
        });
    }
}

/// Runs each stream's task on the worker's own thread, until it ends or is aborted.
#[derive(Clone)]
struct StreamExecutor(Rc<Streams>);

impl<F: Future<Output = ()> + 'static> hyper::rt::Executor<F> for StreamExecutor {
    fn execute(&self, future: F) {
        match self.0.starting.take() {
            Some(state) => {
                self.0.open.set(self.0.open.get() + 1);
                let permit = StreamPermit(Rc::clone(&self.0));
                tokio::task::spawn_local(StreamTask { future, state, permit });
            }
            None => drop(tokio::task::spawn_local(future)),
        }
    }
}

/// Counts a stream among the open ones; released on drop, also when its task panics.
struct StreamPermit(Rc<Streams>);

impl Drop for StreamPermit {
    fn drop(&mut self) {
        self.0.open.set(self.0.open.get() - 1);
    }
}

pin_project! {
    /// hyper's task of one stream. When the stream is aborted, dropping hyper's future resets it, so that the
    /// response is not taken for complete.
    struct StreamTask<F> {
        #[pin]
        future: F,
        state: Rc<StreamState>,
        permit: StreamPermit,
    }
}

impl<F: Future<Output = ()>> Future for StreamTask<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        if this.state.abort.get().is_some() {
            // A gRPC client gets a status, unless it reads nothing: then the next check resets the stream.
            return match this.state.ends_with_trailers.take() {
                true => this.future.poll(cx),
                false => Poll::Ready(()),
            };
        }
        let mut task = this.state.task.borrow_mut();
        if !task.as_ref().is_some_and(|task| task.will_wake(cx.waker())) {
            *task = Some(cx.waker().clone());
        }
        drop(task);
        this.future.poll(cx)
    }
}

/// The stack as a hyper service, for one connection.
struct Http2Service<S> {
    stack: SharedStack<S>,
    client: Rc<ClientAddr>,
    streams: Rc<Streams>,
}

impl<S: RequestStack> hyper::service::Service<Request<IncomingBody>> for Http2Service<S> {
    type Response = http::Response<LoggedBody>;
    type Error = std::convert::Infallible;
    type Future = S::Future;

    fn call(&self, request: Request<IncomingBody>) -> S::Future {
        let worker = self.stack.worker();
        let state = worker.state();
        let limits = &state.config.settings.limits;
        let (parts, body) = request.into_parts();
        let stream = self.streams.start();
        let mut head = worker.take_head();
        let read = head.read_http2(&parts, !body.is_end_stream(), &limits.head());
        let refused = read.err().map(|error| Box::new(Rejection::BadHead(error)));
        // A framing error is rejected by admission, not here.
        let framing = request_framing(&head).unwrap_or(BodyFraming::Empty);
        let body = RequestBody::new(body, framing, limits.body_timeout, Rc::clone(&stream));
        self.stack.call(Incoming { head, refused, body, client: Rc::clone(&self.client), stream })
    }
}
