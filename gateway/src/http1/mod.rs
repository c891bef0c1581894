//! Strict HTTP/1.1 message parsing (RFC 9112): heads, header fields, framing, request targets and hosts.
//!
//! Lenient parsers hide what a gateway must see: a `Content-Length` beside a `Transfer-Encoding`, a fragment
//! in the target, a bare LF. Here the raw bytes are validated first. Heads are split into fields by
//! `httparse`; nothing is allocated per field.

mod body_reader;
mod chunked;
mod framing;
mod header;
mod header_block;
mod header_name_set;
mod headers;
mod host;
mod request_head;
mod response_head;
mod target;

pub(crate) use body_reader::{BodyError, BodyReader};
pub(crate) use chunked::{BadChunk, ChunkDecoder, Step};
pub(crate) use framing::{BodyFraming, FramingError, declared_length, request_framing, response_framing};
pub(crate) use header::{HeaderField, HeaderKind, fold};
pub(crate) use header_block::split_lines;
pub(crate) use header_name_set::HeaderNameSet;
pub(crate) use headers::Headers;
pub(crate) use host::{Host, HostError, HostSpan};
pub(crate) use request_head::{HeadError, HeadLimits, RequestHead, Version};
pub(crate) use response_head::{ResponseHead, ResponseLimits};
pub(crate) use target::{CanonicalTarget, MAX_DECODINGS, TargetError, TargetSpan};
