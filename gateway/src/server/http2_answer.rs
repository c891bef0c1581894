//! Writing one answer as frames of HTTP/2, at the pace of the client's flow control (RFC 9113 section 5.2).

use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, SendStream};
use http::header::{CONTENT_LENGTH, DATE};
use http::{HeaderName, HeaderValue, StatusCode};
use tokio::time::Instant;

use crate::http1::{BodyError, BodyFraming, http_date};
use crate::net::Deadline;
use crate::response::{Response, ResponseBody};

/// Pieces of a body are sent in frames of at most so many bytes.
const PIECE: usize = 16 << 10;

/// What the answer has to fit.
pub(crate) struct Http2Answer<'a> {
    pub(crate) is_head: bool,
    pub(crate) request_id: &'a [u8],
    /// Now, in seconds since 1970: what `Date` says where nobody else said it.
    pub(crate) now: u64,
    /// How long the client may leave the window shut.
    pub(crate) patience: Duration,
}

/// Why an answer was not written to its end.
#[derive(Debug, thiserror::Error)]
enum Cut {
    #[error("the client left: {0}")]
    Client(#[from] h2::Error),
    #[error("the client took the request back ({0})")]
    Reset(Reason),
    #[error("the client did not read for too long")]
    Slow,
    #[error("the source failed: {0}")]
    Source(#[from] BodyError),
}

impl Http2Answer<'_> {
    /// Writes it and gives the number of bytes of the body that were sent. One that is cut short ends with RST_STREAM,
    /// so nobody takes it for whole.
    pub(crate) async fn write(&self, respond: &mut SendResponse<Bytes>, mut response: Response<'_>) -> u64 {
        let bodiless = self.is_head
            || matches!(response.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
            || response.body.framing() == BodyFraming::Empty;
        let mut stream = match respond.send_response(self.head(&response), bodiless) {
            Ok(stream) => stream,
            Err(error) => {
                tracing::debug!(%error, "an answer was not wanted any more");
                return 0;
            }
        };
        let mut bytes = 0;
        if !bodiless {
            let mut sink = Sink { stream: &mut stream, deadline: Deadline::default(), bytes: &mut bytes };
            if let Err(cut) = sink.transfer(&mut response.body, self.patience).await {
                tracing::debug!(%cut, "an answer was cut short");
                stream.send_reset(Reason::INTERNAL_ERROR);
            }
        }
        response.body.finish(Instant::now());
        bytes
    }

    fn head(&self, response: &Response<'_>) -> http::Response<()> {
        let mut head = http::Response::new(());
        *head.status_mut() = response.status;
        let fields = head.headers_mut();
        for (name, value) in response.fields.iter() {
            match (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) {
                (Ok(name), Ok(value)) => drop(fields.append(name, value)),
                _ => tracing::debug!("a field of an upstream cannot be told in HTTP/2"),
            }
        }
        if !response.has_date
            && let Ok(date) = HeaderValue::from_bytes(&http_date(self.now))
        {
            fields.insert(DATE, date);
        }
        if let Ok(id) = HeaderValue::from_bytes(self.request_id) {
            fields.insert(HeaderName::from_static("x-request-id"), id);
        }
        if let Some(length) = response.declared_length() {
            fields.insert(CONTENT_LENGTH, length.into());
        }
        head
    }
}

/// The client's stream.
struct Sink<'s> {
    stream: &'s mut SendStream<Bytes>,
    deadline: Deadline,
    bytes: &'s mut u64,
}

impl Sink<'_> {
    /// Moves the body from its source to the client, at the pace of the slower of the two.
    async fn transfer(&mut self, body: &mut ResponseBody<'_>, patience: Duration) -> Result<(), Cut> {
        while !body.is_complete() {
            let at_hand = body.buffered()?.len();
            if at_hand == 0 {
                poll_fn(|cx| match self.stream.poll_reset(cx) {
                    Poll::Ready(reason) => Poll::Ready(Err(reason.map_or_else(Cut::Client, Cut::Reset))),
                    Poll::Pending => body.poll_fill(cx).map(|piece| Ok(piece.map(|_| ())?)),
                })
                .await?;
                continue;
            }
            let room = self.room(at_hand.min(PIECE), body, patience).await?;
            let piece = body.buffered()?;
            let piece = Bytes::copy_from_slice(&piece[..room.min(piece.len())]);
            body.consume(piece.len());
            *self.bytes += piece.len() as u64;
            self.stream.send_data(piece, body.is_complete())?;
            if body.is_complete() {
                return Ok(());
            }
        }
        match body.take_trailers() {
            Some(trailers) => self.stream.send_trailers(trailers)?,
            None => self.stream.send_data(Bytes::new(), true)?,
        }
        Ok(())
    }

    /// How much of `wanted` the client takes now; waits until it is something.
    async fn room(
        &mut self,
        wanted: usize,
        body: &mut ResponseBody<'_>,
        patience: Duration,
    ) -> Result<usize, Cut> {
        self.stream.reserve_capacity(wanted);
        self.deadline.clear();
        poll_fn(|cx| {
            loop {
                match self.stream.capacity() {
                    0 => {}
                    room => return Poll::Ready(Ok(room.min(wanted))),
                }
                match self.stream.poll_capacity(cx) {
                    Poll::Ready(Some(Ok(_))) => {}
                    Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(Cut::Client(error))),
                    Poll::Ready(None) => return Poll::Ready(Err(Cut::Reset(Reason::CANCEL))),
                    Poll::Pending => break,
                }
            }
            body.poll_upload(cx);
            self.deadline.poll_within(cx, patience).map(|()| Err(Cut::Slow))
        })
        .await
    }
}
