//! Discovery documents (OpenID Connect Discovery 1.0 section 4): where an issuer's keys are.

use serde_json::Value;
use url::Url;

use super::address::{Reach, Scope};
use super::shown;
use crate::strict_json;

/// Where the keys of `issuer` are according to its document, which was fetched from `from`, at an address of this scope; and which
/// addresses may be reached for it.
///
/// # Errors
///
/// The document is another issuer's, or is none.
pub(super) fn jwks_uri(json: &[u8], issuer: &str, from: &Url, scope: Scope) -> Result<(Url, Reach), String> {
    let members = strict_json::object(json).ok_or("is not a JSON object with unique members")?;
    let text = |name: &str| members.get(name).and_then(Value::as_str);
    match text("issuer") {
        Some(named) if named == issuer => {}
        Some(named) => {
            return Err(format!("is the document of another issuer: {}, not {issuer}", shown(named, 200)));
        }
        None => return Err("names no issuer".to_owned()),
    }
    let uri = text("jwks_uri").ok_or("has no jwks_uri")?;
    let shown = shown(uri, 200);
    let url = Url::parse(uri).map_err(|_| format!("has a jwks_uri that is no URL: {shown}"))?;
    let is_as_secure = url.scheme() == "https" || (url.scheme() == "http" && from.scheme() == "http");
    if !is_as_secure || url.host().is_none() || !url.username().is_empty() || url.password().is_some() {
        return Err(format!(
            "has a jwks_uri that is not fetched: {shown}; it has to be https:// without a user"
        ));
    }
    // The operator named the host.
    let is_named = url.host() == from.host();
    Ok((url, if is_named { Reach::Anywhere } else { Reach::From(scope) }))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn keys_are_where_the_issuers_own_document_says() {
        const ISSUER: &str = "https://login.example/a";
        let of = |issuer: &str, uri: &str| json!({"issuer": issuer, "jwks_uri": uri}).to_string();
        let secure = Url::parse("https://login.example/a/.well-known/openid-configuration").unwrap();
        let plain = Url::parse("http://127.0.0.1:8080/.well-known/openid-configuration").unwrap();
        for (json, from, scope, found) in [
            (of(ISSUER, "https://login.example/jwks"), &secure, Scope::Public, Some(Reach::Anywhere)),
            (
                of(ISSUER, "https://keys.example/jwks"),
                &secure,
                Scope::Public,
                Some(Reach::From(Scope::Public)),
            ),
            (of(ISSUER, "https://10.0.0.1/jwks"), &secure, Scope::Private, Some(Reach::From(Scope::Private))),
            (of(ISSUER, "http://127.0.0.1:8080/jwks"), &plain, Scope::Loopback, Some(Reach::Anywhere)),
            (of(ISSUER, "http://login.example/jwks"), &secure, Scope::Public, None),
            (of(ISSUER, "https://a:b@login.example/jwks"), &secure, Scope::Public, None),
            (of(ISSUER, "file:///etc/passwd"), &secure, Scope::Public, None),
            (of(ISSUER, "/jwks"), &secure, Scope::Public, None),
            (of("https://login.example/a/", "https://login.example/jwks"), &secure, Scope::Public, None),
            (of("https://evil.example", "https://login.example/jwks"), &secure, Scope::Public, None),
            (json!({"jwks_uri": "https://login.example/jwks"}).to_string(), &secure, Scope::Public, None),
            (json!({"issuer": ISSUER}).to_string(), &secure, Scope::Public, None),
            ("<html>".to_owned(), &secure, Scope::Public, None),
        ] {
            let uri = jwks_uri(json.as_bytes(), ISSUER, from, scope);
            assert_eq!(uri.ok().map(|(_, reach)| reach), found, "{json}");
        }
    }
}
