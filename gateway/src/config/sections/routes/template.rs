//! Templates: text with `{placeholders}`, as in header values and redirects.

use super::super::prelude::*;

/// The parts of `text`: `literal` converts the text between placeholders, `placeholder` the names in braces.
/// `{{` and `}}` are literal braces.
pub(in crate::config::sections) fn parts<T>(
    text: &str,
    known: &[&str],
    literal: impl Fn(String) -> T,
    placeholder: impl Fn(&str) -> Option<T>,
) -> Result<Vec<T>, InvalidValue> {
    let mut parts = Vec::new();
    let mut plain = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(['{', '}']) {
        plain.push_str(&rest[..at]);
        let doubled = rest[at..].starts_with("{{") || rest[at..].starts_with("}}");
        if doubled {
            plain.push_str(&rest[at..=at]);
            rest = &rest[at + 2..];
            continue;
        }
        let name = rest[at..].strip_prefix('{').and_then(|inner| inner.split_once('}'));
        let Some((name, behind)) = name else {
            return refused(
                format!("a brace stands alone in {}", quoted(text)),
                "write {{ or }} for a brace that means itself",
            );
        };
        let Some(part) = placeholder(name) else {
            return Err(InvalidValue::unknown(
                format!("unknown placeholder {}", quoted(&format!("{{{name}}}"))),
                "placeholders here",
                &format!("{{{name}}}"),
                known,
            ));
        };
        if !plain.is_empty() {
            parts.push(literal(std::mem::take(&mut plain)));
        }
        parts.push(part);
        rest = behind;
    }
    plain.push_str(rest);
    if !plain.is_empty() {
        parts.push(literal(plain));
    }
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> Result<Vec<String>, String> {
        parts(text, &["{a}"], |text| text, |name| (name == "a").then(|| "<a>".to_owned()))
            .map_err(|invalid| invalid.message)
    }

    #[test]
    fn text_is_cut_at_its_placeholders() {
        let of = |parts: &[&str]| Ok(parts.iter().map(|part| (*part).to_owned()).collect());
        assert_eq!(shown("x{a}y{a}"), of(&["x", "<a>", "y", "<a>"]));
        assert_eq!(shown("{{x: {a} }}"), of(&["{x: ", "<a>", " }"]));
        assert_eq!(shown("{{a}}"), of(&["{a}"]));
        assert_eq!(shown(""), of(&[]));
    }

    #[test]
    fn what_is_no_placeholder_is_refused() {
        for (text, why) in [
            ("{b}", "unknown placeholder `{b}`"),
            ("{}", "unknown placeholder `{}`"),
            ("{a", "a brace stands alone"),
            ("a}", "a brace stands alone"),
        ] {
            assert!(shown(text).is_err_and(|e| e.contains(why)), "{text}");
        }
    }
}
