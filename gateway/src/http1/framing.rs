//! Message framing: the length of a body (RFC 9112 section 6), the target of request smuggling.

use http::{Method, StatusCode};

use crate::http1::{HeaderKind, Headers, RequestHead, ResponseHead, Version};

/// How a body is delimited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BodyFraming {
    /// There is no body.
    Empty,
    /// By its length in bytes (never zero).
    Length(u64),
    /// By the last chunk, or in HTTP/2 by the end of the stream.
    Chunked,
    /// By the end of the connection; responses only.
    UntilClose,
}

/// Framing that two parsers could interpret differently.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FramingError {
    #[error("Transfer-Encoding and Content-Length together")]
    BothFramings,
    #[error("a Content-Length that is not one decimal number")]
    BadLength,
    #[error("a Transfer-Encoding other than one `chunked`")]
    RepeatedCoding,
    #[error("an unknown transfer coding")]
    UnknownCoding,
    #[error("a Transfer-Encoding in HTTP/1.0")]
    CodingInHttp10,
}

/// The framing of a request's body.
pub(crate) fn request_framing(head: &RequestHead) -> Result<BodyFraming, FramingError> {
    match declared(head.headers(), Repeats::Refused)? {
        Declared { coding: true, .. } if head.version() == Version::Http10 => {
            Err(FramingError::CodingInHttp10)
        }
        declared => {
            let undeclared = if head.body_follows() { BodyFraming::Chunked } else { BodyFraming::Empty };
            Ok(declared.framing().unwrap_or(undeclared))
        }
    }
}

/// The framing of the body of a response to a request with `method` (RFC 9112 section 6.3).
pub(crate) fn response_framing(head: &ResponseHead, method: &Method) -> Result<BodyFraming, FramingError> {
    let declared = declared(head.headers(), Repeats::Folded)?;
    let status = head.status();
    if *method == Method::HEAD || status == StatusCode::NO_CONTENT || status == StatusCode::NOT_MODIFIED {
        return Ok(BodyFraming::Empty);
    }
    Ok(declared.framing().unwrap_or(BodyFraming::UntilClose))
}

/// The length that a response declares, also where it has no body, as the answer to HEAD.
pub(crate) fn declared_length(head: &ResponseHead) -> Option<u64> {
    declared(head.headers(), Repeats::Folded).ok()?.length
}

struct Declared {
    coding: bool,
    length: Option<u64>,
}

impl Declared {
    fn framing(&self) -> Option<BodyFraming> {
        match self {
            Declared { coding: true, .. } => Some(BodyFraming::Chunked),
            Declared { length: Some(0), .. } => Some(BodyFraming::Empty),
            Declared { length, .. } => length.map(BodyFraming::Length),
        }
    }
}

/// What becomes of a `Content-Length` that is repeated with the same value (RFC 9110 section 8.6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Repeats {
    /// In requests, where two parsers could read different ones.
    Refused,
    /// In responses, which are framed anew.
    Folded,
}

fn declared(fields: &Headers, repeats: Repeats) -> Result<Declared, FramingError> {
    let mut declared = Declared { coding: false, length: None };
    for field in fields.of_kind(HeaderKind::TransferEncoding) {
        if declared.coding {
            return Err(FramingError::RepeatedCoding);
        }
        if !field.value.eq_ignore_ascii_case(b"chunked") {
            let mentions_chunked = field.members().any(|m| m.eq_ignore_ascii_case(b"chunked"));
            return Err(if mentions_chunked {
                FramingError::RepeatedCoding
            } else {
                FramingError::UnknownCoding
            });
        }
        declared.coding = true;
    }
    for field in fields.of_kind(HeaderKind::ContentLength) {
        for value in field.value.split(|&b| b == b',' && repeats == Repeats::Folded) {
            let length = Some(decimal(value.trim_ascii()).ok_or(FramingError::BadLength)?);
            if declared.length.is_some() && (repeats == Repeats::Refused || declared.length != length) {
                return Err(FramingError::BadLength);
            }
            declared.length = length;
        }
    }
    if declared.coding && declared.length.is_some() {
        return Err(FramingError::BothFramings);
    }
    Ok(declared)
}

/// `1*DIGIT` below 2^63.
fn decimal(value: &[u8]) -> Option<u64> {
    let mut number = value.first().map(|_| 0_u64)?;
    for byte in value {
        let digit = char::from(*byte).to_digit(10)?;
        number = number.checked_mul(10)?.checked_add(digit.into())?;
    }
    (number < 1 << 63).then_some(number)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::http1::HeadLimits;

    fn framing(version: &str, fields: &str) -> Result<BodyFraming, FramingError> {
        let text = format!("POST / {version}\r\nHost: a\r\n{fields}\r\n");
        let mut head = RequestHead::default();
        head.parse(text.as_bytes(), &HeadLimits::default()).unwrap().unwrap();
        request_framing(&head)
    }

    #[test]
    fn one_clear_framing_is_accepted() {
        assert_eq!(framing("HTTP/1.1", "").unwrap(), BodyFraming::Empty);
        assert_eq!(framing("HTTP/1.1", "Content-Length: 0\r\n").unwrap(), BodyFraming::Empty);
        assert_eq!(framing("HTTP/1.1", "content-length: 010 \r\n").unwrap(), BodyFraming::Length(10));
        assert_eq!(framing("HTTP/1.1", "Transfer-Encoding: Chunked\r\n").unwrap(), BodyFraming::Chunked);
    }

    #[test]
    fn framing_that_parsers_disagree_about_is_refused() {
        use FramingError::*;
        for (fields, error) in [
            ("Content-Length: 4\r\nTransfer-Encoding: chunked\r\n", BothFramings),
            ("Content-Length: 5\r\nContent-Length: 5\r\n", BadLength),
            ("Content-Length: 5, 5\r\n", BadLength),
            ("Content-Length: +5\r\n", BadLength),
            ("Content-Length: -0\r\n", BadLength),
            ("Content-Length: 0x5\r\n", BadLength),
            ("Content-Length:\r\n", BadLength),
            ("Content-Length: 18446744073709551616\r\n", BadLength),
            ("Content-Length: 9223372036854775808\r\n", BadLength),
            ("Transfer-Encoding: gzip, chunked\r\n", RepeatedCoding),
            ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", RepeatedCoding),
            ("Transfer-Encoding: xchunked\r\n", UnknownCoding),
            ("Transfer-Encoding:\r\n", UnknownCoding),
        ] {
            assert_eq!(framing("HTTP/1.1", fields).unwrap_err(), error, "{fields:?}");
        }
        assert_eq!(framing("HTTP/1.0", "Transfer-Encoding: chunked\r\n").unwrap_err(), CodingInHttp10);
    }

    #[test]
    fn a_response_may_say_its_length_twice_where_it_is_the_same() {
        use FramingError::*;
        for (fields, framing) in [
            ("Content-Length: 5\r\nContent-Length: 5\r\n", Ok(BodyFraming::Length(5))),
            ("Content-Length: 5, 5\r\n", Ok(BodyFraming::Length(5))),
            ("Content-Length : 5\r\nContent-Length: 05,5 ,5\r\n", Ok(BodyFraming::Length(5))),
            ("Content-Length: 0\r\nContent-Length: 0\r\n", Ok(BodyFraming::Empty)),
            ("Content-Length: 5, 6\r\n", Err(BadLength)),
            ("Content-Length: 5\r\nContent-Length: 6\r\n", Err(BadLength)),
            ("Content-Length: 5,\r\n", Err(BadLength)),
            ("Content-Length: 5\r\nContent-Length: \r\n", Err(BadLength)),
            ("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", Err(BothFramings)),
            ("", Ok(BodyFraming::UntilClose)),
        ] {
            let mut head = ResponseHead::default();
            let text = format!("HTTP/1.1 200 OK\r\n{fields}\r\n");
            head.parse(text.as_bytes(), &Default::default()).unwrap().unwrap();
            assert_eq!(response_framing(&head, &Method::GET), framing, "{fields:?}");
            let length = match framing {
                Ok(BodyFraming::Length(length)) => Some(length),
                Ok(BodyFraming::Empty) => Some(0),
                _ => None,
            };
            assert_eq!(declared_length(&head), length, "{fields:?}");
        }
    }
}
