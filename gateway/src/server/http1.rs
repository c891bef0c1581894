//! An HTTP/1.1 connection: hyper's server behind the strict gate, keep-alive, parked while idle, with a
//! deadline of its own for each kind of wait.

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http::Request;
use hyper::body::Incoming as IncomingBody;
use hyper::server::conn::http1::{Builder, Connection};
use pin_project_lite::pin_project;
use tokio::sync::watch;
use tokio::time::Instant;

use super::bidirectional_copy::copy_bidirectional;
use super::strict_io::{StrictConnection, StrictHead, StrictIo, Wait};
use crate::client_addr::ClientAddr;
use crate::layers::access_log::LoggedBody;
use crate::net::{Deadline, Linger, Socket, Ticks};
use crate::rejection::Rejection;
use crate::request::Incoming;
use crate::request_body::RequestBody;
use crate::runtime::Worker;
use crate::stack::RequestStack;
use crate::stream_state::WATCH_INTERVAL;
use crate::telemetry::AbortReason;

use super::worker::SharedStack;

/// Grace periods at graceful shutdown: for the first request of a new connection, and for the next one of an
/// idle connection. A request may be on its way; its response carries `Connection: close`.
const FIRST_REQUEST_DRAIN_GRACE: Duration = Duration::from_secs(1);
const IDLE_DRAIN_GRACE: Duration = Duration::from_millis(250);
/// Maximum number of a worker's connections that keep hyper's buffers while they are idle, until they are so at two
/// [ticks](WATCH_INTERVAL): allocating them anew for each request would cost more. Beyond it, each parks as soon as
/// it is idle, so that a burst of clients does not need the memory of as many active ones.
const MAX_UNPARKED: usize = 256;
/// A client that has closed its write side, and may still read, gets its response within this time.
const HALF_CLOSE_GRACE: Duration = Duration::from_secs(1);
/// Maximum size of hyper's write buffer, in bytes.
const MAX_WRITE_BUFFER: usize = 64 * 1024;

/// Serves a connection until one side closes it. `draining` turns true at graceful shutdown.
pub(super) async fn serve<S: RequestStack>(
    socket: Socket,
    client: ClientAddr,
    worker: &Rc<Worker>,
    stack: SharedStack<S>,
    mut draining: watch::Receiver<bool>,
) {
    let connection = StrictConnection::new(socket, Rc::clone(worker));
    let service = Http1Service { stack, client: Rc::new(client), connection: Rc::clone(&connection) };
    let mut stop = pin!(async move {
        // An error means that the sender was dropped: shutdown as well.
        let _ = draining.wait_for(|draining| *draining).await;
    });
    let mut timeout = worker.state().config.settings.limits.first_byte_timeout;
    let mut deadline = Deadline::default();
    deadline.set(Instant::now() + timeout);
    let (mut stopping, mut has_grace) = (false, false);
    loop {
        // Parked: only the socket and a timer are held.
        let readable = poll_fn(|cx| match connection.socket.poll_readable(cx) {
            Poll::Ready(ready) => Poll::Ready(ready.is_ok()),
            Poll::Pending => {
                stopping = stopping || stop.as_mut().poll(cx).is_ready();
                if stopping && !has_grace {
                    has_grace = true;
                    let served = connection.has_served();
                    let grace = if served { IDLE_DRAIN_GRACE } else { FIRST_REQUEST_DRAIN_GRACE };
                    deadline.set(Instant::now() + grace);
                }
                deadline.poll_within(cx, timeout).map(|()| false)
            }
        })
        .await;
        if !readable {
            return;
        }
        // Boxed, for a task is as large as its largest await, and most connections are idle.
        match Box::pin(serve_requests(&connection, service.clone())).await {
            // Spurious wake-up: the first byte is still to come, or the grace period goes on.
            End::Idle if stopping || !connection.has_served() => {}
            End::Idle => {
                timeout = worker.state().config.settings.limits.idle_timeout;
                deadline.set(Instant::now() + timeout);
            }
            End::Close if connection.ends_with_request() => return,
            End::Close => {
                let time = worker.state().config.settings.limits.lingering_time;
                let is_sending = connection.is_within_request() && !stopping;
                let linger = if is_sending { Linger::for_upload(time) } else { Linger::BRIEF };
                return Box::pin(connection.socket.drain(linger)).await;
            }
            End::Truncated => return Box::pin(connection.socket.drain(Linger::BRIEF)).await,
            End::Abort => return connection.socket.reset_at_drop(),
            End::Upgrade => return Box::pin(serve_tunnel(&connection, worker)).await,
        }
    }
}

/// How a round of serving requests ended.
enum End {
    /// The connection is idle.
    Idle,
    /// Close it with a lingering close, so that the client can read the last response.
    Close,
    /// A response is incomplete, and its framing shows that: close, so that the client can read what there is.
    Truncated,
    /// A response is incomplete: reset the connection, so that the response is not taken for complete.
    Abort,
    /// The connection was upgraded.
    Upgrade,
}

/// Runs hyper's server until the connection is idle or ends.
async fn serve_requests<S: RequestStack>(line: &Rc<StrictConnection>, service: Http1Service<S>) -> End {
    let worker = Rc::clone(service.stack.worker());
    let _unparked = worker.unpark();
    let mut connection: Connection<StrictIo, Http1Service<S>> = Builder::new()
        // The gate notices by itself that a client disconnects while its request is in flight.
        .half_close(true)
        // The gate enforces the deadlines, each separately.
        .header_read_timeout(None)
        .max_buf_size(MAX_WRITE_BUFFER)
        // Small responses leave in one write; larger pieces are not worth the set-up of a vectored write.
        .writev(false)
        .serve_connection(StrictIo(Rc::clone(line)), service);
    let (mut waiting, mut ticks) = (Deadline::default(), Ticks::every(WATCH_INTERVAL));
    let mut last = Wait::Nothing;
    let (mut closed_since, mut idle_at_tick) = (None, None);
    poll_fn(|cx| {
        let mut asked_after = None;
        loop {
            line.wait.set(Wait::Nothing);
            if let Poll::Ready(ended) = Pin::new(&mut connection).poll(cx) {
                return Poll::Ready(end_of(line, ended));
            }
            if let Poll::Ready(Err(_)) = line.poll_informational(cx) {
                return Poll::Ready(End::Abort);
            }
            let (in_flight, begun) = (line.stream.in_flight.get(), Some(line.requests_begun()));
            if in_flight && line.read_ahead(cx).is_err() {
                return Poll::Ready(End::Abort);
            }
            let wait = line.wait.get();
            if wait == Wait::Nothing && !in_flight && asked_after != begun {
                // hyper does not look for the next request by itself where its last read found nothing.
                asked_after = begun;
                continue;
            }
            if wait != last || line.progress.take() {
                last = wait;
                waiting.clear();
            }
            let mut idle_for_a_tick = false;
            if ticks.poll_tick(cx) {
                idle_for_a_tick = wait == Wait::Idle && idle_at_tick == begun;
                idle_at_tick = begun.filter(|_| wait == Wait::Idle);
                let write_timeout = worker.state().config.settings.limits.write_timeout;
                // A client that only closes its write side may still read its response.
                let mut has_left = || {
                    line.has_closed_behind_request()
                        && closed_since.get_or_insert_with(Instant::now).elapsed() >= HALF_CLOSE_GRACE
                };
                if in_flight && (worker.watch(&line.stream, write_timeout).is_some() || has_left()) {
                    return Poll::Ready(End::Abort);
                }
            }
            let limits = || worker.state();
            match wait {
                Wait::Nothing | Wait::Body => return Poll::Pending,
                Wait::Idle => {
                    // Graceful shutdown is noticed at the next tick.
                    let keeps_buffers = worker.unparked() <= MAX_UNPARKED && !idle_for_a_tick;
                    if keeps_buffers && !worker.is_draining() {
                        return Poll::Pending;
                    }
                    line.release_buffers();
                    return Poll::Ready(End::Idle);
                }
                Wait::Head => {
                    ready!(waiting.poll_within(cx, limits().config.settings.limits.header_timeout));
                    line.refuse_head(Rejection::HeadTimeout);
                }
                Wait::Write => {
                    ready!(waiting.poll_within(cx, limits().config.settings.limits.write_timeout));
                    line.stream.abort.set(Some(AbortReason::ClientTimeout));
                    return Poll::Ready(End::Abort);
                }
            }
        }
    })
    .await
}

fn end_of(line: &StrictConnection, ended: hyper::Result<()>) -> End {
    if line.stream.tunnel.borrow().is_some() {
        return End::Upgrade;
    }
    match ended {
        Ok(()) => End::Close,
        // The body's source failed. Only HTTP/1.0 knows bodies that end with the connection.
        Err(error) if error.is_user() && !line.http10.get() => End::Truncated,
        Err(error) => {
            tracing::debug!(%error, "a connection broke");
            End::Abort
        }
    }
}

/// Copies bytes in both directions once the upstream has accepted the upgrade. hyper's upgraded connections
/// have to be `Send`, which nothing here is, so hyper's connection was dropped and the socket goes on without
/// it.
async fn serve_tunnel(line: &StrictConnection, worker: &Worker) {
    let Some(mut tunnel) = line.stream.tunnel.take() else { return };
    let timeout = worker.state().config.settings.limits.tunnel_timeout;
    let log = tunnel.log.take();
    let mut early = line.take_input();
    let (bytes, end) =
        copy_bidirectional(&line.socket, &mut early, *tunnel, &line.stream, worker, timeout).await;
    tracing::debug!(%end, "an upgraded connection has ended");
    if let Some(log) = log {
        log.finish(bytes);
    }
    line.socket.drain(Linger::BRIEF).await;
}

/// The stack as a hyper service, for one connection.
struct Http1Service<S> {
    stack: SharedStack<S>,
    client: Rc<ClientAddr>,
    connection: Rc<StrictConnection>,
}

impl<S> Clone for Http1Service<S> {
    fn clone(&self) -> Http1Service<S> {
        Http1Service {
            stack: self.stack.clone(),
            client: Rc::clone(&self.client),
            connection: Rc::clone(&self.connection),
        }
    }
}

impl<S: RequestStack> hyper::service::Service<Request<IncomingBody>> for Http1Service<S> {
    type Response = http::Response<LoggedBody>;
    type Error = NoHead;
    type Future = Http1Future<S::Future>;

    fn call(&self, request: Request<IncomingBody>) -> Self::Future {
        let Some(StrictHead { head, framing, refused }) = self.connection.take_head() else {
            return Http1Future { inner: None };
        };
        let worker = self.stack.worker();
        let state = worker.state();
        let limits = &state.config.settings.limits;
        let stream = Rc::clone(&self.connection.stream);
        let mut body =
            RequestBody::new(request.into_body(), framing, limits.body_timeout, Rc::clone(&stream));
        body.discard_within(limits.lingering_time);
        let client = Rc::clone(&self.client);
        Http1Future { inner: Some(self.stack.call(Incoming { head, refused, body, client, stream })) }
    }
}

/// hyper parsed a request that the gate did not pass on.
#[derive(Debug, thiserror::Error)]
#[error("a request that the strict gate did not pass")]
struct NoHead;

pin_project! {
    struct Http1Future<F> {
        #[pin]
        inner: Option<F>,
    }
}

impl<F> Future for Http1Future<F>
where
    F: Future<Output = Result<http::Response<LoggedBody>, Infallible>>,
{
    type Output = Result<http::Response<LoggedBody>, NoHead>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().inner.as_pin_mut() {
            Some(inner) => inner.poll(cx).map_err(|never| match never {}),
            None => Poll::Ready(Err(NoHead)),
        }
    }
}
