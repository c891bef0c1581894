//! The same for the request path that has no `http::Request` yet.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use http::header::CONTENT_LENGTH;
use http::{HeaderMap, HeaderName, HeaderValue};
use http_body::Body;

use super::{FileRequest, StaticBody, StaticRoot};
use crate::http1::BodyError;
use crate::layers::admission::Admitted;
use crate::rejection::Rejection;
use crate::response::{Response, ResponseBody};

/// Serves the file that the request names below the route's path.
pub(crate) async fn serve<'c>(
    root: &Arc<StaticRoot>,
    index_fallback: bool,
    route_path: &str,
    request: &Admitted<'_>,
) -> Result<Response<'c>, Rejection> {
    let mut headers = HeaderMap::new();
    for field in request.head().fields().iter() {
        if let (Ok(name), Ok(value)) =
            (HeaderName::from_bytes(field.name), HeaderValue::from_bytes(field.value))
        {
            headers.append(name, value);
        }
    }
    let target = request.target();
    let answer = root
        .serve(FileRequest {
            method: request.method(),
            headers: &headers,
            path: target.decoded_path(),
            query: target.as_str()[target.path().len()..].strip_prefix('?'),
            route_path,
            index_fallback,
        })
        .await?;
    let mut response = Response::new(answer.status());
    let mut len = None;
    for (name, value) in answer.headers() {
        if name == CONTENT_LENGTH {
            len = value.to_str().ok().and_then(|len| len.parse().ok());
            continue;
        }
        let words: Vec<String> =
            name.as_str().split('-').map(|word| word[..1].to_ascii_uppercase() + &word[1..]).collect();
        response.fields.push(words.join("-").as_bytes(), value.as_bytes());
    }
    if let Some(left) = len {
        let body = answer.into_body();
        response.body = ResponseBody::File(Box::new(FileBody { body, chunk: Bytes::new(), len: left, left }));
    }
    Ok(response)
}

/// A file on its way out, read piece by piece.
#[derive(Debug)]
pub(crate) struct FileBody {
    body: StaticBody,
    chunk: Bytes,
    len: u64,
    left: u64,
}

impl FileBody {
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    pub(crate) fn is_complete(&self) -> bool {
        self.left == 0
    }

    pub(crate) fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<Result<&[u8], BodyError>> {
        if self.chunk.is_empty() && self.left > 0 {
            match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(frame) => self.chunk = frame?.into_data().unwrap_or_default(),
                None => return Poll::Ready(Err(BodyError::Truncated)),
            }
        }
        Poll::Ready(Ok(&self.chunk))
    }

    pub(crate) fn buffered(&self) -> &[u8] {
        &self.chunk
    }

    pub(crate) fn consume(&mut self, n: usize) {
        self.chunk.advance(n);
        self.left -= n as u64;
    }
}
