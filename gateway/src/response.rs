//! What the pipeline answers: status, fields and a body that may still be on its way.

use std::task::{Context, Poll};

use bytes::Bytes;
use http::StatusCode;
use tokio::time::Instant;

use crate::http1::{BodyError, BodyFraming, FieldBlock};
use crate::proxy::session_expiry::Lifetime;
use crate::proxy::websocket::Tunnel;
use crate::rejection::{Code, Rejection};
use crate::services::static_files::FileBody;
use crate::upstream::UpstreamBody;

/// An answer, before it is written.
#[derive(Debug)]
pub(crate) struct Response<'c> {
    pub(crate) status: StatusCode,
    pub(crate) fields: FieldBlock,
    pub(crate) body: ResponseBody<'c>,
    /// Whether `fields` has a `Date` already.
    pub(crate) has_date: bool,
    /// What was refused, if something was.
    pub(crate) code: Option<Code>,
    /// Whether the connection ends with it.
    pub(crate) close: bool,
    /// What the connection becomes behind a 101.
    pub(crate) tunnel: Option<Box<Tunnel>>,
}

/// Where an answer's body comes from.
#[derive(Debug)]
pub(crate) enum ResponseBody<'c> {
    None,
    Bytes(Bytes),
    File(Box<FileBody>),
    Upstream {
        body: UpstreamBody<'c>,
        framing: BodyFraming,
        /// The length that the upstream tells without sending a body: for HEAD and 304.
        declared: Option<u64>,
        /// What ends it before its end, where a token has opened it and it takes its time.
        lifetime: Option<Box<Lifetime>>,
    },
}

impl<'c> Response<'c> {
    pub(crate) fn new(status: StatusCode) -> Response<'c> {
        Response {
            status,
            fields: FieldBlock::new(),
            body: ResponseBody::None,
            has_date: false,
            code: None,
            close: false,
            tunnel: None,
        }
    }

    pub(crate) fn json(status: StatusCode, body: &impl serde::Serialize) -> Response<'c> {
        // The bodies are our own plain structs: writing them cannot fail.
        let bytes = serde_json::to_vec(body).unwrap_or_default();
        Response::new(status).field("Content-Type", "application/json").body(bytes)
    }

    pub(crate) fn field(mut self, name: &str, value: &str) -> Response<'c> {
        self.fields.push(name.as_bytes(), value.as_bytes());
        self
    }

    pub(crate) fn body(mut self, bytes: impl Into<Bytes>) -> Response<'c> {
        self.body = ResponseBody::Bytes(bytes.into());
        self
    }

    /// The `Content-Length` to tell, with or without a body to follow (RFC 9110 section 8.6).
    pub(crate) fn declared_length(&self) -> Option<u64> {
        match (self.status, &self.body) {
            (StatusCode::NO_CONTENT | StatusCode::SWITCHING_PROTOCOLS, _)
            | (StatusCode::NOT_MODIFIED, ResponseBody::None) => None,
            (_, body) => body.declared_length(),
        }
    }

    /// The one place that turns a refusal into an answer.
    pub(crate) fn refusal(rejection: &Rejection, request_id: &str) -> Response<'c> {
        let mut response = Response::new(rejection.status()).body(rejection.body(request_id));
        for (name, value) in rejection.fields() {
            response.fields.push(name.as_bytes(), value.as_bytes());
        }
        response.code = Some(rejection.code());
        response.close = rejection.closes();
        response
    }
}

impl ResponseBody<'_> {
    /// How the body is framed, as far as is known beforehand.
    pub(crate) fn framing(&self) -> BodyFraming {
        let length = |n| if n == 0 { BodyFraming::Empty } else { BodyFraming::Length(n) };
        match self {
            ResponseBody::None => BodyFraming::Empty,
            ResponseBody::Bytes(bytes) => length(bytes.len() as u64),
            ResponseBody::File(file) => length(file.len()),
            ResponseBody::Upstream { framing, .. } => *framing,
        }
    }

    fn declared_length(&self) -> Option<u64> {
        match self {
            ResponseBody::None => Some(0),
            ResponseBody::Bytes(bytes) => Some(bytes.len() as u64),
            ResponseBody::File(file) => Some(file.len()),
            ResponseBody::Upstream { framing: BodyFraming::Length(n), .. } => Some(*n),
            ResponseBody::Upstream { declared, .. } => *declared,
        }
    }

    /// What is at hand without waiting; may be empty.
    pub(crate) fn buffered(&mut self) -> Result<&[u8], BodyError> {
        match self {
            ResponseBody::Bytes(bytes) => Ok(bytes),
            ResponseBody::Upstream { body, .. } => body.buffered(),
            ResponseBody::File(file) => Ok(file.buffered()),
            ResponseBody::None => Ok(&[]),
        }
    }

    /// The next piece; empty at the end.
    pub(crate) fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<Result<&[u8], BodyError>> {
        match self {
            ResponseBody::None => Poll::Ready(Ok(&[])),
            ResponseBody::Bytes(bytes) => Poll::Ready(Ok(bytes)),
            ResponseBody::File(file) => file.poll_fill(cx),
            ResponseBody::Upstream { body, lifetime, .. } => {
                if let Some(Poll::Ready(end)) = lifetime.as_mut().map(|lifetime| lifetime.poll_end(cx)) {
                    tracing::info!(%end, "an answer was cut short");
                    return Poll::Ready(Err(BodyError::SessionEnded));
                }
                body.poll_fill(cx)
            }
        }
    }

    pub(crate) fn consume(&mut self, n: usize) {
        match self {
            ResponseBody::None => {}
            ResponseBody::Bytes(bytes) => drop(bytes.split_to(n)),
            ResponseBody::File(file) => file.consume(n),
            ResponseBody::Upstream { body, .. } => body.consume(n),
        }
    }

    /// Whether nothing is left.
    pub(crate) fn is_complete(&mut self) -> bool {
        match self {
            ResponseBody::None => true,
            ResponseBody::Bytes(bytes) => bytes.is_empty(),
            ResponseBody::File(file) => file.is_complete(),
            ResponseBody::Upstream { body, .. } => body.is_complete(),
        }
    }

    /// The trailers behind a body that is complete.
    pub(crate) fn take_trailers(&mut self) -> Option<http::HeaderMap> {
        match self {
            ResponseBody::Upstream { body, .. } => body.take_trailers(),
            _ => None,
        }
    }

    /// Lets the rest of a request body flow while the client is slow to take the response.
    pub(crate) fn poll_upload(&mut self, cx: &mut Context<'_>) {
        if let ResponseBody::Upstream { body, .. } = self {
            body.poll_upload(cx);
        }
    }

    /// Gives back what the body came from, if it can be used again.
    pub(crate) fn finish(self, now: Instant) {
        if let ResponseBody::Upstream { body, .. } = self {
            body.finish(now);
        }
    }
}
