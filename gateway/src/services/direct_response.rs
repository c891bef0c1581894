//! Routes whose answer is always the same.

use bytes::Bytes;
use http::StatusCode;

use crate::config;
use crate::http1::FieldBlock;
use crate::response::Response;

/// The answer, prepared.
#[derive(Debug)]
pub(crate) struct FixedAnswer {
    status: StatusCode,
    fields: FieldBlock,
    body: Bytes,
}

impl FixedAnswer {
    pub(crate) fn new(settings: &config::FixedAnswer) -> FixedAnswer {
        let mut fields = FieldBlock::new();
        if !settings.body.is_empty() {
            fields.push(b"Content-Type", settings.content_type.as_bytes());
            fields.push(b"X-Content-Type-Options", b"nosniff");
        }
        FixedAnswer { status: settings.status, fields, body: settings.body.clone().into() }
    }

    pub(crate) fn answer<'c>(&self) -> Response<'c> {
        let mut response = Response::new(self.status).body(self.body.clone());
        response.fields = self.fields.clone();
        response
    }
}
