//! `[endpoints]`: paths of the gateway's own endpoints.

use super::{Settings, path_pattern};
use crate::config::declaration::{section, text};
use crate::config::entry::InvalidValue;

const JWKS: &str = "/.well-known/jwks.json";

section! {
    /// Paths of the gateway's own endpoints.
    pub struct Endpoints {
        /// "" gives /login, /refresh, /logout, /logout-all; "/auth" gives /auth/login and so on. It does not
        /// apply to /.well-known/jwks.json, which is a well-known URI (RFC 8615).
        prefix: String = text(prefix).or_empty();
        /// A path at which the public listener answers 200 to GET, HEAD and OPTIONS as long as this process serves, for load balancers,
        /// and 503 once it is to stop (see server.shutdown_delay). No token is needed, and in HTTP/1.0 no Host. [endpoints] prefix does not move it.
        health_path: Option<String> = text(|path| path_pattern::segments(path).map(|()| path.to_owned()))
            .fallback("there is none")
            .example("\"/healthz\"");
    }
}

impl Endpoints {
    /// Where trusted proxies ask for verdicts, with `[forward_auth]`.
    pub(crate) fn verify_path(&self) -> String {
        format!("{}/auth/verify", self.prefix)
    }
}

fn prefix(text: &str) -> Result<String, InvalidValue> {
    match text {
        "" => {}
        "/" => return Err(InvalidValue::new("the prefix is a slash alone").help("write \"\" for no prefix")),
        _ => path_pattern::segments(text).map_err(|r| r.help("write it like \"/auth\""))?,
    }
    Ok(text.to_owned())
}

/// Paths of the gateway's own endpoints, which no route may have.
pub(super) fn reserved_paths(settings: &Settings) -> Vec<String> {
    let endpoints = &settings.endpoints;
    let below = |name: &str| format!("{}{name}", endpoints.prefix);
    let mut paths: Vec<String> =
        ["/login", "/refresh", "/logout", "/logout-all", "/sessions", JWKS].into_iter().map(below).collect();
    if settings.users.password_change {
        paths.extend([below("/password"), below("/password/reset")]);
    }
    if settings.mfa.enabled {
        let names = [
            "/login/totp",
            "/mfa",
            "/mfa/totp",
            "/mfa/totp/confirm",
            "/mfa/totp/remove",
            "/mfa/recovery-codes",
        ];
        paths.extend(names.map(below));
    }
    if settings.asks_authentication() {
        paths.push(below("/reauthenticate"));
    }
    if !endpoints.prefix.is_empty() {
        paths.push(JWKS.to_owned());
    }
    let oauth = &settings.oauth;
    paths.extend(oauth.revocation.then(|| below("/revoke")));
    paths.extend((!oauth.introspection_clients.is_empty()).then(|| below("/introspect")));
    paths.extend(settings.personal_tokens.enabled.then(|| below("/tokens")));
    paths.extend(endpoints.health_path.clone());
    paths.extend(settings.forward_auth.enabled.then(|| endpoints.verify_path()));
    paths
}

#[cfg(test)]
mod tests {
    use super::super::test_support::{load_diagnostics, minimal, settings};

    #[test]
    fn a_prefix_is_empty_or_a_path() {
        assert_eq!(settings(minimal()).endpoints.prefix, "");
        assert_eq!(settings(minimal() + "[endpoints]\nprefix = \"/a/b\"").endpoints.prefix, "/a/b");
        for prefix in ["/", "auth", "/auth/", "/a//b", "/a%20b"] {
            load_diagnostics(minimal() + &format!("[endpoints]\nprefix = \"{prefix}\""))
                .only("`endpoints.prefix`: the p", "write");
        }
    }
}
