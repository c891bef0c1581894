//! gRPC over HTTP/2 as a gateway sees it: which requests it is, and how a failure is reported to its clients
//! (<https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>).

use std::fmt::Write as _;

use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};

use crate::http1::{HeaderKind, RequestHead, Version};
use crate::rejection::Rejection;
use crate::response::{self, Response};

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// Status codes of gRPC that stand for no rejection.
pub(crate) const UNAVAILABLE: u8 = 14;
pub(crate) const UNAUTHENTICATED: u8 = 16;

/// The media type of a request of gRPC or gRPC-Web.
fn media_type(head: &RequestHead) -> Option<&[u8]> {
    const PREFIX: &[u8] = b"application/grpc";
    let field = head.headers().of_kind(HeaderKind::ContentType).next()?;
    let (front, rest) = field.value.split_at_checked(PREFIX.len())?;
    let is_type = rest.first().is_none_or(|byte| b"+-; ".contains(byte));
    (front.eq_ignore_ascii_case(PREFIX) && is_type).then_some(field.value)
}

/// The media type of a call of gRPC (POST over HTTP/2) or of gRPC-Web (POST).
pub(crate) fn call_type(head: &RequestHead) -> Option<&[u8]> {
    let web =
        |media_type: &[u8]| media_type.get(16..20).is_some_and(|rest| rest.eq_ignore_ascii_case(b"-web"));
    let is_call = |media_type: &&[u8]| head.version() == Version::Http2 || web(media_type);
    media_type(head).filter(is_call).filter(|_| *head.method() == Method::POST)
}

/// A rejection in gRPC's form: a response that consists of its header list alone ("Trailers-Only"), always with status 200.
/// What a rejection says besides code and reason (challenge, `Retry-After`) stays.
pub(crate) fn trailers_only(rejection: &Rejection, media_type: &[u8], mut headers: HeaderMap) -> Response {
    let media_type = HeaderValue::from_bytes(media_type);
    headers.insert(CONTENT_TYPE, media_type.unwrap_or(HeaderValue::from_static("application/grpc")));
    headers.extend(status(rejection.grpc_status(), &rejection.detail()));
    let mut response = response::empty(StatusCode::OK);
    *response.headers_mut() = headers;
    response
}

/// The fields of a status, as trailers or in a response without a body.
pub(crate) fn status(code: u8, message: &str) -> HeaderMap {
    let message = HeaderValue::from_str(&percent_encoded(message));
    let mut fields = HeaderMap::new();
    fields.insert(GRPC_STATUS, u16::from(code).into());
    fields.insert(GRPC_MESSAGE, message.unwrap_or(HeaderValue::from_static("")));
    fields
}

/// A `grpc-message`: UTF-8 in which everything but visible ASCII and the space, and `%` itself, is percent-encoded.
fn percent_encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b' '..=b'~' if byte != b'%' => encoded.push(char::from(byte)),
            // Writing to a String does not fail.
            _ => {
                let _ = write!(encoded, "%{byte:02X}");
            }
        }
    }
    encoded
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::http1::HeadLimits;

    #[test]
    fn requests_of_grpc_are_known_by_their_media_type() {
        for (value, is_grpc) in [
            ("application/grpc", true),
            ("application/grpc+proto", true),
            ("Application/gRPC;charset=x", true),
            ("application/grpc-web-text", true),
            ("application/grpcx", false),
            ("application/json", false),
            ("text/plain; application/grpc", false),
        ] {
            let mut head = RequestHead::default();
            let text = format!("POST /a HTTP/1.1\r\nHost: a\r\nContent-Type: {value}\r\n\r\n");
            head.parse(text.as_bytes(), &HeadLimits::default()).unwrap().unwrap();
            assert_eq!(media_type(&head).is_some(), is_grpc, "{value}");
            assert_eq!(call_type(&head).is_some(), value.contains("-web"), "{value} over HTTP/1.1");
        }
    }

    #[test]
    fn a_rejection_is_a_header_list_with_status_and_encoded_message() {
        for (rejection, code) in [
            (Rejection::AccessTokenMissing, "16"),
            (Rejection::RoleMissing, "7"),
            (Rejection::BodyTooLarge, "8"),
            (Rejection::UpstreamUnreachable, "14"),
        ] {
            let response = trailers_only(&rejection, b"application/grpc+proto", HeaderMap::new());
            assert_eq!(response.status(), 200);
            assert_eq!(response.headers()[GRPC_STATUS], code);
            assert_eq!(response.headers()[GRPC_MESSAGE], &*percent_encoded(&rejection.detail()));
            assert_eq!(response.headers()[CONTENT_TYPE], "application/grpc+proto");
        }
        assert_eq!(percent_encoded("100 % ü\n"), "100 %25 %C3%BC%0A");
    }
}
