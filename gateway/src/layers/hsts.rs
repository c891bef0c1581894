//! HTTP Strict Transport Security (HSTS, RFC 6797).

use http::header::STRICT_TRANSPORT_SECURITY;
use http::{HeaderMap, HeaderValue};

use crate::layers::decorate::{Decorate, DecorateLayer};
use crate::request::RequestContext;

/// Adds the gateway's own policy, which replaces an upstream's, to responses over TLS; over plain HTTP browsers ignore it (section 7.2).
pub(crate) type HstsLayer = DecorateLayer<StrictTransportSecurity>;

/// See [`HstsLayer`].
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct StrictTransportSecurity;

impl Decorate for StrictTransportSecurity {
    fn decorate(&self, context: &RequestContext, headers: &mut HeaderMap) {
        if let Some(value) = field(context.state.config.hsts.as_ref(), || context.client.is_secure()) {
            headers.insert(STRICT_TRANSPORT_SECURITY, value);
        }
    }
}

/// The field of a response: only with a policy, and over TLS.
fn field(policy: Option<&HeaderValue>, is_secure: impl FnOnce() -> bool) -> Option<HeaderValue> {
    policy.filter(|_| is_secure()).cloned()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::runtime_config::hsts;

    #[test]
    fn only_responses_over_tls_have_the_policy() {
        let year = hsts(Duration::from_secs(31_536_000));
        let fraction = hsts(Duration::from_millis(1_900));
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
