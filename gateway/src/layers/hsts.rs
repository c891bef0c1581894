//! Strict transport security (RFC 6797): browsers that were here over TLS come back over TLS only.

use std::time::Duration;

use http::header::STRICT_TRANSPORT_SECURITY;
use http::{HeaderMap, HeaderValue};

use crate::layers::decorate::{Decorate, DecorateLayer};
use crate::request::RequestContext;

/// The gateway's own policy; an upstream's gives way to it.
#[derive(Debug)]
pub(crate) struct Hsts {
    value: HeaderValue,
}

impl Hsts {
    /// Browsers remember it for so long.
    pub(crate) fn new(max_age: Duration) -> Hsts {
        Hsts { value: crate::response::header_value(&format!("max-age={}", max_age.as_secs())) }
    }
}

/// Adds the policy to responses that go out over TLS; over plain HTTP it would not be believed (section 7.2).
pub(crate) type HstsLayer = DecorateLayer<StrictTransportSecurity>;

/// See [`HstsLayer`].
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct StrictTransportSecurity;

impl Decorate for StrictTransportSecurity {
    fn decorate(&self, context: &RequestContext, headers: &mut HeaderMap) {
        if let Some(hsts) = &context.state.config.hsts
            && context.client.is_secure()
        {
            headers.insert(STRICT_TRANSPORT_SECURITY, hsts.value.clone());
        }
    }
}
