//! `GET /.well-known/jwks.json`: the public keys (RFC 7517 section 5).

use http::header::{CACHE_CONTROL, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderValue, StatusCode};

use crate::response::{self, Body, Response};
use crate::runtime_config::RuntimeConfig;
use crate::tokens::JWKS_MAX_AGE;

pub(crate) fn jwks(config: &RuntimeConfig) -> Response {
    let mut response = response::empty(StatusCode::OK);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/jwk-set+json"));
    headers.insert(
        CACHE_CONTROL,
        response::header_value(&format!("public, max-age={}", JWKS_MAX_AGE.as_secs())),
    );
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    *response.body_mut() = Body::Bytes(config.jwks.clone());
    response
}
