//! Tokens as the gateway issues them, signed with the secret that all systems share.

use std::time::{Duration, SystemTime};

use auth_gateway::tokens::{Claims, TokenType, UnixSeconds};
use aws_lc_rs::{hmac, rand};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;

use crate::Result;

pub(crate) const ISSUER: &str = "https://bench.example";
pub(crate) const AUDIENCE: &str = "bench";
/// How many users the gateway knows.
pub(crate) const USERS: u32 = 64;
/// Everybody's.
pub(crate) const PASSWORD: &str = "a password for benchmarks";

/// Longer than any run; an access token may not live longer than a day.
const LIFETIME: Duration = Duration::from_secs(12 * 60 * 60);

/// The shared secret: 32 random bytes as 64 hexadecimal digits, which mean the same in every configuration file.
pub(crate) fn secret() -> Result<String> {
    let mut bytes = [0; 32];
    rand::fill(&mut bytes).map_err(|_| "no random numbers")?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// The name of user number `number`. A name takes one login at a time: several at once look like guesses.
pub(crate) fn username(number: u32) -> String {
    format!("user{number}")
}

/// The token of user number `number`, signed with HS256.
pub(crate) fn mint(secret: &str, number: u32) -> Result<String> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_secs();
    let mut id = [0; 16];
    id[..4].copy_from_slice(&number.to_be_bytes());
    let id = URL_SAFE_NO_PAD.encode(id);
    let claims = Claims {
        iss: ISSUER.to_owned(),
        aud: vec![AUDIENCE.to_owned()],
        sub: number.to_string(),
        iat: UnixSeconds::new(now),
        nbf: UnixSeconds::new(now),
        exp: UnixSeconds::new(now).saturating_add(LIFETIME),
        jti: id.clone(),
        sid: id,
        session_exp: None,
        cnf: None,
        cookie_session: false,
        authentication: None,
        fresh: None,
        csrf: None,
        token_type: TokenType::Access.claim(),
        username: username(number),
        roles: vec!["user".to_owned()],
        further: serde_json::Map::new(),
    };
    let header = json!({"alg": "HS256", "typ": TokenType::Access.header()});
    let message = format!(
        "{}.{}",
        URL_SAFE_NO_PAD.encode(header.to_string()),
        URL_SAFE_NO_PAD.encode(serde_json::to_vec(&claims)?)
    );
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let signature = URL_SAFE_NO_PAD.encode(hmac::sign(&key, message.as_bytes()));
    Ok(format!("{message}.{signature}"))
}

/// The same token with another signature, of the right form.
pub(crate) fn spoil(token: &str) -> Result<String> {
    let (message, signature) = token.rsplit_once('.').ok_or("no token")?;
    // The first character carries whole bits of the signature, so the form stays canonical.
    let other = if signature.starts_with('A') { 'B' } else { 'A' };
    Ok(format!("{message}.{other}{}", &signature[1..]))
}
