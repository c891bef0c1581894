//! One connection of HTTP/1.1: heads in, answers out, one request after the other, each step under a deadline.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use http::Method;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use crate::client_addr::Client;
use crate::config::Limits;
use crate::http1::{BodyReader, ConnectionBody, RequestBody, RequestHead, Version};
use crate::layers::access_log::{Asked, RequestLine, Seen, log, protocol};
use crate::layers::catch_panic::answered;
use crate::net::{Deadline, ReadBuffer, Socket};
use crate::pipeline;
use crate::pipeline::{Exchange, Facts};
use crate::rejection::{Code, Rejection};
use crate::response::Response;
use crate::runtime::Worker;
use crate::server::answer::{Answer, Written};
use crate::server::bidirectional_copy;
use crate::server::buffers::{BufferPool, Buffers};
use crate::server::exchange::{bad_head, head_limits, request_id, unix_millis};
use crate::worker_state::Serving;

/// What is read at once while a head is expected: most heads fit.
const READ_SIZE: usize = 4 * 1024;
/// How much of a body that nobody wanted is read so that the connection can go on, and for how long.
const LEFTOVER_LIMIT: usize = 64 * 1024;
const LEFTOVER_TIME: Duration = Duration::from_secs(1);
/// How long a client that has just connected may take for its first request when the gateway stops, and how long one that
/// rests between two: its next one may be on its way, and is answered with the news that it was the last.
const NEWCOMER_TIME: Duration = Duration::from_secs(1);
const FAREWELL: Duration = Duration::from_millis(250);

/// Serves a connection until one side ends it. `draining` turns true when the gateway is about to stop.
pub(crate) async fn serve(
    socket: Socket,
    client: Client,
    worker: &Worker,
    pool: &BufferPool,
    draining: watch::Receiver<bool>,
) {
    let mut connection = Connection {
        socket,
        client,
        worker,
        idle_timeout: worker.serving().snapshot.settings.limits.idle_timeout,
        deadline: Deadline::default(),
        write_deadline: Deadline::default(),
        newcomer: true,
        stopping: false,
    };
    connection.run(pool, draining).await;
}

struct Connection<'w> {
    socket: Socket,
    client: Client,
    worker: &'w Worker,
    /// How long it may rest, as its last request was told.
    idle_timeout: Duration,
    deadline: Deadline,
    write_deadline: Deadline,
    /// It has not asked for anything yet.
    newcomer: bool,
    /// It knows that the gateway stops.
    stopping: bool,
}

/// How the wait for a head ended.
enum NextHead {
    Complete,
    Refused(Rejection),
    /// Nothing of it has arrived yet.
    NotBegun,
    /// The client left.
    Over,
}

/// What becomes of the connection after an answer.
#[derive(Debug, PartialEq, Eq)]
enum After {
    /// It stays open; the next request may have arrived already.
    GoOn,
    /// It stays open, and nothing more has arrived.
    Rest,
    /// End it, but let the client read the answer first.
    Close,
    /// The answer is incomplete: end it so that nobody takes it for whole.
    Abort,
    /// The client has ended it.
    Over,
}

impl Connection<'_> {
    /// Rest and talk in turns. A connection at rest has no buffers.
    async fn run(&mut self, pool: &BufferPool, draining: watch::Receiver<bool>) {
        let mut stopping = draining.clone();
        let mut stop = pin!(async move {
            // An error means that the sender is gone, which is the end as well.
            let _ = stopping.wait_for(|draining| *draining).await;
        });
        let first_byte_timeout = self.worker.serving().snapshot.settings.limits.first_byte_timeout;
        self.deadline.set(Instant::now() + first_byte_timeout);
        while self.readable(stop.as_mut()).await {
            let mut buffers = pool.take();
            // Boxed, for a task is as large as its largest wait: with the talk in it, an idle client cost 4 KiB instead of 1.8, and
            // the end is no small one either.
            match Box::pin(self.talk(&mut buffers, &draining)).await {
                After::GoOn | After::Rest => pool.give_back(buffers),
                After::Close => return Box::pin(self.socket.drain()).await,
                After::Abort => return self.socket.reset_at_drop(),
                After::Over => return,
            }
        }
    }

    /// Waits for the first byte of the next request. The wait ends without one when it has lasted too long or the gateway stops.
    async fn readable(&mut self, mut stop: Pin<&mut impl Future<Output = ()>>) -> bool {
        poll_fn(|cx| match self.socket.poll_readable(cx) {
            Poll::Ready(ready) => Poll::Ready(ready.is_ok()),
            Poll::Pending => {
                if !self.stopping && stop.as_mut().poll(cx).is_ready() {
                    self.stopping = true;
                    let patience = if self.newcomer { NEWCOMER_TIME } else { FAREWELL };
                    self.deadline.set(Instant::now() + patience);
                }
                let late = self.deadline.poll_within(cx, self.idle_timeout);
                late.map(|()| false)
            }
        })
        .await
    }

    /// Answers requests as long as they arrive without a wait between them.
    async fn talk(&mut self, buffers: &mut Buffers, draining: &watch::Receiver<bool>) -> After {
        loop {
            let serving = self.worker.serving();
            let limits = &serving.snapshot.settings.limits;
            let after = match self.next_head(buffers, limits).await {
                NextHead::Complete => self.serve_request(&serving, buffers, draining).await,
                NextHead::NotBegun => return After::Rest,
                NextHead::Over => return After::Over,
                NextHead::Refused(rejection) => self.refuse(&serving, buffers, &rejection, None).await,
            };
            if after != After::GoOn {
                return after;
            }
        }
    }

    /// Reads the next head, to its end once it has begun.
    async fn next_head(&mut self, buffers: &mut Buffers, limits: &Limits) -> NextHead {
        let Buffers { input, head, .. } = buffers;
        let head_limits = head_limits(limits);
        let mut timed = false;
        poll_fn(|cx| {
            loop {
                let begun = !input.filled().is_empty();
                if begun {
                    match head.parse(input.filled(), &head_limits) {
                        Ok(Some(length)) => {
                            input.consume(length);
                            return Poll::Ready(NextHead::Complete);
                        }
                        Ok(None) => {}
                        Err(error) => return Poll::Ready(NextHead::Refused(bad_head(&error))),
                    }
                }
                match self.socket.poll_read(cx, input, READ_SIZE) {
                    Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(NextHead::Over),
                    Poll::Ready(Ok(_)) => {}
                    Poll::Pending if !begun => return Poll::Ready(NextHead::NotBegun),
                    Poll::Pending => {
                        if !timed {
                            self.deadline.clear();
                            timed = true;
                        }
                        let late = self.deadline.poll_within(cx, limits.header_timeout);
                        return late.map(|()| {
                            NextHead::Refused(Rejection::new(
                                Code::RequestTimeout,
                                "the request head did not arrive in time",
                            ))
                        });
                    }
                }
            }
        })
        .await
    }

    /// Admits the request whose head was read, has it answered and writes the answer.
    async fn serve_request(
        &mut self,
        serving: &Serving,
        buffers: &mut Buffers,
        draining: &watch::Receiver<bool>,
    ) -> After {
        let (started, now_millis) = (Instant::now(), unix_millis());
        let worker = self.worker;
        let limits = &serving.snapshot.settings.limits;
        self.newcomer = false;
        let Buffers { input, head, out } = buffers;
        let request = match crate::layers::admission::admit(head) {
            Ok(request) => request,
            Err(rejection) => {
                let line = RequestLine::of(head);
                return self.refuse(serving, buffers, &rejection, Some(line)).await;
            }
        };
        let request_id = request_id(worker, &self.client, head);
        let mut reader = BodyReader::new(request.framing());
        let mut awaits_continue = request.awaits_continue();
        self.deadline.clear();
        let body = ConnectionBody {
            socket: &self.socket,
            input,
            reader: &mut reader,
            deadline: &mut self.deadline,
            awaits_continue: &mut awaits_continue,
        };
        let body = RequestBody::of_connection(request.framing(), body, limits.body_timeout);
        let exchange = Exchange { request: &request, request_id: &request_id, started, now_millis };
        let mut facts = Facts::default();
        let mut response = answered(
            pin!(pipeline::handle(worker, serving, &self.client, &exchange, &mut facts, body)),
            &request_id,
        )
        .await;

        let (status, code, tunnel) = (response.status, response.code, response.tunnel.take());
        // Asked only now: the stop may have come while the upstream was thinking. Copied out, for a borrow held over
        // the writing would keep the one who says `stop` waiting.
        let draining = *draining.borrow();
        let answer = Answer {
            version: head.version(),
            is_head: *head.method() == Method::HEAD,
            keep_alive: !draining && wants_more(head),
            request_id: request_id.as_bytes(),
            now: exchange.now(),
        };
        let patience = limits.write_timeout;
        let mut written = answer.write(&self.socket, &mut self.write_deadline, patience, out, response).await;
        if let (Some(tunnel), Ok(_)) = (tunnel, &written.outcome) {
            let limit = limits.tunnel_timeout;
            // Boxed, for few connections ever get here.
            let (bytes, end) = Box::pin(bidirectional_copy::carry(&self.socket, input, *tunnel, limit)).await;
            tracing::debug!(%end, request_id = request_id.as_str(), "a WebSocket has ended");
            written = Written { bytes, ended: Instant::now(), outcome: Ok(false) };
        }
        let seen = Seen {
            started,
            started_millis: now_millis,
            ended: written.ended,
            status: status.as_u16(),
            code: code.map(Code::name),
            bytes: written.bytes,
        };
        let trusted = &serving.snapshot.settings.server.trusted_proxies;
        let asked = Asked {
            client: &self.client.address_text(head, trusted),
            method: request.method().as_str(),
            path: request.target().path(),
            host: request.host().as_str(),
            protocol: protocol(head.version()),
        };
        log(worker, serving, &asked, request_id.as_str(), &facts, &seen);
        self.idle_timeout = limits.idle_timeout;
        self.deadline.set(written.ended + self.idle_timeout);
        match written.outcome {
            Err(_) => After::Abort,
            Ok(false) => After::Close,
            Ok(true) if reader.is_complete() => After::GoOn,
            // Whether the body will still come is anyone's guess.
            Ok(true) if awaits_continue => After::Close,
            Ok(true) => self.skip_rest(reader, input).await,
        }
    }

    /// Answers a request that was not admitted. Nothing behind it can be trusted, so the connection ends.
    /// `line` is what it asked for, as far as that could be read.
    async fn refuse(
        &mut self,
        serving: &Serving,
        buffers: &mut Buffers,
        rejection: &Rejection,
        line: Option<RequestLine>,
    ) -> After {
        let (started, started_millis) = (Instant::now(), unix_millis());
        let worker = self.worker;
        let request_id = worker.request_ids.borrow_mut().next_id();
        let mut response = Response::refusal(rejection, request_id.as_str());
        response.close = true;
        let answer = Answer {
            version: Version::Http11,
            is_head: line.as_ref().is_some_and(|line| line.method == Method::HEAD),
            keep_alive: false,
            request_id: request_id.as_bytes(),
            now: started_millis / 1000,
        };
        let patience = serving.snapshot.settings.limits.write_timeout;
        let written =
            answer.write(&self.socket, &mut self.write_deadline, patience, &mut buffers.out, response).await;
        let seen = Seen {
            started,
            started_millis,
            ended: written.ended,
            status: rejection.status().as_u16(),
            code: Some(rejection.code().name()),
            bytes: written.bytes,
        };
        let asked = Asked {
            client: self.client.peer(),
            method: line.as_ref().map_or("-", |line| line.method.as_str()),
            path: line.as_ref().map_or("-", |line| &line.path),
            host: "-",
            protocol: line.as_ref().map_or("-", |line| protocol(line.version)),
        };
        log(worker, serving, &asked, request_id.as_str(), &Facts::default(), &seen);
        After::Close
    }

    /// Takes the rest of a body that nobody wanted off the connection, if that is cheap.
    async fn skip_rest(&self, mut reader: BodyReader, input: &mut ReadBuffer) -> After {
        let mut left = LEFTOVER_LIMIT;
        let reading = poll_fn(|cx| {
            while left > 0 {
                match std::task::ready!(reader.poll_fill(cx, &self.socket, input)) {
                    Ok([]) => return Poll::Ready(true),
                    Ok(piece) => {
                        let n = piece.len();
                        left = left.saturating_sub(n);
                        reader.consume(input, n);
                    }
                    Err(_) => return Poll::Ready(false),
                }
            }
            Poll::Ready(false)
        });
        if timeout(LEFTOVER_TIME, reading).await.unwrap_or(false) { After::GoOn } else { After::Close }
    }
}

/// RFC 9112 section 9.3: persistence is the default of HTTP/1.1 and an option of HTTP/1.0.
fn wants_more(head: &RequestHead) -> bool {
    match head.version() {
        _ if head.fields().connection_has(b"close") => false,
        Version::Http11 | Version::Http2 => true,
        Version::Http10 => head.fields().connection_has(b"keep-alive"),
    }
}
