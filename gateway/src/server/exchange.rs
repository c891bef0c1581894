//! What the exchanges of both versions of HTTP begin with.

use crate::config::Limits;
use crate::pipeline::{Client, Worker};
use crate::problem::{Code, Rejection};
use crate::telemetry::RequestId;
use crate::wire::{FieldKind, HeadError, HeadLimits, RequestHead};

/// How large a head may be.
pub(super) fn head_limits(limits: &Limits) -> HeadLimits {
    HeadLimits { line: limits.request_line, block: limits.header_block, fields: limits.header_fields }
}

/// The refusal for a head that is not accepted.
pub(super) fn bad_head(error: &HeadError) -> Rejection {
    let code = match error {
        HeadError::LineTooLong(_) => Code::UriTooLong,
        HeadError::AuthorityDisagrees => Code::AmbiguousTarget,
        HeadError::BlockTooLarge(_) | HeadError::TooManyFields(_) => Code::HeadersTooLarge,
        _ => Code::BadRequest,
    };
    Rejection::new(code, error.to_string()).close()
}

/// A trusted proxy's request id is kept, so that one id follows a request through all logs.
pub(super) fn request_id(worker: &Worker, client: &Client, head: &RequestHead) -> RequestId {
    let given = client.is_trusted().then(|| head.fields().only(FieldKind::XRequestId)).flatten();
    given
        .and_then(|field| RequestId::accept(field.value))
        .unwrap_or_else(|| worker.request_ids.borrow_mut().next_id())
}

/// The time in milliseconds since 1970.
pub(super) fn unix_millis() -> u64 {
    crate::clock::now_millis()
}
