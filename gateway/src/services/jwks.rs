//! `GET /.well-known/jwks.json`: the public keys (RFC 7517 section 5).

use http::StatusCode;

use crate::response::Response;
use crate::runtime_config::Snapshot;
use crate::tokens::JWKS_MAX_AGE;

pub(crate) fn jwks<'c>(snapshot: &Snapshot) -> Response<'c> {
    Response::new(StatusCode::OK)
        .field("Content-Type", "application/jwk-set+json")
        .field("Cache-Control", &format!("public, max-age={JWKS_MAX_AGE}"))
        .field("X-Content-Type-Options", "nosniff")
        .body(snapshot.jwks.clone())
}
