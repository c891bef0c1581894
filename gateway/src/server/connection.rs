//! One client connection: heads in, answers out, one request after the other, each step under a deadline.

use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use http::Method;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::timeout;

use super::access::{Asked, RequestLine, Seen, log, protocol};
use super::answer::{Answer, Written};
use crate::config::Limits;
use crate::pipeline::{self, Client, Exchange, Facts, Response, Worker};
use crate::problem::{Code, Rejection};
use crate::telemetry::RequestId;
use crate::wire::{
    BodyReader, Deadline, FieldKind, HeadError, HeadLimits, ReadBuffer, RequestBody, RequestHead, Version,
    drain, poll_read,
};

/// What is read at once while a head is expected: most heads fit.
const READ_SIZE: usize = 4 * 1024;
/// How much of a body that nobody wanted is read so that the connection can go on, and for how long.
const LEFTOVER_LIMIT: usize = 64 * 1024;
const LEFTOVER_TIME: Duration = Duration::from_secs(1);

/// Serves a connection until one side ends it. `draining` turns true when the gateway is about to stop.
pub(super) async fn serve(
    socket: TcpStream,
    peer: SocketAddr,
    worker: Rc<Worker>,
    draining: watch::Receiver<bool>,
) {
    if let Err(error) = socket.set_nodelay(true) {
        tracing::debug!(%error, "cannot switch Nagle's algorithm off");
    }
    let settings = &worker.gateway.snapshot.settings;
    let client = Client::new(peer, &settings.server.trusted_proxies);
    let limits = &settings.limits;
    let mut connection = Connection {
        deadline: Deadline::after(limits.first_byte_timeout),
        write_deadline: Deadline::after(limits.write_timeout),
        socket,
        client,
        input: ReadBuffer::default(),
        head: RequestHead::default(),
        out: Vec::new(),
    };
    connection.run(&worker, limits, draining).await;
}

struct Connection {
    socket: TcpStream,
    client: Client,
    input: ReadBuffer,
    head: RequestHead,
    out: Vec<u8>,
    deadline: Deadline,
    write_deadline: Deadline,
}

/// How the wait for a head ended.
enum NextHead {
    Complete,
    Refused(Rejection),
    /// The client left, or nothing came and nothing is lost.
    Over,
}

/// What becomes of the connection after an answer.
#[derive(Debug, PartialEq, Eq)]
enum After {
    GoOn,
    /// End it, but let the client read the answer first.
    Close,
    /// The answer is incomplete: end it so that nobody takes it for whole.
    Abort,
}

impl Connection {
    async fn run(&mut self, worker: &Worker, limits: &Limits, draining: watch::Receiver<bool>) {
        let mut stopping = draining.clone();
        let mut stop = pin!(async move {
            // An error means that the sender is gone, which is the end as well.
            let _ = stopping.wait_for(|draining| *draining).await;
        });
        let head_limits = HeadLimits {
            line: limits.request_line,
            block: limits.header_block,
            fields: limits.header_fields,
        };
        loop {
            let after = match self.next_head(&head_limits, limits, stop.as_mut()).await {
                NextHead::Over => return,
                NextHead::Refused(rejection) => self.refuse(worker, limits, &rejection, None).await,
                NextHead::Complete => self.serve_request(worker, limits, &draining).await,
            };
            match after {
                After::GoOn => self.deadline.restart(limits.idle_timeout),
                After::Close => return drain(&self.socket).await,
                After::Abort => return abort(&self.socket),
            }
        }
    }

    /// Waits for the next head. Between requests the wait ends when the gateway stops; inside a head it does not.
    async fn next_head(
        &mut self,
        head_limits: &HeadLimits,
        limits: &Limits,
        mut stop: Pin<&mut impl Future<Output = ()>>,
    ) -> NextHead {
        let mut begun = !self.input.filled().is_empty();
        if begun {
            self.deadline.restart(limits.header_timeout);
        }
        poll_fn(|cx| {
            loop {
                if begun {
                    match self.head.parse(self.input.filled(), head_limits) {
                        Ok(Some(length)) => {
                            self.input.consume(length);
                            return Poll::Ready(NextHead::Complete);
                        }
                        Ok(None) => {}
                        Err(error) => return Poll::Ready(NextHead::Refused(bad_head(&error))),
                    }
                }
                match poll_read(&self.socket, cx, &mut self.input, READ_SIZE) {
                    Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(NextHead::Over),
                    Poll::Ready(Ok(_)) if begun => {}
                    Poll::Ready(Ok(_)) => {
                        begun = true;
                        self.deadline.restart(limits.header_timeout);
                    }
                    Poll::Pending => {
                        let late = self.deadline.poll(cx).is_ready();
                        return match begun {
                            true if late => Poll::Ready(NextHead::Refused(Rejection::new(
                                Code::RequestTimeout,
                                "the request head did not arrive in time",
                            ))),
                            false if late || stop.as_mut().poll(cx).is_ready() => Poll::Ready(NextHead::Over),
                            _ => Poll::Pending,
                        };
                    }
                }
            }
        })
        .await
    }

    /// Admits the request whose head was read, has it answered and writes the answer.
    async fn serve_request(
        &mut self,
        worker: &Worker,
        limits: &Limits,
        draining: &watch::Receiver<bool>,
    ) -> After {
        let started = Instant::now();
        let request = match pipeline::admit(&self.head) {
            Ok(request) => request,
            Err(rejection) => {
                let line = RequestLine::of(&self.head);
                return self.refuse(worker, limits, &rejection, Some(line)).await;
            }
        };
        let request_id = request_id(worker, &self.client, &self.head);
        let mut reader = BodyReader::new(request.framing());
        let mut awaits_continue = request.awaits_continue();
        let body = RequestBody {
            framing: request.framing(),
            socket: &self.socket,
            input: &mut self.input,
            reader: &mut reader,
            deadline: &mut self.deadline,
            patience: limits.body_timeout,
            awaits_continue: &mut awaits_continue,
        };
        let exchange = Exchange { request: &request, request_id: &request_id, now_millis: unix_millis() };
        let mut facts = Facts::default();
        let response = pipeline::handle(worker, &self.client, &exchange, &mut facts, body).await;

        let (status, code) = (response.status, response.code);
        // Asked only now: the stop may have come while the upstream was thinking. Copied out, for a borrow held over
        // the writing would keep the one who says `stop` waiting.
        let draining = *draining.borrow();
        let answer = Answer {
            version: self.head.version(),
            is_head: *self.head.method() == Method::HEAD,
            keep_alive: !draining && wants_more(&self.head),
            request_id: request_id.as_str(),
        };
        let written = answer
            .write(&self.socket, &mut self.write_deadline, limits.write_timeout, &mut self.out, response)
            .await;
        let seen =
            Seen { started, status: status.as_u16(), code: code.map(Code::name), bytes: written.bytes };
        let trusted = &worker.gateway.snapshot.settings.server.trusted_proxies;
        let asked = Asked {
            client: self.client.address(&self.head, trusted),
            method: request.method().as_str(),
            path: request.target().path(),
            host: request.host().as_str(),
            protocol: protocol(self.head.version()),
        };
        log(worker, &asked, request_id.as_str(), &facts, &seen);
        self.after(written, reader, awaits_continue).await
    }

    /// Answers a request that was not admitted. Nothing behind it can be trusted, so the connection ends.
    /// `line` is what it asked for, as far as that could be read.
    async fn refuse(
        &mut self,
        worker: &Worker,
        limits: &Limits,
        rejection: &Rejection,
        line: Option<RequestLine>,
    ) -> After {
        let started = Instant::now();
        let request_id = worker.request_ids.borrow_mut().next_id();
        let mut response = Response::refusal(rejection, request_id.as_str());
        response.close = true;
        let answer = Answer {
            version: Version::Http11,
            is_head: line.as_ref().is_some_and(|line| line.method == Method::HEAD),
            keep_alive: false,
            request_id: request_id.as_str(),
        };
        let written = answer
            .write(&self.socket, &mut self.write_deadline, limits.write_timeout, &mut self.out, response)
            .await;
        let seen = Seen {
            started,
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
        log(worker, &asked, request_id.as_str(), &Facts::default(), &seen);
        After::Close
    }

    /// Decides what becomes of the connection, and takes an unread body off it if that is cheap.
    async fn after(&mut self, written: Written, mut reader: BodyReader, awaits_continue: bool) -> After {
        match written.outcome {
            Err(_) => return After::Abort,
            Ok(false) => return After::Close,
            Ok(true) if reader.is_complete() => return After::GoOn,
            // Whether the body will still come is anyone's guess.
            Ok(true) if awaits_continue => return After::Close,
            Ok(true) => {}
        }
        let mut left = LEFTOVER_LIMIT;
        let reading = poll_fn(|cx| {
            while left > 0 {
                match std::task::ready!(reader.poll_fill(cx, &self.socket, &mut self.input)) {
                    Ok([]) => return Poll::Ready(true),
                    Ok(piece) => {
                        let n = piece.len();
                        left = left.saturating_sub(n);
                        reader.consume(&mut self.input, n);
                    }
                    Err(_) => return Poll::Ready(false),
                }
            }
            Poll::Ready(false)
        });
        if timeout(LEFTOVER_TIME, reading).await.unwrap_or(false) { After::GoOn } else { After::Close }
    }
}

/// Ends a connection with a reset: a plain end would make a cut answer look whole where only the end tells.
fn abort(socket: &TcpStream) {
    if let Err(error) = socket2::SockRef::from(socket).set_linger(Some(Duration::ZERO)) {
        tracing::debug!(%error, "cannot reset a connection");
    }
}

fn bad_head(error: &HeadError) -> Rejection {
    let code = match error {
        HeadError::LineTooLong(_) => Code::UriTooLong,
        HeadError::BlockTooLarge(_) | HeadError::TooManyFields(_) => Code::HeadersTooLarge,
        _ => Code::BadRequest,
    };
    Rejection::new(code, error.to_string()).close()
}

/// RFC 9112 section 9.3: persistence is the default of HTTP/1.1 and an option of HTTP/1.0.
fn wants_more(head: &RequestHead) -> bool {
    match head.version() {
        _ if head.connection_has(b"close") => false,
        Version::Http11 => true,
        Version::Http10 => head.connection_has(b"keep-alive"),
    }
}

/// A trusted proxy's request id is kept, so that one id follows a request through all logs.
fn request_id(worker: &Worker, client: &Client, head: &RequestHead) -> RequestId {
    let given = client.is_trusted().then(|| head.only(FieldKind::XRequestId)).flatten();
    given
        .and_then(|field| RequestId::accept(field.value))
        .unwrap_or_else(|| worker.request_ids.borrow_mut().next_id())
}

fn unix_millis() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64)
}
