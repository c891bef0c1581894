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
        if let Some(hsts) = &context.state.config.hsts
            && context.client.is_secure()
        {
            headers.insert(STRICT_TRANSPORT_SECURITY, hsts.value.clone());
        }
    }
}
