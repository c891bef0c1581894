//! Discovery documents (OpenID Connect Discovery 1.0 section 4): where an issuer's keys are.

use serde_json::Value;
use url::Url;

use super::address::Reach;
use super::shown;
use crate::strict_json;

/// Where the keys of `issuer` are according to its document, which was fetched from `from`, at an address of the public internet or
/// not; and which addresses may be reached for it.
///
/// # Errors
///
/// The document is another issuer's, or is none.
pub(super) fn jwks_uri(
    json: &[u8],
    issuer: &str,
    from: &Url,
    is_public: bool,
) -> Result<(Url, Reach), String> {
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
    // The operator named the host, or the issuer itself is within the same network.
    let is_near = url.host() == from.host() || !is_public;
    Ok((url, if is_near { Reach::Anywhere } else { Reach::Public }))
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
        for (json, from, is_public, found) in [
            (of(ISSUER, "https://login.example/jwks"), &secure, true, Some(Reach::Anywhere)),
            (of(ISSUER, "https://keys.example/jwks"), &secure, true, Some(Reach::Public)),
            (of(ISSUER, "https://10.0.0.1/jwks"), &secure, false, Some(Reach::Anywhere)),
            (of(ISSUER, "http://127.0.0.1:8080/jwks"), &plain, false, Some(Reach::Anywhere)),
            (of(ISSUER, "http://login.example/jwks"), &secure, true, None),
            (of(ISSUER, "https://a:b@login.example/jwks"), &secure, true, None),
            (of(ISSUER, "file:///etc/passwd"), &secure, true, None),
            (of(ISSUER, "/jwks"), &secure, true, None),
            (of("https://login.example/a/", "https://login.example/jwks"), &secure, true, None),
            (of("https://evil.example", "https://login.example/jwks"), &secure, true, None),
            (json!({"jwks_uri": "https://login.example/jwks"}).to_string(), &secure, true, None),
            (json!({"issuer": ISSUER}).to_string(), &secure, true, None),
            ("<html>".to_owned(), &secure, true, None),
        ] {
            let uri = jwks_uri(json.as_bytes(), ISSUER, from, is_public);
            assert_eq!(uri.ok().map(|(_, reach)| reach), found, "{json}");
        }
    }
}
