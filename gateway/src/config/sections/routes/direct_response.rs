//! `respond` of a route: an answer that is always the same.

use std::path::Path;

use http::StatusCode;

use super::super::store::file_name;
use crate::config::diagnostic::Diagnostic;
use crate::config::entry::{InvalidValue, like, quoted};
use crate::config::settings::FixedAnswer;
use crate::config::table::Table;

/// How it is written.
pub(super) const EXAMPLE: &str = "respond = { status = 503, body = \"Back at noon.\" }";

/// Kept in memory for good, so it is not for downloads. In bytes.
const MAX_BODY_LEN: u64 = 1 << 20;

/// The table under `respond`.
pub(super) fn direct_response(table: &mut Table<'_>) -> Option<FixedAnswer> {
    let status_entry = table.take("status");
    if !status_entry.is_given() {
        table.report().push(
            Diagnostic::error(format!("`{}` is missing", status_entry.name()))
                .at(table.place())
                .help(like(EXAMPLE)),
        );
    }
    let status = status_entry.integer::<u16>(200..=599).and_then(|status| StatusCode::from_u16(status).ok());
    let (text, file) = (table.take("body"), table.take("body_file"));
    let content_type = table.take("content_type").parse(content_type);
    if text.is_given() && file.is_given() {
        file.refuse(InvalidValue::new(format!("`{}` is given too", text.name())).help("remove one"));
    }
    let body = match file.is_given() {
        true => file.parse(|name| read(&file_name(name)?))?,
        false => text.string().unwrap_or_default().as_bytes().to_vec(),
    };
    let status = status?;
    let bodiless = [StatusCode::NO_CONTENT, StatusCode::RESET_CONTENT, StatusCode::NOT_MODIFIED];
    if bodiless.contains(&status) && !body.is_empty() {
        status_entry.refuse(
            InvalidValue::new(format!("an answer with {} has no body", status.as_u16()))
                .help("leave `body` out, or choose another status"),
        );
    }
    let content_type = content_type.unwrap_or_else(|| "text/plain; charset=utf-8".to_owned());
    Some(FixedAnswer { status, body, content_type })
}

fn content_type(text: &str) -> Result<String, InvalidValue> {
    let is_plain = text.bytes().all(|b| b == b' ' || b.is_ascii_graphic());
    if is_plain && text.trim() == text && text.split_once('/').is_some_and(|(kind, _)| !kind.is_empty()) {
        return Ok(text.to_owned());
    }
    Err(InvalidValue::new(format!("{} is not a media type", quoted(text)))
        .help("write it like \"application/json\""))
}

fn read(path: &Path) -> Result<Vec<u8>, InvalidValue> {
    let failed = |error: std::io::Error| {
        InvalidValue::new(format!("the file {} cannot be read: {error}", quoted(&path.display().to_string())))
            .help("name an existing file that this account may read")
    };
    let length = std::fs::metadata(path).map_err(failed)?.len();
    if length > MAX_BODY_LEN {
        return Err(InvalidValue::new(format!(
            "the file has {length} bytes, and {MAX_BODY_LEN} are the most"
        ))
        .help("serve it from a folder with `static`"));
    }
    std::fs::read(path).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::super::super::test_support::{complaints, minimal, settings};
    use crate::config::settings::RouteTarget;

    fn with(keys: &str) -> String {
        minimal() + "[[routes]]\npath = \"/x\"\n" + keys
    }

    #[test]
    fn an_answer_has_a_status_and_may_have_a_body() {
        for (keys, status, begin, content_type) in [
            ("{ status = 503, body = \"Back at noon.\" }", 503, "Back", "text/plain; charset=utf-8"),
            ("{ status = 200, body_file = \"Cargo.toml\", content_type = \"a/b\" }", 200, "[package]", "a/b"),
            ("{ status = 204 }", 204, "", "text/plain; charset=utf-8"),
        ] {
            let target = settings(with(&format!("respond = {keys}"))).routes.remove(1).target;
            let RouteTarget::Answer(answer) = target else { panic!("{target:?}") };
            assert_eq!((answer.status.as_u16(), answer.content_type.as_str()), (status, content_type));
            assert!(answer.body.starts_with(begin.as_bytes()));
        }
    }

    #[test]
    fn answers_that_cannot_be_sent_are_refused() {
        for (keys, message) in [
            ("respond = { body = \"x\" }", "`routes[1].respond.status` is missing"),
            ("respond = { status = 100 }", "must be from 200 to 599"),
            ("respond = { status = 204, body = \"x\" }", "an answer with 204 has no body"),
            ("respond = { status = 200, body_file = \"no/such\" }", "cannot be read"),
            ("respond = { status = 200, body = \"x\", body_file = \"Cargo.toml\" }", "is given too"),
            ("respond = { status = 200, content_type = \"text\" }", "is not a media type"),
            ("respond = { status = 200, content_type = \"a/b\\r\\nX: y\" }", "is not a media type"),
            ("respond = { status = 200 }\nindex_fallback = true", "has no meaning without `static`"),
        ] {
            complaints(with(keys)).only(message, "");
        }
    }
}
