//! `[endpoints]`: paths of the gateway's own endpoints.

use super::prelude::*;
use super::{Settings, path_pattern};

const JWKS: &str = "/.well-known/jwks.json";

section! {
    /// Paths of the gateway's own endpoints.
    pub struct Endpoints {
        /// "" gives /login, /refresh, /logout, /logout-all; "/auth" gives /auth/login and so on. It does not
        /// apply to /.well-known/jwks.json, which is a well-known URI (RFC 8615).
        prefix: String = text(prefix).or_empty();
        /// A path at which the public listener and server.redirect_listen answer 200 to GET, HEAD and OPTIONS as long as this process
        /// serves, for load balancers, and 503 once it is to stop (see server.shutdown_delay). No token is needed, and in HTTP/1.0 no Host. [endpoints] prefix does not move it.
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
        "/" => return refused("the prefix is a slash alone", "write \"\" for no prefix"),
        _ => path_pattern::segments(text).map_err(|r| r.help("write it like \"/auth\""))?,
    }
    Ok(text.to_owned())
}

/// An endpoint of the gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Endpoint {
    Login,
    /// With `[browser]` only.
    LoginContinue,
    Refresh,
    Logout,
    LogoutAll,
    Sessions,
    Session,
    /// With `users.password_change` only.
    Password,
    /// With `users.password_change` only.
    PasswordReset,
    /// With `mfa.enabled` only.
    LoginTotp,
    Mfa,
    MfaTotp,
    MfaConfirm,
    MfaRemove,
    MfaRecoveryCodes,
    Reauthenticate,
    /// With `[personal_tokens]` only.
    Tokens,
    Token,
    /// With `[oauth]` only, as all that follow.
    Revoke,
    Introspect,
    AuthorizationServer,
    ProtectedResource,
    Jwks,
    Health,
    /// With `[forward_auth]` only, and with every method.
    Verify,
}

impl Settings {
    /// The endpoints below the prefix that are on, with their paths.
    pub(crate) fn endpoint_paths(&self) -> impl Iterator<Item = (String, Endpoint)> {
        let (oauth, mfa, password) = (&self.oauth, self.mfa.enabled, self.users.password_change);
        let below_prefix = [
            ("/login", Endpoint::Login, true),
            ("/login/continue", Endpoint::LoginContinue, true),
            ("/refresh", Endpoint::Refresh, true),
            ("/logout", Endpoint::Logout, true),
            ("/logout-all", Endpoint::LogoutAll, true),
            ("/sessions", Endpoint::Sessions, true),
            ("/password", Endpoint::Password, password),
            ("/password/reset", Endpoint::PasswordReset, password),
            ("/tokens", Endpoint::Tokens, self.personal_tokens.enabled),
            ("/revoke", Endpoint::Revoke, oauth.revocation),
            ("/introspect", Endpoint::Introspect, !oauth.introspection_clients.is_empty()),
            ("/login/totp", Endpoint::LoginTotp, mfa),
            ("/mfa", Endpoint::Mfa, mfa),
            ("/mfa/totp", Endpoint::MfaTotp, mfa),
            ("/mfa/totp/confirm", Endpoint::MfaConfirm, mfa),
            ("/mfa/totp/remove", Endpoint::MfaRemove, mfa),
            ("/mfa/recovery-codes", Endpoint::MfaRecoveryCodes, mfa),
            ("/reauthenticate", Endpoint::Reauthenticate, self.asks_authentication()),
        ];
        below_prefix
            .into_iter()
            .filter(|(_, _, is_on)| *is_on)
            .map(|(path, endpoint, _)| (format!("{}{path}", self.endpoints.prefix), endpoint))
    }
}

/// Paths of the gateway's own endpoints, which no route may have.
pub(super) fn reserved_paths(settings: &Settings) -> Vec<String> {
    let endpoints = &settings.endpoints;
    // Without pages, /login/continue belongs to the routes.
    let own = settings.endpoint_paths().filter(|(_, endpoint)| *endpoint != Endpoint::LoginContinue);
    let mut paths: Vec<String> = own.map(|(path, _)| path).collect();
    paths.push(format!("{}{JWKS}", endpoints.prefix));
    if !endpoints.prefix.is_empty() {
        paths.push(JWKS.to_owned());
    }
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
