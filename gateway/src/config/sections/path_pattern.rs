//! Validation of configured paths, so that they can equal the path of a canonical request target.

use crate::config::entry::{InvalidValue, quoted};

/// Accepts `/one` and `/one/two`: segments of RFC 3986's pchar without `%` and `;`, none empty or a dot
/// segment.
pub(super) fn segments(path: &str) -> Result<(), InvalidValue> {
    let refuse = |why: &str| Err(InvalidValue::new(format!("the path {} {why}", quoted(path))));
    let Some(inner) = path.strip_prefix('/') else {
        return refuse("does not start with a slash").map_err(|invalid| {
            invalid.help("write it like \"/api\"; paths are no patterns and no regular expressions")
        });
    };
    if let Some(c) = path.chars().find(|c| !is_allowed(*c) && !"{}<>[]^|".contains(*c)) {
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
    // What other programs take for a pattern would be taken literally, and would leave open what it should
    // protect.
    let is_pattern = |segment: &str| {
        segment.contains(['*', '{', '}', '<', '>', '[', ']', '^', '|'])
            || segment.starts_with(':')
            || segment.ends_with('$')
    };
    let parts: Vec<&str> = inner.split('/').collect();
    if let Some(first) = parts.iter().position(|segment| is_pattern(segment)) {
        let plain = format!("/{}", parts[..first].join("/"));
        return refuse("is a pattern, and paths have none").map_err(|invalid| {
            invalid.help(format!("write \"{plain}\": a path matches itself and everything below it"))
        });
    }
    Ok(())
}

fn is_allowed(c: char) -> bool {
    c.is_ascii_alphanumeric() || "/-._~!$&'()*+,=:@".contains(c)
}

#[cfg(test)]
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
            ("/a*{b}", "is a pattern"),
            ("/users/{id}", "is a pattern"),
            ("/users/<int:id>", "is a pattern"),
            ("/v[12]", "is a pattern"),
            ("/api/*", "is a pattern"),
            ("/api/**", "is a pattern"),
            ("/api/:id", "is a pattern"),
            ("/api/*.js", "is a pattern"),
            ("/api$", "is a pattern"),
        ] {
            let refused = segments(path).err().map(|r| r.message).unwrap_or_default();
            assert!(refused.contains(why), "{path}: {refused}");
        }
    }
}
