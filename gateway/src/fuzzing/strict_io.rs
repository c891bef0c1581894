//! Property: the strict gate and hyper agree on where a request ends, or nothing is served (request
//! smuggling).

use std::cell::RefCell;
use std::convert::Infallible;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper::server::conn::http1::Builder;
use hyper::service::service_fn;

use crate::http1::{BodyFraming, ChunkDecoder, HeadLimits, RequestHead, Step, request_framing};
use crate::server::write_stand_in;

/// The bytes that a client sends. The gate takes one request off their front; hyper gets the gate's stand-in
/// of the head, and the bytes of the body. Then hyper must see exactly one request with the gate's body, or
/// none at all.
pub fn strict_io(input: &[u8]) {
    let mut head = RequestHead::default();
    let Ok(Some(length)) = head.parse(input, &HeadLimits::default()) else { return };
    let Ok(framing) = request_framing(&head) else { return };
    let Some((body, wire)) = gate_body(framing, &input[length..]) else { return };

    let mut stand_in = Vec::new();
    write_stand_in(&mut stand_in, &head, framing);
    stand_in.extend_from_slice(wire);
    let seen = Rc::new(RefCell::new(Vec::new()));
    let bodies = Rc::clone(&seen);
    let service = service_fn(move |request: Request<Incoming>| {
        let bodies = Rc::clone(&bodies);
        async move {
            // A body that hyper rejects is not served.
            if let Ok(body) = request.into_body().collect().await {
                bodies.borrow_mut().push(body.to_bytes());
            }
            Ok::<_, Infallible>(Response::new(Full::new(Bytes::new())))
        }
    });
    let io = Wire { input: stand_in, given: 0 };
    let mut connection = pin!(Builder::new().header_read_timeout(None).serve_connection(io, service));
    let mut cx = Context::from_waker(Waker::noop());
    for _ in 0..64 {
        if connection.as_mut().poll(&mut cx).is_ready() {
            break;
        }
    }
    let seen = seen.borrow();
    assert!(seen.len() <= 1, "hyper saw {} requests in one", seen.len());
    if let Some(seen) = seen.first() {
        assert_eq!(seen.as_ref(), body, "hyper and the gate read different bodies");
    }
}

/// The body that the gate sees, and its bytes on the wire; `None` where it is incomplete or rejected.
fn gate_body(framing: BodyFraming, rest: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    match framing {
        BodyFraming::Empty | BodyFraming::UntilClose => Some((Vec::new(), &[])),
        BodyFraming::Length(length) => {
            let wire = rest.get(..usize::try_from(length).ok()?)?;
            Some((wire.to_vec(), wire))
        }
        BodyFraming::Chunked => {
            let (mut decoder, mut body, mut at) = (ChunkDecoder::new(), Vec::new(), 0);
            loop {
                match decoder.step(&rest[at..]).ok()? {
                    Step::Data(n) => {
                        body.extend_from_slice(&rest[at..at + n]);
                        at += n;
                    }
                    Step::Skip(n) => at += n,
                    Step::End => return Some((body, &rest[..at])),
                    Step::NeedMore => return None,
                }
            }
        }
    }
}

/// A client that has sent everything and reads everything.
struct Wire {
    input: Vec<u8>,
    given: usize,
}

impl Read for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        mut buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let n = buf.remaining().min(self.input.len() - self.given);
        buf.put_slice(&self.input[self.given..self.given + n]);
        self.given += n;
        Poll::Ready(Ok(()))
    }
}

impl Write for Wire {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
