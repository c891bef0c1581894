//! Admission: passes on only requests that all parsers downstream understand alike.

use crate::admission::admit;
use crate::rejection::Rejection;
use crate::request::{Admitted, Received};

/// The step from [`Received`] to [`Admitted`].
pub(crate) fn admit_request(received: Received) -> Result<Admitted, Rejection> {
    let Received { context, mut body, refused } = received;
    if let Some(rejection) = refused {
        return Err(*rejection);
    }
    let admission = admit(&context.head)?;
    if admission.expects_continue {
        body.set_expects_continue();
    }
    Ok(Admitted::new(context, admission, body))
}
