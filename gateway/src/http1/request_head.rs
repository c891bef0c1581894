//! A request's head: request line and fields, parsed by `httparse` and kept as ranges over one copy of the
//! bytes.

use std::mem::MaybeUninit;
use std::ops::Range;

use http::Method;
use http::header::{COOKIE, HOST};
use http::request::Parts;

use crate::http1::headers::place;
use crate::http1::{HeaderKind, Headers, Host};

/// The protocol version of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Version {
    Http10,
    Http11,
    Http2,
}

/// Size limits of a head.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HeadLimits {
    /// Length of the request line, in bytes.
    pub(crate) line: usize,
    /// Length of the whole head, in bytes.
    pub(crate) block: usize,
    /// Number of fields.
    pub(crate) fields: usize,
}

impl Default for HeadLimits {
    fn default() -> HeadLimits {
        HeadLimits { line: 8 * 1024, block: 32 * 1024, fields: 100 }
    }
}

/// The maximum of [`HeadLimits::fields`].
pub(crate) const MAX_FIELDS: usize = 256;

/// A rejected head. Nothing that follows it on the connection can be trusted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum HeadError {
    #[error("the request line is not `method target HTTP/1.1`")]
    BadRequestLine,
    #[error("a line of the head does not end with CRLF")]
    BareLineFeed,
    #[error("a header field is malformed")]
    BadField,
    #[error("only HTTP/1.1 and HTTP/1.0 are spoken here")]
    BadVersion,
    #[error("the request line is longer than {0} bytes")]
    LineTooLong(usize),
    #[error("the head is larger than {0} bytes")]
    BlockTooLarge(usize),
    #[error("the head has more than {0} fields")]
    TooManyFields(usize),
    #[error("the Host disagrees with the :authority")]
    AuthorityDisagrees,
}

/// Whether `Host` names the same host as `:authority`.
fn same_host(authority: &[u8], host: &[u8]) -> bool {
    match (Host::parse(authority), Host::parse(host)) {
        (Ok(authority), Ok(host)) => authority.same_as(&host),
        _ => false,
    }
}

/// A parsed head. It is reused from request to request, so that parsing allocates nothing once warm.
#[derive(Debug)]
pub(crate) struct RequestHead {
    method: Method,
    target: Range<usize>,
    version: Version,
    /// HTTP/2: whether a body follows that is delimited by the end of the stream.
    body_follows: bool,
    headers: Headers,
}

impl Default for RequestHead {
    fn default() -> RequestHead {
        RequestHead {
            method: Method::GET,
            target: 0..0,
            version: Version::Http11,
            body_follows: false,
            headers: Headers::default(),
        }
    }
}

impl RequestHead {
    /// Parses a head at the front of `input`; `Some(length)` is its length in bytes, `None` means that it is
    /// incomplete.
    ///
    /// # Errors
    ///
    /// It is malformed, or exceeds a limit.
    pub(crate) fn parse(&mut self, input: &[u8], limits: &HeadLimits) -> Result<Option<usize>, HeadError> {
        let Some(length) = complete_head(input, limits)? else { return Ok(None) };
        let head = &input[..length];
        let mut cut = [MaybeUninit::uninit(); MAX_FIELDS];
        let mut request = httparse::Request::new(&mut []);
        let within = limits.fields.min(MAX_FIELDS);
        match request.parse_with_uninit_headers(head, &mut cut[..within]) {
            Ok(httparse::Status::Complete(_)) => {}
            Ok(httparse::Status::Partial) | Err(httparse::Error::Token | httparse::Error::NewLine) => {
                return Err(HeadError::BadRequestLine);
            }
            Err(httparse::Error::Version) => return Err(HeadError::BadVersion),
            Err(httparse::Error::TooManyHeaders) => return Err(HeadError::TooManyFields(within)),
            Err(_) => return Err(HeadError::BadField),
        }
        self.method = request
            .method
            .and_then(|m| Method::from_bytes(m.as_bytes()).ok())
            .ok_or(HeadError::BadRequestLine)?;
        self.target = request.path.map(|p| place(head, p.as_bytes())).ok_or(HeadError::BadRequestLine)?;
        self.version = if request.version == Some(0) { Version::Http10 } else { Version::Http11 };
        self.body_follows = false;
        self.headers.take(head, request.headers);
        Ok(Some(length))
    }

    pub(crate) fn method(&self) -> &Method {
        &self.method
    }

    /// The request target, byte for byte.
    pub(crate) fn target(&self) -> &[u8] {
        &self.headers.head()[self.target.clone()]
    }

    pub(crate) fn version(&self) -> Version {
        self.version
    }

    pub(crate) fn headers(&self) -> &Headers {
        &self.headers
    }

    /// The media type of the body without its parameters; empty unless there is exactly one `Content-Type`.
    pub(crate) fn media_type(&self) -> &[u8] {
        let value = self.headers.only(HeaderKind::ContentType).map_or(&b""[..], |field| field.value);
        value.split(|&b| b == b';').next().unwrap_or_default().trim_ascii()
    }

    /// Reads a head that was decoded from HTTP/2 (RFC 9113 section 8.3) into the same form, so that it is
    /// validated like one of HTTP/1.1.
    ///
    /// `:authority` becomes `Host`, and cookie crumbs become one `Cookie` field (section 8.2.3), as upstreams
    /// expect. `body_follows` is whether the stream goes on after the head.
    ///
    /// # Errors
    ///
    /// A target or a number of fields over `limits`, or a `Host` that disagrees with `:authority`.
    pub(crate) fn read_http2(
        &mut self,
        parts: &Parts,
        body_follows: bool,
        limits: &HeadLimits,
    ) -> Result<(), HeadError> {
        self.method = parts.method.clone();
        self.version = Version::Http2;
        self.body_follows = body_follows;
        self.headers.clear();
        let target = match (parts.uri.path_and_query(), parts.uri.authority()) {
            (None, Some(authority)) if parts.method == Method::CONNECT => authority.as_str(),
            (path, _) => path.map_or("/", |path| path.as_str()),
        };
        self.target = self.headers.append(target.as_bytes());
        // The length that the request line of HTTP/1.1 would have, without its CRLF.
        if self.method.as_str().len() + target.len() + b"  HTTP/1.1".len() > limits.line {
            return Err(HeadError::LineTooLong(limits.line));
        }
        let authority = parts.uri.authority().map(|authority| authority.as_str().as_bytes());
        if let Some(authority) = authority {
            self.headers.push(b"Host", authority);
        }
        let mut host_seen = false;
        for (name, value) in &parts.headers {
            match authority {
                Some(authority) if *name == HOST => {
                    if host_seen || !same_host(authority, value.as_bytes()) {
                        return Err(HeadError::AuthorityDisagrees);
                    }
                    host_seen = true;
                }
                _ if *name == COOKIE => {}
                _ => self.headers.push(name.as_str().as_bytes(), value.as_bytes()),
            }
        }
        let crumbs: Vec<&[u8]> = parts.headers.get_all(COOKIE).iter().map(|value| value.as_bytes()).collect();
        if !crumbs.is_empty() {
            self.headers.push(b"Cookie", &crumbs.join(&b"; "[..]));
        }
        if self.headers.len() > limits.fields.min(MAX_FIELDS) {
            return Err(HeadError::TooManyFields(limits.fields.min(MAX_FIELDS)));
        }
        Ok(())
    }

    /// Whether a request line was parsed; a head that was rejected before that has none.
    pub(crate) fn has_request_line(&self) -> bool {
        !self.target.is_empty()
    }

    /// Clears the head and keeps its memory.
    pub(crate) fn clear(&mut self) {
        self.target = 0..0;
        self.headers.clear();
    }

    /// Whether a body follows though neither length nor transfer coding is declared.
    pub(crate) fn body_follows(&self) -> bool {
        self.body_follows
    }
}

/// The length of the head at the front of `input`, once its empty line has arrived. Lines end with CRLF only:
/// RFC 9112 section 2.2 allows accepting a bare LF, and parsers disagree on it.
fn complete_head(input: &[u8], limits: &HeadLimits) -> Result<Option<usize>, HeadError> {
    // At most one empty line before the request line (RFC 9112 section 2.2).
    let skipped = if input.starts_with(b"\r\n") { 2 } else { 0 };
    if input.get(skipped).is_some_and(|&b| !is_tchar(b) && (skipped > 0 || b != b'\r')) {
        return Err(HeadError::BadRequestLine);
    }
    let mut start = skipped;
    for end in memchr::memchr_iter(b'\n', &input[skipped..]).map(|at| skipped + at) {
        let length = end - start;
        if length == 0 || input[end - 1] != b'\r' {
            return Err(HeadError::BareLineFeed);
        }
        if start == skipped && length > limits.line {
            return Err(HeadError::LineTooLong(limits.line));
        }
        if end >= limits.block {
            return Err(HeadError::BlockTooLarge(limits.block));
        }
        if length == 1 && start > skipped {
            return Ok(Some(end + 1));
        }
        start = end + 1;
    }
    if start == skipped && input.len() - start > limits.line {
        return Err(HeadError::LineTooLong(limits.line));
    }
    if input.len() > limits.block {
        return Err(HeadError::BlockTooLarge(limits.block));
    }
    Ok(None)
}

fn is_tchar(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Option<RequestHead>, HeadError> {
        let mut head = RequestHead::default();
        Ok(head.parse(text.as_bytes(), &HeadLimits::default())?.map(|_| head))
    }

    #[test]
    fn a_head_is_cut_into_its_parts() {
        let head =
            parse("POST /a?b HTTP/1.1\r\nHost: x\r\nEmpty:\r\nX-A:  b c \r\n\r\nbody").unwrap().unwrap();
        assert_eq!(
            (head.method(), head.target(), head.version()),
            (&Method::POST, &b"/a?b"[..], Version::Http11)
        );
        let fields: Vec<_> = head.headers().iter().map(|f| (f.name, f.value)).collect();
        assert_eq!(fields, [(&b"Host"[..], &b"x"[..]), (b"Empty", b""), (b"X-A", b"b c")]);
    }

    #[test]
    fn a_head_is_complete_only_with_its_empty_line() {
        let text = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
        for end in 1..text.len() {
            assert!(parse(&text[..end]).unwrap().is_none(), "{:?}", &text[..end]);
        }
        assert!(parse(text).unwrap().is_some());
        assert!(parse("\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap().is_some(), "one empty line before");
    }

    #[test]
    fn malformed_heads_are_refused_as_what_they_are() {
        use HeadError::*;
        for (text, error) in [
            ("GET / HTTP/1.1\nHost: x\r\n\r\n", BareLineFeed),
            ("GET / HTTP/1.1\r\nA: b\nX: y\r\n\r\n", BareLineFeed),
            ("GET /\r\n\r\n", BadRequestLine),
            ("GET  / HTTP/1.1\r\n\r\n", BadRequestLine),
            ("GET / HTTP/01.1\r\n\r\n", BadVersion),
            ("GET / HTTP/2.0\r\n\r\n", BadVersion),
            ("G\"T / HTTP/1.1\r\n\r\n", BadRequestLine),
            ("\x16\x03\x01", BadRequestLine),
            ("GET / HTTP/1.1\r\nA : b\r\n\r\n", BadField),
            ("GET / HTTP/1.1\r\n A: b\r\n\r\n", BadField),
            ("GET / HTTP/1.1\r\nA: b\r\n c\r\n\r\n", BadField),
            ("GET / HTTP/1.1\r\nNoColon\r\n\r\n", BadField),
            ("GET / HTTP/1.1\r\nA: b\0\r\n\r\n", BadField),
            ("GET / HTTP/1.1\r\nA: b\rc\r\n\r\n", BadField),
        ] {
            assert_eq!(parse(text).unwrap_err(), error, "{text:?}");
        }
    }

    #[test]
    fn heads_over_a_limit_are_refused_before_they_end() {
        assert_eq!(parse(&format!("GET /{}", "a".repeat(9000))).unwrap_err(), HeadError::LineTooLong(8192));
        let long = format!("GET / HTTP/1.1\r\nA: {}", "a".repeat(33_000));
        assert_eq!(parse(&long).unwrap_err(), HeadError::BlockTooLarge(32 * 1024));
        let many = format!("GET / HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(101));
        assert_eq!(parse(&many).unwrap_err(), HeadError::TooManyFields(100));
    }
}
