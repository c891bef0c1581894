//! What the exchanges of both versions of HTTP begin with.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::client_addr::Client;
use crate::config::Limits;
use crate::http1::{FieldKind, HeadError, HeadLimits, RequestHead};
use crate::rejection::{Code, Rejection};
use crate::runtime::Worker;
use crate::telemetry::RequestId;

/// How large a head may be.
pub(crate) fn head_limits(limits: &Limits) -> HeadLimits {
    HeadLimits { line: limits.request_line, block: limits.header_block, fields: limits.header_fields }
}

/// The refusal for a head that is not accepted.
pub(crate) fn bad_head(error: &HeadError) -> Rejection {
    let code = match error {
        HeadError::LineTooLong(_) => Code::UriTooLong,
        HeadError::AuthorityDisagrees => Code::AmbiguousTarget,
        HeadError::BlockTooLarge(_) | HeadError::TooManyFields(_) => Code::HeadersTooLarge,
        _ => Code::BadRequest,
    };
    Rejection::new(code, error.to_string()).close()
}

/// A trusted proxy's request id is kept, so that one id follows a request through all logs.
pub(crate) fn request_id(worker: &Worker, client: &Client, head: &RequestHead) -> RequestId {
    let given = client.is_trusted().then(|| head.fields().only(FieldKind::XRequestId)).flatten();
    given
        .and_then(|field| RequestId::accept(field.value))
        .unwrap_or_else(|| worker.request_ids.borrow_mut().next_id())
}

/// The time in milliseconds since 1970.
pub(crate) fn unix_millis() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64)
}
