//! `respond` of a route: a direct response.

use http::StatusCode;
use std::path::Path;

use super::super::files::{readable, working_directory};
use super::super::prelude::*;

/// An example.
pub(super) const EXAMPLE: &str = "respond = { status = 503, body = \"Back at noon.\" }";

/// Maximum length of a body, which is kept in memory, in bytes.
const MAX_BODY_LEN: u64 = 1 << 20;

section! {
    /// A direct response.
    pub struct FixedResponse {
        /// The status.
        status: StatusCode = or_default(
            integer::<u16>(200..=599)
                .required("write it like respond = { status = 503, body = \"Back at noon.\" }")
                .map(|status| StatusCode::from_u16(status).unwrap_or_default())
                .example("503"),
        );
        /// The body.
        body: Vec<u8> = flat(body);
        /// The media type of the body.
        content_type: String = text(content_type).default("text/plain; charset=utf-8");
    }
}

section! {
    /// The body.
    struct BodyKeys {
        /// The text of the body.
        body: Option<String> = text(|text| Ok(text.to_owned())).fallback("none").example("\"Back at noon.\"");
        /// Or a file with the body, read at the start, up to 1 MiB.
        body_file: Option<Vec<u8>> = text(|name| read(&file_name(name)?)).example("\"maintenance.html\"");
    }
}

fn body(keys: BodyKeys, table: &Table<'_>) -> Vec<u8> {
    let (body, file) = (table.entry("body"), table.entry("body_file"));
    if body.is_given() && file.is_given() {
        file.error(format!("`{}` is given too", body.name()), "remove one");
    }
    keys.body_file.unwrap_or_else(|| keys.body.unwrap_or_default().into_bytes())
}

/// Refuses a body with a status that has none.
pub(super) fn checked(response: Option<FixedResponse>, entry: &Entry<'_>) -> Option<FixedResponse> {
    let bodiless = [StatusCode::NO_CONTENT, StatusCode::RESET_CONTENT, StatusCode::NOT_MODIFIED];
    if let Some(FixedResponse { status, body, .. }) = &response
        && bodiless.contains(status)
        && !body.is_empty()
    {
        entry.table_or_empty().entry("status").error(
            format!("a response with {} has no body", status.as_u16()),
            "leave `body` out, or choose another status",
        );
    }
    response
}

fn content_type(text: &str) -> Result<String, InvalidValue> {
    let is_plain = text.bytes().all(|b| b == b' ' || b.is_ascii_graphic());
    accept(
        text,
        is_plain && text.trim() == text && text.split_once('/').is_some_and(|(kind, _)| !kind.is_empty()),
        "is not a media type",
        "write it like \"application/json\"",
    )
}

fn read(path: &Path) -> Result<Vec<u8>, InvalidValue> {
    let failed = |why: String| {
        InvalidValue::new(format!("the file {} {why}", quoted(&path.display().to_string())))
            .help(format!("name an existing file that this account may read{}", working_directory(path)))
    };
    readable(path)
        .map_err(|why| failed(why.replace("does not exist", "cannot be read: it does not exist")))?;
    let cannot = |error: std::io::Error| failed(format!("cannot be read: {error}"));
    let length = std::fs::metadata(path).map_err(cannot)?.len();
    if length > MAX_BODY_LEN {
        let why = format!("the file has {length} bytes, and {MAX_BODY_LEN} are the most");
        return refused(why, "serve it from a folder with `static`");
    }
    std::fs::read(path).map_err(cannot)
}

#[cfg(test)]
mod tests {
    use super::super::super::test_support::{load_diagnostics, minimal, settings};
    use crate::config::settings::RouteTarget;

    fn with(keys: &str) -> String {
        minimal() + "[[routes]]\npath = \"/x\"\n" + keys
    }

    #[test]
    fn a_direct_response_has_a_status_and_may_have_a_body() {
        for (keys, status, begin, content_type) in [
            ("{ status = 503, body = \"Back at noon.\" }", 503, "Back", "text/plain; charset=utf-8"),
            ("{ status = 200, body_file = \"Cargo.toml\", content_type = \"a/b\" }", 200, "[package]", "a/b"),
            ("{ status = 204 }", 204, "", "text/plain; charset=utf-8"),
        ] {
            let target = settings(with(&format!("respond = {keys}"))).routes.remove(1).target;
            let RouteTarget::Respond(response) = target else { panic!("{target:?}") };
            assert_eq!((response.status.as_u16(), response.content_type.as_str()), (status, content_type));
            assert!(response.body.starts_with(begin.as_bytes()));
        }
    }

    #[test]
    fn responses_that_cannot_be_sent_are_refused() {
        for (keys, message) in [
            ("respond = { body = \"x\" }", "`routes[1].respond.status` is missing"),
            ("respond = { status = 100 }", "must be from 200 to 599"),
            ("respond = { status = 204, body = \"x\" }", "a response with 204 has no body"),
            ("respond = { status = 200, body_file = \"no/such\" }", "cannot be read"),
            ("respond = { status = 200, body = \"x\", body_file = \"Cargo.toml\" }", "is given too"),
            ("respond = { status = 200, content_type = \"text\" }", "is not a media type"),
            ("respond = { status = 200, content_type = \"a/b\\r\\nX: y\" }", "is not a media type"),
            ("respond = { status = 200 }\nindex_fallback = true", "has no meaning without `static`"),
        ] {
            load_diagnostics(with(keys)).only(message, "");
        }
    }
}
