//! The Content-Security-Policy of a folder's files: one in the syntax of CSP Level 3, the default, or none.

use super::super::prelude::*;

/// The default policy: what the builds of Vite, Vue and React need on their own origin, with styles set by
/// scripts, images and fonts in data URLs, and WebAssembly; no inline scripts, no plugins, no framing by
/// other origins.
const DEFAULT: &str = "default-src 'self'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self' 'unsafe-inline'; \
    img-src 'self' data: blob:; font-src 'self' data:; media-src 'self' data: blob:; worker-src 'self' blob:; \
    object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'self'";

const DIRECTIVES: &str = "base-uri block-all-mixed-content child-src connect-src default-src fenced-frame-src font-src \
    form-action frame-ancestors frame-src img-src manifest-src media-src object-src prefetch-src \
    report-to report-uri require-trusted-types-for sandbox script-src script-src-attr script-src-elem \
    style-src style-src-attr style-src-elem trusted-types upgrade-insecure-requests worker-src";

/// Keywords that require quotes; without them, each is a host.
const KEYWORDS: &str = "none report-sample script self strict-dynamic unsafe-eval unsafe-hashes unsafe-inline \
    wasm-unsafe-eval";

/// The policy of `content_security_policy`; none for `"off"`.
pub(super) fn policy(entry: &Entry<'_>) -> Option<String> {
    if !entry.is_given() {
        return Some(DEFAULT.to_owned());
    }
    let text = entry.parse(checked)?;
    for name in directives(text).map(|(name, _)| name) {
        if !DIRECTIVES.split(' ').any(|known| known.eq_ignore_ascii_case(name)) {
            let message = format!("browsers ignore the directive {}", quoted(name));
            let help = suggest("known directives", name, &DIRECTIVES.split(' ').collect::<Vec<_>>());
            entry.warn_of("unknown-directive", InvalidValue { message, help });
        }
    }
    (text != "off").then(|| text.to_owned())
}

fn checked(text: &str) -> Result<&str, InvalidValue> {
    if text == "off" {
        return Ok(text);
    }
    if directives(text).next().is_none() {
        return refused("there is no directive", "write \"off\" where no policy is to be sent");
    }
    if let Some(bad) = text.chars().find(|c| !(c.is_ascii_graphic() || *c == ' ') || *c == ',') {
        let help = match bad {
            ',' => "a comma would begin a second policy: separate directives by semicolons",
            _ => "a policy has visible ASCII characters and spaces only: write it in one line",
        };
        return refused(format!("the character `{}` cannot stand in a policy", bad.escape_debug()), help);
    }
    for (name, values) in directives(text) {
        let unquoted = |value: &&str| KEYWORDS.split(' ').any(|keyword| keyword.eq_ignore_ascii_case(value));
        if name.to_ascii_lowercase().ends_with("-src")
            && let Some(value) = values.split_ascii_whitespace().find(unquoted)
        {
            return refused(
                format!("{} without quotes is a host", quoted(value)),
                format!("write '{value}'"),
            );
        }
    }
    Ok(text)
}

/// The directives' names and values. A word alone is a directive, such as `sandbox`.
fn directives(text: &str) -> impl Iterator<Item = (&str, &str)> {
    let directives = text.split(';').map(str::trim).filter(|directive| !directive.is_empty());
    directives.map(|directive| directive.split_once(' ').unwrap_or((directive, "")))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::super::test_support::{load_diagnostics, load_text, minimal, settings};
    use super::*;
    use crate::config::RouteTarget;

    fn with(policy: &str) -> String {
        let route = "[[routes]]\npath = \"/x\"\nstatic = \"src\"\naccess = \"public\"\n";
        minimal().replace("[[routes]]", &format!("{route}{policy}\n[[routes]]"))
    }

    fn sent(policy: &str) -> Option<String> {
        let target = settings(with(policy)).routes.remove(0).target;
        let RouteTarget::Static { content_security_policy, .. } = target else { panic!("{target:?}") };
        content_security_policy
    }

    #[test]
    fn a_folder_has_the_default_policy_its_own_or_none() {
        assert_eq!(sent("").as_deref(), Some(DEFAULT));
        assert_eq!(checked(DEFAULT), Ok(DEFAULT));
        let own = "default-src 'self'; script-src 'self' 'sha256-x=' https://cdn.example:*; sandbox";
        assert_eq!(sent(&format!("content_security_policy = \"{own}\"")).as_deref(), Some(own));
        assert_eq!(sent("content_security_policy = \"off\""), None);
    }

    #[test]
    fn what_would_be_read_otherwise_is_refused() {
        for (policy, message, help) in [
            ("", "there is no directive", "\"off\""),
            (" ; ", "there is no directive", ""),
            ("default-src self", "`self` without quotes is a host", "write 'self'"),
            ("default-src 'self'; script-src 'self' Unsafe-Inline", "`Unsafe-Inline` without quotes", ""),
            ("default-src 'self', script-src 'none'", "the character `,`", "semicolons"),
            ("default-src 'self';\\n script-src 'none'", "the character `\\n`", "one line"),
            ("default-src é", "the character `é`", "ASCII"),
        ] {
            load_diagnostics(with(&format!("content_security_policy = \"{policy}\""))).only(message, help);
        }
        load_diagnostics(minimal() + "content_security_policy = \"off\"")
            .only("`routes[0].content_security_policy` has no meaning without `static`", "remove it");
    }

    #[test]
    fn an_unknown_directive_is_a_warning() {
        let loaded = load_text(with("content_security_policy = \"scirpt-src 'self'\"")).unwrap();
        let text = loaded.warnings.to_string();
        assert!(text.contains("browsers ignore the directive `scirpt-src`"), "{text}");
        assert!(text.contains("did you mean `script-src`?"), "{text}");
    }
}
