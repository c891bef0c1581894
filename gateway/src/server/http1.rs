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
use crate::net::{Deadline, Linger, Socket};
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
/// An idle connection keeps hyper's buffers for this long: allocating them anew for each request would cost
/// more.
const PARK_AFTER: Duration = Duration::from_millis(250);
/// Maximum number of a worker's connections that may do that; beyond it, each parks as soon as it is idle, so
/// that a burst of clients does not need the memory of as many active ones.
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
        let serving = serve_requests(&connection, service.clone(), stop.as_mut(), &mut stopping);
        match Box::pin(serving).await {
            // Spurious wake-up: the first byte is still to come, or the grace period goes on.
            End::Idle if stopping || !connection.has_served() => {}
            End::Idle => {
                timeout = worker.state().config.settings.limits.idle_timeout;
                deadline.set(Instant::now() + timeout);
            }
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
async fn serve_requests<S: RequestStack>(
    line: &Rc<StrictConnection>,
    service: Http1Service<S>,
    mut stop: Pin<&mut impl Future<Output = ()>>,
    stopping: &mut bool,
) -> End {
    let worker = Rc::clone(service.stack.worker());
    let _unparked = worker.unpark();
    let mut connection: Connection<StrictIo, Http1Service<S>> = Builder::new()
        // A client that disconnects is noticed while its request is in flight.
        .half_close(false)
        // The gate enforces the deadlines, each separately.
        .header_read_timeout(None)
        .max_buf_size(MAX_WRITE_BUFFER)
        // Small responses leave in one write; larger pieces are not worth the set-up of a vectored write.
        .writev(false)
        .serve_connection(StrictIo(Rc::clone(line)), service);
    let (mut waiting, mut watching) = (Deadline::default(), Deadline::default());
    let mut last = Wait::Nothing;
    let mut closed_since = None;
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
            let wait = line.wait.get();
            let begun = Some(line.requests_begun());
            if wait == Wait::Nothing && !line.stream.in_flight.get() && asked_after != begun {
                // While the last request was served, the gate reported that there is nothing to read. Pipelined requests that are
                // answered at once come one after the other.
                asked_after = begun;
                continue;
            }
            if wait != last || line.progress.take() {
                last = wait;
                waiting.clear();
            }
            if line.stream.in_flight.get() && watching.poll_within(cx, WATCH_INTERVAL).is_ready() {
                watching.clear();
                let write_timeout = worker.state().config.settings.limits.write_timeout;
                if worker.watch(&line.stream, write_timeout).is_some() {
                    return Poll::Ready(End::Abort);
                }
                if line.read_closed.get() && !line.deliver_close.get() {
                    let since = *closed_since.get_or_insert_with(Instant::now);
                    line.deliver_close.set(since.elapsed() >= HALF_CLOSE_GRACE);
                    continue;
                }
                continue;
            }
            let limits = || worker.state();
            match wait {
                Wait::Nothing | Wait::Body => return Poll::Pending,
                Wait::Idle => {
                    // Shutdown is checked where the connection is idle.
                    if *stopping || stop.as_mut().poll(cx).is_ready() {
                        *stopping = true;
                        return Poll::Ready(End::Idle);
                    }
                    if worker.unparked() <= MAX_UNPARKED {
                        ready!(waiting.poll_within(cx, PARK_AFTER));
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
