//! Strict transport security (RFC 6797): browsers that were here over TLS come back over TLS only.

use std::time::Duration;

use crate::response::Response;

const NAME: &[u8] = b"Strict-Transport-Security";

/// The gateway's own policy; an upstream's gives way to it.
#[derive(Debug)]
pub(crate) struct Hsts {
    value: String,
}

impl Hsts {
    /// Browsers remember it for so long.
    pub(crate) fn new(max_age: Duration) -> Hsts {
        Hsts { value: format!("max-age={}", max_age.as_secs()) }
    }

    /// Adds the policy to an answer that goes out over TLS; over plain HTTP it would not be believed (section 7.2).
    pub(crate) fn decorate(&self, response: &mut Response<'_>) {
        let is_it = |name: &[u8]| name.eq_ignore_ascii_case(NAME);
        if response.fields.iter().any(|(name, _)| is_it(name)) {
            response.fields.retain(|name| !is_it(name));
        }
        response.fields.push(NAME, self.value.as_bytes());
    }
}
