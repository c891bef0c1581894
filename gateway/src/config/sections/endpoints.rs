//! `[endpoints]`: where the gateway's own endpoints live.

use super::path_shape;
use crate::config::entry::Refusal;
use crate::config::settings::Endpoints;
use crate::config::table::Table;

const JWKS: &str = "/.well-known/jwks.json";

pub(super) fn endpoints(table: &mut Table<'_>) -> Endpoints {
    Endpoints { prefix: table.take("prefix").parse(prefix).unwrap_or_default() }
}

fn prefix(text: &str) -> Result<String, Refusal> {
    match text {
        "" => {}
        "/" => return Err(Refusal::new("the prefix is a slash alone").help("write \"\" for no prefix")),
        _ => path_shape::segments(text).map_err(|r| r.help("write it like \"/auth\""))?,
    }
    Ok(text.to_owned())
}

/// The paths that no route may have, because the gateway answers there itself.
pub(super) fn reserved_paths(endpoints: &Endpoints) -> Vec<String> {
    let below = |name: &str| format!("{}{name}", endpoints.prefix);
    let mut paths: Vec<String> =
        ["/login", "/refresh", "/logout", "/logout-all", "/sessions", JWKS].into_iter().map(below).collect();
    if !endpoints.prefix.is_empty() {
        paths.push(JWKS.to_owned());
    }
    paths
}

#[cfg(test)]
mod tests {
    use super::super::test_support::{complaints, minimal, settings};

    #[test]
    fn a_prefix_is_empty_or_a_path() {
        assert_eq!(settings(minimal()).endpoints.prefix, "");
        assert_eq!(settings(minimal() + "[endpoints]\nprefix = \"/a/b\"").endpoints.prefix, "/a/b");
        for prefix in ["/", "auth", "/auth/", "/a//b", "/a%20b"] {
            complaints(minimal() + &format!("[endpoints]\nprefix = \"{prefix}\""))
                .only("`endpoints.prefix`: the p", "write");
        }
    }
}
