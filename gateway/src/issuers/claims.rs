//! From the claims of another issuer's token to an identity here: which claims are accepted, and under which names.

use serde_json::{Map, Value};

use crate::config::{IssuerSettings, TokenUse};
use crate::tokens::satisfies;
use crate::tokens::{ClaimValue, OtherClaims, TokenError, UnixSeconds, VerifiedClaims};

/// Maximum length of a user's name or id, in bytes.
const MAX_NAME_LEN: usize = 255;
/// The largest integer that every JSON parser represents exactly.
const MAX_NUMERIC_DATE: f64 = 9_007_199_254_740_992.0;

/// Where claims come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin<'t> {
    /// A signed token, with the `typ` of its header.
    Jwt(&'t str),
    /// An introspection's response, in which every claim is optional (RFC 7662 section 2.2), and until when it counts by itself.
    Introspection(UnixSeconds),
}

/// An identity, and until when it counts.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Accepted {
    pub(crate) claims: VerifiedClaims,
    /// Seconds since 1970, leeway included; the far future where the issuer does not say.
    pub(crate) valid_until: UnixSeconds,
}

/// The claim at a path: a name, or names with dots between them, where names may contain dots themselves.
pub(super) fn find<'c>(claims: &'c Map<String, Value>, path: &str) -> Option<&'c Value> {
    let nested = || {
        path.match_indices('.').find_map(|(dot, _)| match claims.get(&path[..dot])? {
            Value::Object(inner) => find(inner, &path[dot + 1..]),
            _ => None,
        })
    };
    claims.get(path).or_else(nested)
}

/// The identity that claims stand for at `now`.
///
/// # Errors
///
/// Why they do not count here; times are judged last.
pub(super) fn accept(
    issuer: &IssuerSettings,
    claims: &Map<String, Value>,
    origin: Origin<'_>,
    now: UnixSeconds,
) -> Result<Accepted, TokenError> {
    let is_jwt = matches!(origin, Origin::Jwt(_));
    match claims.get("iss") {
        Some(Value::String(iss)) if *iss == issuer.issuer => {}
        None if !is_jwt => {}
        _ => return invalid("iss is another"),
    }
    check_audience(issuer, claims.get("aud"))?;
    check_use(issuer, claims, origin)?;
    // The token belongs to a key (RFC 7800), and nothing here verifies a proof of it.
    if claims.contains_key("cnf") {
        return invalid("the token is bound to a key, which only its issuer's own resources verify");
    }
    for required in &issuer.required_claims {
        let found = find(claims, &required.claim);
        if !found.is_some_and(|claim| satisfies(ClaimValue::Json(claim), required)) {
            return invalid("a claim that the issuer's tokens must have is missing or another");
        }
    }
    let subject =
        name(issuer, claims, &issuer.subject_claim)?.ok_or(TokenError::Invalid("there is no subject"))?;
    let username = match &issuer.username_claim {
        Some(claim) => name(issuer, claims, claim)?
            .ok_or(TokenError::Invalid("the claim with the user's name is missing"))?,
        None => name(issuer, claims, "preferred_username")?.unwrap_or_else(|| subject.clone()),
    };
    let [exp, nbf, iat] = [date(claims, "exp")?, date(claims, "nbf")?, date(claims, "iat")?];
    if is_jwt && (exp.is_none() || iat.is_none()) {
        return invalid("exp or iat is missing");
    }
    let oldest = iat.map(|iat| iat.saturating_add(issuer.max_token_age));
    let expires_at = exp.into_iter().chain(oldest).min();
    let valid_until = expires_at.map(|end| end.saturating_add(issuer.leeway));
    if valid_until.is_some_and(|end| now >= end) {
        return Err(TokenError::Expired);
    }
    let (issued_at, not_before) = (iat.unwrap_or(now), nbf.or(iat).unwrap_or(now));
    if issued_at.max(not_before) > now.saturating_add(issuer.leeway) {
        return Err(TokenError::NotYetValid);
    }
    // Streams have to end with the token, or with what is known of it.
    let end = match origin {
        Origin::Introspection(until) => valid_until.unwrap_or(until),
        Origin::Jwt(_) => valid_until.unwrap_or(now),
    };
    let mut further = further(issuer, claims);
    further.insert("session_exp".to_owned(), end.get().into());
    let claims = OtherClaims {
        iss: issuer.issuer.clone(),
        subject,
        username,
        roles: roles(issuer, claims),
        jti: text(claims, "jti").unwrap_or_default().to_owned(),
        issued_at,
        not_before,
        expires_at: expires_at.unwrap_or(end),
        further,
    };
    let valid_until = valid_until.unwrap_or(UnixSeconds::MAX);
    Ok(Accepted { claims: VerifiedClaims::of_other_issuer(claims), valid_until })
}

fn invalid<T>(reason: &'static str) -> Result<T, TokenError> {
    Err(TokenError::Invalid(reason))
}

fn text<'c>(claims: &'c Map<String, Value>, claim: &str) -> Option<&'c str> {
    claims.get(claim).and_then(Value::as_str)
}

/// RFC 8725 section 3.9. An audience that is no text, or a list with one that is none, is refused.
fn check_audience(issuer: &IssuerSettings, aud: Option<&Value>) -> Result<(), TokenError> {
    let names: Option<Vec<&str>> = match aud {
        None => Some(Vec::new()),
        Some(Value::String(name)) => Some(vec![name]),
        Some(Value::Array(names)) => names.iter().map(Value::as_str).collect(),
        Some(_) => None,
    };
    let names = names.ok_or(TokenError::Invalid("aud is no text and no list of texts"))?;
    match issuer.audiences.is_empty() || issuer.audiences.iter().any(|own| names.contains(&own.as_str())) {
        true => Ok(()),
        false => invalid("aud is another"),
    }
}

/// Whether a token is for what it is used (RFC 8725 sections 2.8 and 3.12): standards and issuers mark the kinds of tokens in
/// different ways.
fn check_use(
    issuer: &IssuerSettings,
    claims: &Map<String, Value>,
    origin: Origin<'_>,
) -> Result<(), TokenError> {
    // Keycloak's `typ`, Cognito's `token_use`.
    let kind = text(claims, "typ").or(text(claims, "token_use")).map(str::to_ascii_lowercase);
    let is_access = matches!(origin, Origin::Jwt(typ) if typ.eq_ignore_ascii_case("at+jwt"))
        || matches!(kind.as_deref(), Some("bearer" | "access"));
    let is_id = kind.as_deref() == Some("id")
        || (!is_access
            && ["nonce", "at_hash", "c_hash", "s_hash"].iter().any(|claim| claims.contains_key(*claim)));
    // An event (RFC 8417), such as a logout.
    if claims.contains_key("events") || matches!(kind.as_deref(), Some("refresh" | "offline" | "logout")) {
        return invalid("the token is neither an access token nor an ID token");
    }
    let answered_type =
        matches!(origin, Origin::Introspection(_)).then(|| text(claims, "token_type")).flatten();
    if answered_type
        .is_some_and(|kind| !["bearer", "access_token"].contains(&kind.to_ascii_lowercase().as_str()))
    {
        return invalid("the token is not a bearer token");
    }
    match (issuer.token_use, is_id, is_access) {
        (TokenUse::Access, true, _) => invalid("an ID token in place of an access token"),
        (TokenUse::Id, _, true) => invalid("an access token in place of an ID token"),
        _ => Ok(()),
    }
}

/// A name of the issuer's, in its namespace here: `NAME:text`. No local user's name contains a colon.
fn name(
    issuer: &IssuerSettings,
    claims: &Map<String, Value>,
    path: &str,
) -> Result<Option<String>, TokenError> {
    let text = match find(claims, path) {
        None => return Ok(None),
        Some(Value::String(text)) => text.clone(),
        // As some issuers number their users.
        Some(Value::Number(number)) if number.is_u64() => number.to_string(),
        Some(_) => return invalid("the claim with the user's name or id is no text"),
    };
    if text.is_empty() || text.len() > MAX_NAME_LEN || text.chars().any(char::is_control) {
        return invalid("the user's name or id is empty, too long, or has control characters");
    }
    Ok(Some(format!("{}:{text}", issuer.name)))
}

/// A NumericDate (RFC 7519 section 2), without its fraction.
fn date(claims: &Map<String, Value>, claim: &str) -> Result<Option<UnixSeconds>, TokenError> {
    match claims.get(claim).map(Value::as_f64) {
        None => Ok(None),
        Some(Some(seconds)) if (0.0..=MAX_NUMERIC_DATE).contains(&seconds) => {
            Ok(Some(UnixSeconds::new(seconds as u64)))
        }
        Some(_) => invalid("exp, nbf or iat is no time"),
    }
}

/// Roles here, each once.
fn roles(issuer: &IssuerSettings, claims: &Map<String, Value>) -> Vec<String> {
    let Some(path) = &issuer.roles_claim else { return Vec::new() };
    let is_scope = matches!(path.rsplit('.').next(), Some("scope" | "scp"));
    let found: Vec<&str> = match find(claims, path) {
        Some(Value::String(text)) if is_scope => text.split_ascii_whitespace().collect(),
        Some(Value::String(text)) => vec![text],
        Some(Value::Array(elements)) => elements.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    let mut roles: Vec<String> = Vec::new();
    for role in found {
        let role = match &issuer.role_map {
            Some(map) => map.get(role).map(String::as_str),
            None => Some(role),
        };
        if let Some(role) = role.filter(|role| !role.is_empty() && !role.chars().any(char::is_control))
            && !roles.iter().any(|known| known == role)
        {
            roles.push(role.to_owned());
        }
    }
    roles
}

/// The claims that are seen here besides those that every identity has.
fn further(issuer: &IssuerSettings, claims: &Map<String, Value>) -> Map<String, Value> {
    let mapped =
        issuer.claims.iter().filter_map(|(name, path)| Some((name.clone(), find(claims, path)?.clone())));
    mapped.chain(claims.get("aud").map(|aud| ("aud".to_owned(), aud.clone()))).collect()
}

#[cfg(test)]
mod tests;
