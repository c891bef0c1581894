//! HTTP Strict Transport Security (HSTS, RFC 6797).

use std::time::Duration;

use http::header::STRICT_TRANSPORT_SECURITY;
use http::{HeaderMap, HeaderValue};

use crate::layers::decorate::{Decorate, DecorateLayer};
use crate::request::RequestContext;

/// The gateway's own policy, which replaces an upstream's.
#[derive(Debug)]
pub(crate) struct Hsts {
    value: HeaderValue,
}

impl Hsts {
    /// `max_age` is how long browsers remember it.
    pub(crate) fn new(max_age: Duration) -> Hsts {
        Hsts { value: crate::response::header_value(&format!("max-age={}", max_age.as_secs())) }
    }
}

/// Adds the policy to responses over TLS; over plain HTTP browsers ignore it (section 7.2).
pub(crate) type HstsLayer = DecorateLayer<StrictTransportSecurity>;

/// See [`HstsLayer`].
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct StrictTransportSecurity;

impl Decorate for StrictTransportSecurity {
    fn decorate(&self, context: &RequestContext, headers: &mut HeaderMap) {
        if let Some(value) = field(context.state.config.hsts.as_deref(), || context.client.is_secure()) {
            headers.insert(STRICT_TRANSPORT_SECURITY, value);
        }
    }
}

/// The field of a response: only with a policy, and over TLS.
fn field(policy: Option<&Hsts>, is_secure: impl FnOnce() -> bool) -> Option<HeaderValue> {
    policy.filter(|_| is_secure()).map(|policy| policy.value.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_responses_over_tls_have_the_policy() {
        let year = Hsts::new(Duration::from_secs(31_536_000));
        let fraction = Hsts::new(Duration::from_millis(1_900));
        for (policy, is_secure, expected) in [
            (Some(&year), true, Some("max-age=31536000")),
            (Some(&fraction), true, Some("max-age=1")),
            (Some(&year), false, None),
            (None, true, None),
            (None, false, None),
        ] {
            let found = field(policy, || is_secure);
            assert_eq!(
                found.as_ref().and_then(|value| value.to_str().ok()),
                expected,
                "{policy:?} {is_secure}"
            );
        }
    }
}
