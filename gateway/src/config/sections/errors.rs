//! `[errors]`: error responses.

use url::Url;

use super::prelude::*;

section! {
    /// Error responses.
    pub struct Errors {
        /// What the member `type` of problem details (RFC 9457) begins with; the error's code follows. It is where the
        /// reference of errors is published: docs/reference/errors.md has a section for each code.
        type_base: Option<String> = text(type_base)
            .fallback("the type is `about:blank`")
            .example("\"https://docs.example/reference/errors/#\"");
    }
}

/// An absolute URI, or a path on the same host.
fn type_base(text: &str) -> Result<String, InvalidValue> {
    let with_code = format!("{text}code");
    let visible = text.bytes().all(|byte| byte.is_ascii_graphic() && !b"\"<>\\^`{|}".contains(&byte));
    let is_path = text.starts_with('/') && !text.starts_with("//");
    accept(
        text,
        visible && (is_path || Url::parse(&with_code).is_ok()),
        "is no beginning of a URI",
        "write it like \"https://docs.example/reference/errors/#\"; the error's code follows it",
    )
}

#[cfg(test)]
mod tests {
    use super::super::test_support::{load_diagnostics, minimal, settings};

    #[test]
    fn a_type_begins_with_a_uri_or_a_path() {
        assert_eq!(settings(minimal()).errors.type_base, None);
        for base in ["https://docs.example/errors/#", "urn:example:error:", "/docs/errors#"] {
            let errors = settings(minimal() + &format!("[errors]\ntype_base = \"{base}\"")).errors;
            assert_eq!(errors.type_base.as_deref(), Some(base));
        }
        for base in ["", "docs/errors#", "//evil.example/", "https://docs.example/a b#", "https://d/{code}"] {
            let config = format!("[errors]\ntype_base = \"{base}\"");
            load_diagnostics(minimal() + &config).only("is no beginning of a URI", "https://docs.example");
        }
    }
}
