//! Forwards a request body from the client to an upstream with backpressure.

use std::cell::Cell;
use std::future::poll_fn;
use std::io::{self, Write};
use std::rc::Rc;
use std::task::{Context, Poll};

use crate::http1::{BodyError, BodyFraming};
use crate::net::Socket;
use crate::request_body::RequestBody;

/// Which side failed.
#[derive(Debug)]
pub(crate) enum ForwardError {
    Client(BodyError),
    Upstream,
}

/// The transfer of one request body. The framing is generated, never copied: chunk extensions and trailers
/// are dropped.
#[derive(Debug)]
pub(crate) struct BodyForwarder {
    body: RequestBody,
    chunked: bool,
    framed: Vec<u8>,
    sent: usize,
    last: bool,
    waits_for_client: bool,
}

impl BodyForwarder {
    pub(crate) fn new(body: RequestBody) -> BodyForwarder {
        let chunked = body.framing() == BodyFraming::Chunked;
        BodyForwarder { body, chunked, framed: Vec::new(), sent: 0, last: false, waits_for_client: false }
    }

    /// Whether it waits for the client, not for the upstream.
    pub(crate) fn waits_for_client(&self) -> bool {
        self.waits_for_client
    }

    /// Makes progress until the body is complete or one of the sides is not ready.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>, upstream: &Socket) -> Poll<Result<(), ForwardError>> {
        self.waits_for_client = false;
        loop {
            while self.sent < self.framed.len() {
                match upstream.poll_write(cx, &self.framed[self.sent..]) {
                    Poll::Ready(written) => self.sent += written_some(written)?,
                    Poll::Pending => return Poll::Pending,
                }
            }
            self.framed.clear();
            self.sent = 0;
            if self.last {
                return upstream.poll_flush(cx).map_err(|_| ForwardError::Upstream);
            }
            let piece = match self.body.poll_fill(cx) {
                Poll::Ready(Ok(piece)) => piece,
                Poll::Ready(Err(e)) => return Poll::Ready(Err(ForwardError::Client(e))),
                Poll::Pending => {
                    // The upstream may respond to what it has so far.
                    if let Poll::Ready(Err(_)) = upstream.poll_flush(cx) {
                        return Poll::Ready(Err(ForwardError::Upstream));
                    }
                    self.waits_for_client = true;
                    return Poll::Pending;
                }
            };
            let taken = if piece.is_empty() {
                self.last = true;
                if self.chunked {
                    self.framed.extend_from_slice(b"0\r\n\r\n");
                }
                0
            } else if self.chunked {
                // Writing to a Vec does not fail.
                let _ = write!(self.framed, "{:x}\r\n", piece.len());
                self.framed.extend_from_slice(piece);
                self.framed.extend_from_slice(b"\r\n");
                piece.len()
            } else {
                match upstream.poll_write(cx, piece) {
                    Poll::Ready(written) => written_some(written)?,
                    Poll::Pending => return Poll::Pending,
                }
            };
            self.body.consume(taken);
        }
    }
}

/// A body that is still being forwarded after its response has started.
#[derive(Debug)]
pub(super) struct Forwarding {
    done: Rc<Cell<bool>>,
}

impl Forwarding {
    /// Forwards the rest to `upstream` in a task of its own.
    pub(super) fn spawn(mut forwarder: Box<BodyForwarder>, upstream: Rc<Socket>) -> Forwarding {
        let done = Rc::new(Cell::new(false));
        let done_by_task = Rc::clone(&done);
        tokio::task::spawn_local(async move {
            match poll_fn(|cx| forwarder.poll(cx, &upstream)).await {
                Ok(()) => done_by_task.set(true),
                Err(error) => tracing::debug!(?error, "the rest of a request body was not forwarded"),
            }
        });
        Forwarding { done }
    }

    /// Whether all of it was forwarded.
    pub(super) fn is_done(&self) -> bool {
        self.done.get()
    }
}

fn written_some(written: io::Result<usize>) -> Result<usize, ForwardError> {
    match written {
        Ok(n) if n > 0 => Ok(n),
        _ => Err(ForwardError::Upstream),
    }
}
