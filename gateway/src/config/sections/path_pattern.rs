//! Validation of configured paths, so that they can equal the path of a canonical request target.

use super::prelude::*;

/// Accepts `/one` and `/one/two`: segments of RFC 3986's pchar without `%` and `;`, none empty or a dot
/// segment.
pub(super) fn segments(path: &str) -> Result<(), InvalidValue> {
    let refuse = |why: &str| Err(InvalidValue::new(format!("the path {} {why}", quoted(path))));
    let Some(inner) = path.strip_prefix('/') else {
        return refuse("does not start with a slash").map_err(|invalid| {
            invalid.help("write it like \"/api\"; paths are no patterns and no regular expressions")
        });
    };
    // What other programs take for a pattern would be taken literally, and would leave open what it should
    // protect.
    let is_pattern = |segment: &str| {
        segment.contains(['*', '{', '}', '<', '>', '[', ']', '^', '|'])
            || segment.starts_with(':')
            || segment.ends_with('$')
    };
    let parts: Vec<&str> = inner.split('/').collect();
    if let Some(first) = parts.iter().position(|segment| is_pattern(segment)) {
        let stem = parts[first].trim_end_matches(['*', '$', '.', '+']);
        let stem = (!stem.is_empty() && !is_pattern(stem)).then_some(stem);
        let plain: Vec<&str> = parts[..first].iter().copied().chain(stem).collect();
        return refuse("is a pattern, and paths have none").map_err(|invalid| {
            let plain = plain.join("/");
            invalid.help(format!("write \"/{plain}\": a path matches itself and everything below it"))
        });
    }
    if let Some(c) = path.chars().find(|c| !is_allowed(*c)) {
        return refuse(&format!("contains {}", quoted(&c.to_string()))).map_err(|r| {
            r.help("paths are compared undecoded and without query: use letters, digits and -._~!$&'()*+,=:@")
        });
    }
    if inner.ends_with('/') {
        return refuse("ends with a slash")
            .map_err(|r| r.help("leave it out: a path matches itself and everything below it"));
    }
    if inner.split('/').any(str::is_empty) {
        return refuse("has an empty segment").map_err(|r| r.help("write one slash between segments"));
    }
    if inner.split('/').any(|segment| segment == "." || segment == "..") {
        return refuse("has a dot segment").map_err(|r| r.help("write the path that it leads to"));
    }
    Ok(())
}

fn is_allowed(c: char) -> bool {
    c.is_ascii_alphanumeric() || "/-._~!$&'()*+,=:@".contains(c)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_segments_pass() {
        for path in ["/a", "/a/b", "/api/v1.2", "/~x/@y", "/a..b", "/..."] {
            assert_eq!(segments(path), Ok(()), "{path}");
        }
        for (path, why) in [
            ("", "start with a slash"),
            ("a", "start with a slash"),
            ("/a/", "ends with a slash"),
            ("//a", "empty segment"),
            ("/a//b", "empty segment"),
            ("/.", "dot segment"),
            ("/a/../b", "dot segment"),
            ("/a%2fb", "contains `%`"),
            ("/a?b", "contains `?`"),
            ("/a#b", "contains `#`"),
            ("/a\\b", "contains `\\\\`"),
            ("/a;b", "contains `;`"),
            ("/a b", "contains ` `"),
            ("/ä", "contains `ä`"),
            ("/a\n", "contains `\\n`"),
        ] {
            let refused = segments(path).err().map(|r| r.message).unwrap_or_default();
            assert!(refused.contains(why), "{path}: {refused}");
        }
    }

    #[test]
    fn what_others_take_for_a_pattern_is_refused_with_the_plain_path() {
        for (path, plain) in [
            ("/api/*", "/api"),
            ("/api/**", "/api"),
            ("/api*", "/api"),
            ("/api/.*", "/api"),
            ("/api.*", "/api"),
            ("/api$", "/api"),
            ("/api/:id", "/api"),
            ("/api/{id}", "/api"),
            ("/api/{id:[0-9]+}/x", "/api"),
            ("/api/<int:id>", "/api"),
            ("/api/[id]", "/api"),
            ("/v1/(a|b)", "/v1"),
            ("/api/[^/]+/x", "/api"),
            ("/api/*.js", "/api"),
            ("/v[12]", "/"),
            ("/a*{b}", "/"),
            ("/*.php", "/"),
            ("/{proxy+}", "/"),
        ] {
            let refused = segments(path).unwrap_err();
            assert!(refused.message.contains("is a pattern"), "{path}: {}", refused.message);
            let help = format!("write \"{plain}\": ");
            assert!(
                refused.help.as_ref().is_some_and(|text| text.starts_with(&help)),
                "{path}: {:?}",
                refused.help
            );
        }
    }
}
