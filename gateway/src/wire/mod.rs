//! HTTP on the wire: sockets, heads, framing and bodies, read strictly and written plainly (RFC 9112, RFC 9113).
//!
//! A gateway must see what the client really sent: hyper hides a `Content-Length` beside a `Transfer-Encoding`, drops
//! a fragment from the target, answers broken heads by itself and keeps no deadline before the first byte. Here the
//! bytes are judged before anything is decided, the target that was judged is the one that is forwarded, and every
//! refusal is the gateway's own. Heads are cut into fields by `httparse`; nothing is allocated per field.

mod body;
mod buffer;
mod chunked;
mod deadline;
mod field;
mod fields;
mod fields_out;
mod framing;
mod host;
mod http2_body;
mod http2_head;
mod lingering;
mod proxy_protocol;
mod request_head;
mod response_head;
mod socket;
mod target;
mod tls_socket;

pub(crate) use body::{BodyError, BodyReader, ConnectionBody, RequestBody};
pub(crate) use buffer::ReadBuffer;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use chunked::{ChunkDecoder, Step};
pub(crate) use deadline::Deadline;
pub(crate) use field::{Field, FieldKind, fold};
pub(crate) use fields::Fields;
pub(crate) use fields_out::{FieldBlock, http_date};
pub(crate) use framing::{BodyFraming, FramingError, request_framing, response_framing};
pub(crate) use host::{Host, HostError};
pub(crate) use http2_body::Http2Body;
pub(crate) use lingering::Lingering;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use proxy_protocol::parse as parse_proxy_header;
pub(crate) use proxy_protocol::take_proxy_header;
pub(crate) use request_head::{HeadError, HeadLimits, RequestHead, Version};
pub(crate) use response_head::ResponseHead;
pub(crate) use socket::Socket;
pub(crate) use target::{CanonicalTarget, TargetError};
pub(crate) use tls_socket::TlsSocket;
