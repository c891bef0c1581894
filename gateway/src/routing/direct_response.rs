//! Direct responses (Envoy's term): routes with a fixed response.

use http::header::{CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderMap, HeaderValue, StatusCode};

use bytes::Bytes;

use crate::config;
use crate::response::{self, Body, Response};

/// The prepared response.
#[derive(Debug)]
pub(crate) struct DirectResponse {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

impl DirectResponse {
    pub(crate) fn new(settings: &config::FixedResponse) -> DirectResponse {
        let mut headers = HeaderMap::new();
        if !settings.body.is_empty() {
            headers.insert(CONTENT_TYPE, response::header_value(&settings.content_type));
            headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        }
        DirectResponse { status: settings.status, headers, body: settings.body.clone().into() }
    }

    pub(crate) fn respond(&self) -> Response {
        let mut response = response::empty(self.status);
        *response.headers_mut() = self.headers.clone();
        *response.body_mut() = Body::Bytes(self.body.clone());
        response
    }
}
