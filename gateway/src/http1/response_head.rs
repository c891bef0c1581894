//! An upstream's response head.

use std::mem::MaybeUninit;

use http::{HeaderName, StatusCode};

use crate::http1::Headers;

/// How large a response head may be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ResponseLimits {
    /// Bytes of the whole head.
    pub(crate) block: usize,
    /// Number of fields.
    pub(crate) fields: usize,
}

impl Default for ResponseLimits {
    fn default() -> ResponseLimits {
        ResponseLimits { block: 64 * 1024, fields: 100 }
    }
}

/// Heads with more fields than this need an allocation.
const USUAL_FIELDS: usize = 128;

/// A head that cannot be passed on. Values are never repeated: they may be secret.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ResponseHeadError {
    #[error("the response does not begin with a status line of HTTP/1.1 or HTTP/1.0")]
    BadStatusLine,
    #[error("the response head is malformed at {0}")]
    BadField(String),
    #[error(
        "the response head is larger than response_header_block = {limit} bytes of the upstream allows; its largest field is {field} with {size} bytes"
    )]
    TooLarge { limit: usize, field: String, size: usize },
    #[error("the response has more fields than response_header_fields = {0} of the upstream allows")]
    TooManyFields(usize),
}

/// A parsed response head. It is reused from response to response.
#[derive(Debug, Default)]
pub(crate) struct ResponseHead {
    status: StatusCode,
    http10: bool,
    headers: Headers,
}

impl ResponseHead {
    /// Reads a head from the front of `input`; `Some(length)` tells how many bytes it took.
    ///
    /// Spaces before a field's colon are taken and do not pass on (RFC 9112 section 5.1); fields that go on in a second line are
    /// joined by spaces (section 5.2).
    ///
    /// # Errors
    ///
    /// It is no head, or larger than `limits`.
    pub(crate) fn parse(
        &mut self,
        input: &[u8],
        limits: &ResponseLimits,
    ) -> Result<Option<usize>, ResponseHeadError> {
        let mut usual = [MaybeUninit::uninit(); USUAL_FIELDS];
        let mut many = Vec::new();
        let cut = if limits.fields <= USUAL_FIELDS {
            &mut usual[..limits.fields]
        } else {
            many.resize(limits.fields, MaybeUninit::uninit());
            &mut many[..]
        };
        let mut response = httparse::Response::new(&mut []);
        let parsed = httparse::ParserConfig::default()
            .allow_spaces_after_header_name_in_responses(true)
            .parse_response_with_uninit_headers(&mut response, input, cut);
        let length = match parsed {
            Ok(httparse::Status::Complete(length)) if length <= limits.block => length,
            Ok(httparse::Status::Partial) if input.len() <= limits.block => return Ok(None),
            Ok(_) => return Err(too_large(input, limits.block)),
            Err(httparse::Error::TooManyHeaders) => {
                return Err(ResponseHeadError::TooManyFields(limits.fields));
            }
            Err(_) => {
                let Some(unfolded) = unfold(input) else { return Err(malformed(input)) };
                return match ends(&unfolded) || unfolded.len() > limits.block {
                    true => self.parse(&unfolded, limits),
                    false => Ok(None),
                };
            }
        };
        self.status = response
            .code
            .and_then(|code| StatusCode::from_u16(code).ok())
            .ok_or(ResponseHeadError::BadStatusLine)?;
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

/// Whether a head is complete.
fn ends(input: &[u8]) -> bool {
    [&b"\n\r\n"[..], b"\n\n"].iter().any(|end| memchr::memmem::find(input, end).is_some())
}

/// A copy of the same length in which the line ends inside of fields are spaces; `None` where there are none.
#[cold]
fn unfold(input: &[u8]) -> Option<Vec<u8>> {
    let mut copy = None::<Vec<u8>>;
    let mut lines = memchr::memchr_iter(b'\n', input);
    // The status line does not go on in a second line.
    let mut start = lines.next()? + 1;
    for end in lines {
        let from = if input[start..end].ends_with(b"\r") { end - 1 } else { end };
        if from == start {
            // The end of the head.
            break;
        }
        start = end + 1;
        if matches!(input.get(end + 1), Some(b' ' | b'\t')) {
            copy.get_or_insert_with(|| input.to_vec())[from..=end].fill(b' ');
        }
    }
    copy
}

/// The lines of a head behind its first one, as far as they have arrived.
fn field_lines(input: &[u8]) -> impl Iterator<Item = &[u8]> {
    let lines = input.split(|&b| b == b'\n').skip(1);
    lines.map(|line| line.strip_suffix(b"\r").unwrap_or(line)).take_while(|line| !line.is_empty())
}

/// A field's name as it may stand in a log line.
fn name_of(line: &[u8]) -> String {
    let name = &line[..memchr::memchr(b':', line).unwrap_or(0)];
    format!("`{}`", name[..name.len().min(64)].escape_ascii())
}

#[cold]
fn too_large(input: &[u8], limit: usize) -> ResponseHeadError {
    let largest = field_lines(input).max_by_key(|line| line.len()).unwrap_or_default();
    ResponseHeadError::TooLarge { limit, field: name_of(largest), size: largest.len() }
}

/// Which line the parser has stumbled over.
#[cold]
fn malformed(input: &[u8]) -> ResponseHeadError {
    let is_token = |name: &[u8]| HeaderName::from_bytes(name).is_ok();
    let is_text = |value: &[u8]| value.iter().all(|&b| b == b'\t' || b >= b' ' && b != 0x7f);
    let mut last = None;
    for line in field_lines(input) {
        let why = match memchr::memchr(b':', line) {
            _ if line.starts_with(b" ") || line.starts_with(b"\t") => match last {
                Some(field) => format!("the field {}, which goes on in a second line", name_of(field)),
                None => "a space in front of the first field".to_owned(),
            },
            None => "a line without a colon".to_owned(),
            Some(colon) if !is_token(line[..colon].trim_ascii_end()) => {
                format!("the name of the field {}", name_of(line))
            }
            Some(colon) if !is_text(&line[colon + 1..]) => {
                format!("a control character in the field {}", name_of(line))
            }
            Some(_) => {
                last = Some(line);
                continue;
            }
        };
        return ResponseHeadError::BadField(why);
    }
    ResponseHeadError::BadStatusLine
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<ResponseHead, String> {
        let mut head = ResponseHead::default();
        let limits = ResponseLimits { block: 1024, fields: 5 };
        head.parse(text.as_bytes(), &limits).map_err(|error| error.to_string())?.unwrap();
        Ok(head)
    }

    #[test]
    fn a_response_head_is_cut_into_status_and_fields() {
        let mut head = ResponseHead::default();
        let text = b"HTTP/1.1 201 Created\r\nA: b\r\nC : d\r\nE\t :f\r\n\r\nbody";
        assert_eq!(head.parse(text, &ResponseLimits::default()).unwrap(), Some(text.len() - 4));
        assert_eq!(head.status(), StatusCode::CREATED);
        assert_eq!(
            head.headers().iter().map(|f| (f.name, f.value)).collect::<Vec<_>>(),
            [(&b"A"[..], &b"b"[..]), (b"C", b"d"), (b"E", b"f")],
            "spaces before a colon are not part of the name"
        );
    }

    #[test]
    fn fields_that_go_on_in_further_lines_are_joined() {
        for (text, value, length) in [
            ("HTTP/1.1 200 OK\r\nA: b\r\n c\r\nD: e\r\n\r\n", "b   c", 35),
            ("HTTP/1.1 200 OK\r\nA: b\r\n\tc\r\n \r\n  d\r\n\r\nx\r\n y", "b  \tc       d", 37),
            ("HTTP/1.1 200 OK\nA:\n b\n\n", "b", 23),
        ] {
            let mut head = ResponseHead::default();
            for cut in 1..length {
                let parsed = head.parse(&text.as_bytes()[..cut], &ResponseLimits::default());
                assert_eq!(parsed.unwrap(), None, "{text:?} {cut}");
            }
            let parsed = head.parse(text.as_bytes(), &ResponseLimits::default());
            assert_eq!(parsed.unwrap(), Some(length), "{text:?}");
            let first = head.headers().iter().next().unwrap();
            assert_eq!((first.name, first.value), (&b"A"[..], value.as_bytes()), "{text:?}");
        }
        let endless = format!("HTTP/1.1 200 OK\r\nA: b{}", "\r\n c".repeat(400));
        assert!(parse(&endless).unwrap_err().contains("larger than response_header_block"));
    }

    #[test]
    fn what_is_refused_names_the_field_or_the_limit() {
        let many = (0..6).map(|n| format!("F{n}: x\r\n")).collect::<String>();
        for (head, why) in [
            ("<html>hello</html>\r\n\r\n".to_owned(), "does not begin with a status line"),
            ("HTTP/2 200\r\n\r\n".to_owned(), "does not begin with a status line"),
            ("HTTP/1.1 200 OK\r\n A: b\r\n c\r\n\r\n".to_owned(), "a space in front of the first field"),
            ("HTTP/1.1 200 OK\r\nA: b\r\n \0c\r\n\r\n".to_owned(), "control character in the field `A`"),
            (
                "HTTP/1.1 200 OK\r\nA: b\r\nX-Bad: \0\r\n\r\n".to_owned(),
                "control character in the field `X-Bad`",
            ),
            ("HTTP/1.1 200 OK\r\nA: b\r\nX Bad: c\r\n\r\n".to_owned(), "the name of the field `X Bad`"),
            ("HTTP/1.1 200 OK\r\nA: b\r\nwhat is this\r\n\r\n".to_owned(), "a line without a colon"),
            (format!("HTTP/1.1 200 OK\r\n{many}\r\n"), "more fields than response_header_fields = 5"),
            (
                format!("HTTP/1.1 200 OK\r\nA: b\r\nSet-Cookie: {}\r\nC: d\r\n\r\n", "s".repeat(1024)),
                "larger than response_header_block = 1024 bytes of the upstream allows; its largest field is `Set-Cookie` with 1036 bytes",
            ),
        ] {
            let error = parse(&head).unwrap_err();
            assert!(error.contains(why), "{head:?}: {error}");
            assert!(!error.contains("sss"), "no value is repeated: {error}");
        }
        assert!(parse("HTTP/1.1 200 OK\r\nA: b\r\n\r\n").is_ok());
    }
}
