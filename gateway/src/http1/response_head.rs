//! An upstream's response head.

use std::mem::MaybeUninit;

use http::StatusCode;

use crate::http1::Headers;

/// Maximum length of a response head, in bytes, and maximum number of fields.
const MAX_HEAD_BYTES: usize = 64 * 1024;
const MAX_FIELDS: usize = 100;

/// A head that cannot be forwarded.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ResponseHeadError {
    #[error("the response head is malformed")]
    Malformed,
    #[error("the response head is larger than {MAX_HEAD_BYTES} bytes or has more than {MAX_FIELDS} fields")]
    TooLarge,
}

/// A parsed response head. It is reused from response to response.
#[derive(Debug, Default)]
pub(crate) struct ResponseHead {
    status: StatusCode,
    http10: bool,
    headers: Headers,
}

impl ResponseHead {
    /// Parses a head at the front of `input`; `Some(length)` is its length in bytes.
    ///
    /// # Errors
    ///
    /// It is malformed, or exceeds a limit.
    pub(crate) fn parse(&mut self, input: &[u8]) -> Result<Option<usize>, ResponseHeadError> {
        let mut cut = [MaybeUninit::uninit(); MAX_FIELDS];
        let mut response = httparse::Response::new(&mut []);
        let parsed = httparse::ParserConfig::default().parse_response_with_uninit_headers(
            &mut response,
            input,
            &mut cut,
        );
        let length = match parsed {
            Ok(httparse::Status::Complete(length)) if length <= MAX_HEAD_BYTES => length,
            Ok(httparse::Status::Partial) if input.len() <= MAX_HEAD_BYTES => return Ok(None),
            Ok(_) | Err(httparse::Error::TooManyHeaders) => return Err(ResponseHeadError::TooLarge),
            Err(_) => return Err(ResponseHeadError::Malformed),
        };
        self.status = response
            .code
            .and_then(|code| StatusCode::from_u16(code).ok())
            .ok_or(ResponseHeadError::Malformed)?;
        self.http10 = response.version == Some(0);
        self.headers.take(&input[..length], response.headers);
        Ok(Some(length))
    }

    /// Reads a head that was decoded from HTTP/2 into the same form.
    pub(crate) fn from_http2(parts: &http::response::Parts) -> ResponseHead {
        let mut head = ResponseHead { status: parts.status, ..ResponseHead::default() };
        for (name, value) in &parts.headers {
            head.headers.push(name.as_str().as_bytes(), value.as_bytes());
        }
        head
    }

    pub(crate) fn status(&self) -> StatusCode {
        self.status
    }

    /// Whether the response is HTTP/1.0, whose connection ends with it.
    pub(crate) fn is_http10(&self) -> bool {
        self.http10
    }

    pub(crate) fn headers(&self) -> &Headers {
        &self.headers
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_response_head_is_cut_into_status_and_fields() {
        let mut head = ResponseHead::default();
        let text = b"HTTP/1.1 201 Created\r\nA: b\r\n\r\nbody";
        assert_eq!(head.parse(text).unwrap(), Some(text.len() - 4));
        assert_eq!(head.status(), StatusCode::CREATED);
        assert_eq!(
            head.headers().iter().map(|f| (f.name, f.value)).collect::<Vec<_>>(),
            [(&b"A"[..], &b"b"[..])]
        );
    }

    #[test]
    fn what_is_not_a_response_head_is_refused() {
        for bad in [
            "<html>hello</html>\r\n\r\n",
            "HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n",
            "HTTP/1.1 200 OK\r\nA: \0\r\n\r\n",
        ] {
            assert_eq!(
                ResponseHead::default().parse(bad.as_bytes()).unwrap_err(),
                ResponseHeadError::Malformed,
                "{bad:?}"
            );
        }
    }
}
