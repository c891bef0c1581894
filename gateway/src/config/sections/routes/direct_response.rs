//! `respond` of a route: a direct response.

use std::path::Path;

use http::StatusCode;

use super::super::files::{file_name, readable, working_directory};
use crate::config::declaration::{integer, section, text};
use crate::config::entry::{InvalidValue, accept, quoted, refused};
use crate::config::settings::FixedResponse;
use crate::config::table::Table;

/// An example.
pub(super) const EXAMPLE: &str = "respond = { status = 503, body = \"Back at noon.\" }";

/// Maximum length of a body, which is kept in memory, in bytes.
const MAX_BODY_LEN: u64 = 1 << 20;

section! {
    /// A direct response.
    pub(super) struct DirectResponse {
        /// The status.
        status: Option<u16> = integer(200..=599)
            .required("write it like respond = { status = 503, body = \"Back at noon.\" }")
            .example("503");
        /// The text of the body.
        body: Option<String> = text(|text| Ok(text.to_owned())).fallback("none").example("\"Back at noon.\"");
        /// Or a file with the body, read at the start, up to 1 MiB.
        body_file: Option<Vec<u8>> = text(|name| read(&file_name(name)?)).example("\"maintenance.html\"");
        /// The media type of the body.
        content_type: String = text(content_type).default("text/plain; charset=utf-8");
    }
}

impl DirectResponse {
    pub(super) fn settings(self, table: &Table<'_>) -> Option<FixedResponse> {
        let [body, file, status] = ["body", "body_file", "status"].map(|key| table.entry(key));
        if body.is_given() && file.is_given() {
            file.error(format!("`{}` is given too", body.name()), "remove one");
        }
        if file.is_given() && self.body_file.is_none() {
            return None;
        }
        let body = self.body_file.unwrap_or_else(|| self.body.unwrap_or_default().into_bytes());
        let code = self.status.and_then(|status| StatusCode::from_u16(status).ok())?;
        let bodiless = [StatusCode::NO_CONTENT, StatusCode::RESET_CONTENT, StatusCode::NOT_MODIFIED];
        if bodiless.contains(&code) && !body.is_empty() {
            status.error(
                format!("an response with {} has no body", code.as_u16()),
                "leave `body` out, or choose another status",
            );
        }
        Some(FixedResponse { status: code, body, content_type: self.content_type })
    }
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
            ("respond = { status = 204, body = \"x\" }", "an response with 204 has no body"),
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
