//! Rejections in the words of flask-jwt-extended 4.7 and PyJWT, for the compatible profile (`[compat]`).
//!
//! The verifier decides; this only finds the message that the library has for the refused token, by reading it
//! once more in the library's order. Signatures are not checked here, and nothing of a token is echoed.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, WWW_AUTHENTICATE};
use http::{HeaderValue, Response, StatusCode};
use serde_json::{Map, Value, json};

use super::Rejection;
use crate::clock::now_millis;
use crate::config::Compat;
use crate::http1::{HeaderKind, RequestHead};
use crate::tokens::{WRONG_ALGORITHM, WRONG_SIGNATURE};

const MISSING_TYPE: &str =
    "Missing 'Bearer' type in 'Authorization' header. Expected 'Authorization: Bearer <JWT>'";
const BAD_HEADER: &str = "Bad Authorization header. Expected 'Authorization: Bearer <JWT>'";
const INVALID: &str = "Invalid token";

impl Rejection {
    /// The response of the compatible profile.
    pub(crate) fn to_flask_response(&self, head: &RequestHead, compat: &Compat) -> Response<Bytes> {
        let authorization = head.headers().of_kind(HeaderKind::Authorization).next().map(|field| field.value);
        let (status, message) = self.in_flask_words(authorization, compat, now_millis().seconds().get());
        let body = format!("{}\n", json!({ compat.error_key.as_str(): message }));
        let mut response = Response::new(Bytes::from(body));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        self.insert_fields(headers);
        if status == StatusCode::UNPROCESSABLE_ENTITY {
            headers.remove(WWW_AUTHENTICATE);
        }
        response
    }

    /// The status and the message; `now` is in seconds since 1970.
    fn in_flask_words(
        &self,
        authorization: Option<&[u8]>,
        compat: &Compat,
        now: u64,
    ) -> (StatusCode, String) {
        let token = || bearer(authorization.unwrap_or_default());
        let (status, message) = match self {
            Rejection::AccessTokenMissing
            | Rejection::RefreshTokenMissing
            | Rejection::RepeatedAuthorization
            | Rejection::MalformedAuthorization => {
                let given = authorization.unwrap_or_default().iter().any(|byte| !b" \t,".contains(byte));
                let message = if given { MISSING_TYPE } else { "Missing Authorization Header" };
                (StatusCode::UNAUTHORIZED, message)
            }
            Rejection::BearerNotOneToken if bearers(authorization.unwrap_or_default()) != 1 => {
                (StatusCode::UNAUTHORIZED, MISSING_TYPE)
            }
            Rejection::BearerWithoutSpace | Rejection::BearerEmpty | Rejection::BearerNotOneToken => {
                (StatusCode::UNPROCESSABLE_ENTITY, BAD_HEADER)
            }
            Rejection::TokenInvalid(reason) => (StatusCode::UNPROCESSABLE_ENTITY, fault(token(), reason)),
            Rejection::TokenWithoutSession | Rejection::AuthorizationNotAscii => {
                (StatusCode::UNPROCESSABLE_ENTITY, fault(token(), ""))
            }
            Rejection::TokenNotYetValid => {
                let issued_at = claims(token()).and_then(|claims| claims.get("iat")?.as_u64());
                let claim = if issued_at.is_some_and(|at| at > now) { "iat" } else { "nbf" };
                let message = format!("The token is not yet valid ({claim})");
                return (StatusCode::UNPROCESSABLE_ENTITY, message);
            }
            Rejection::TokenOfWrongType => {
                let is_refresh =
                    claims(token()).is_some_and(|claims| claims.get("type") == Some(&json!("refresh")));
                let message = if is_refresh {
                    "Only non-refresh tokens are allowed"
                } else {
                    "Only refresh tokens are allowed"
                };
                (StatusCode::UNPROCESSABLE_ENTITY, message)
            }
            Rejection::TokenExpired | Rejection::SessionExpired | Rejection::SessionIdle => {
                (StatusCode::UNAUTHORIZED, "Token has expired")
            }
            Rejection::SessionEnded
            | Rejection::SessionUnknown
            | Rejection::RefreshTokenReused
            | Rejection::AccountChanged => (StatusCode::UNAUTHORIZED, "Token has been revoked"),
            Rejection::FreshTokenMissing => (StatusCode::UNAUTHORIZED, "Fresh token required"),
            Rejection::WrongCredentials => (StatusCode::UNAUTHORIZED, compat.login_failed.as_str()),
            Rejection::AccountLocked(_) => (StatusCode::FORBIDDEN, compat.account_locked.as_str()),
            _ => return (self.status(), self.detail().into_owned()),
        };
        (status, message.to_owned())
    }
}

/// How many elements of a comma-separated value are of the scheme.
fn bearers(authorization: &[u8]) -> usize {
    let elements = authorization.split(|&byte| byte == b',');
    let schemes = elements.filter_map(|element| element.trim_ascii().split(u8::is_ascii_whitespace).next());
    schemes.filter(|scheme| *scheme == b"Bearer").count()
}

/// The token after `Bearer`.
fn bearer(authorization: &[u8]) -> &[u8] {
    let value = authorization.trim_ascii();
    let scheme_end = value.iter().position(u8::is_ascii_whitespace).unwrap_or(value.len());
    value[scheme_end..].trim_ascii()
}

/// The header, the payload and the signature, decoded as far as that goes; the segments as PyJWT splits them.
fn segments(token: &[u8]) -> Option<[&[u8]; 3]> {
    let last = token.iter().rposition(|&byte| byte == b'.')?;
    let first = token[..last].iter().position(|&byte| byte == b'.')?;
    Some([&token[..first], &token[first + 1..last], &token[last + 1..]])
}

fn claims(token: &[u8]) -> Option<Map<String, Value>> {
    let payload = URL_SAFE_NO_PAD.decode(segments(token)?[1]).ok()?;
    serde_json::from_slice(&payload).ok()
}

/// PyJWT's message for a token that the verifier refused for this reason.
fn fault(token: &[u8], reason: &str) -> &'static str {
    let Some(parts) = segments(token) else { return "Not enough segments" };
    let [header, payload, signature] = parts.map(|segment| URL_SAFE_NO_PAD.decode(segment));
    let Ok(header) = header else { return "Invalid header padding" };
    let Ok(header) = serde_json::from_slice::<Value>(&header) else { return "Invalid header string" };
    let Value::Object(header) = header else { return "Invalid header string: must be a json object" };
    let Ok(payload) = payload else { return "Invalid payload padding" };
    if signature.is_err() {
        return "Invalid crypto padding";
    }
    let Ok(payload) = serde_json::from_slice::<Value>(&payload) else { return "Invalid payload string" };
    let Value::Object(claims) = payload else { return "Invalid payload string: must be a json object" };
    if header.get("kid").is_some_and(|kid| !kid.is_string()) {
        return "Key ID header parameter must be a string";
    }
    match header.get("alg") {
        None => return "Algorithm not specified",
        Some(Value::String(alg)) if alg.starts_with("HS") && reason == WRONG_SIGNATURE => {
            return "Signature verification failed";
        }
        Some(Value::String(alg)) if alg.starts_with("HS") && reason != WRONG_ALGORITHM => {}
        Some(_) => return "The specified alg value is not allowed",
    }
    let wrong =
        |claim: &str, is_right: fn(&Value) -> bool| claims.get(claim).is_some_and(|value| !is_right(value));
    let date = |value: &Value| value.is_number();
    if wrong("iat", date) {
        "Issued At claim (iat) must be an integer."
    } else if wrong("nbf", date) {
        "Not Before claim (nbf) must be an integer."
    } else if wrong("exp", date) {
        "Expiration Time claim (exp) must be an integer."
    } else if wrong("sub", Value::is_string) {
        "Subject must be a string"
    } else if wrong("jti", Value::is_string) {
        "JWT ID must be a string"
    } else if !claims.contains_key("sub") {
        "Missing claim: sub"
    } else {
        INVALID
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::config::{CompatIdentity, Profile};

    fn compat() -> Compat {
        Compat {
            profile: Some(Profile::FlaskJwtExtended),
            identity: CompatIdentity::Id,
            fresh: false,
            csrf: false,
            error_key: "msg".into(),
            login_failed: "no".into(),
            account_locked: "locked".into(),
        }
    }

    fn token(header: &str, payload: &str) -> String {
        format!("{}.{}.AAAA", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload))
    }

    #[test]
    fn a_refused_token_gets_the_message_of_pyjwt() {
        let hs256 = r#"{"alg":"HS256","typ":"JWT"}"#;
        for (token, message) in [
            ("x".to_owned(), "Not enough segments"),
            ("x.y".to_owned(), "Not enough segments"),
            ("!.e30.AAAA".to_owned(), "Invalid header padding"),
            ("e30.!.AAAA".to_owned(), "Invalid payload padding"),
            ("e30.e30.!".to_owned(), "Invalid crypto padding"),
            ("e30.e30.AAAA".to_owned(), "Algorithm not specified"),
            (token("[]", "{}"), "Invalid header string: must be a json object"),
            (token(hs256, "[]"), "Invalid payload string: must be a json object"),
            (token(r#"{"alg":"none"}"#, "{}"), "The specified alg value is not allowed"),
            (token(hs256, "{}"), "Missing claim: sub"),
            (token(hs256, r#"{"sub":1}"#), "Subject must be a string"),
            (token(hs256, r#"{"sub":"1","exp":"x"}"#), "Expiration Time claim (exp) must be an integer."),
            (token(hs256, r#"{"sub":"1"}"#), INVALID),
        ] {
            assert_eq!(fault(token.as_bytes(), ""), message, "{token}");
        }
        let of = |reason: &str| fault(token(hs256, "{}").as_bytes(), reason);
        assert_eq!(of(WRONG_SIGNATURE), "Signature verification failed");
        assert_eq!(of(WRONG_ALGORITHM), "The specified alg value is not allowed");
    }

    #[test]
    fn refusals_have_the_statuses_of_the_library() {
        use Rejection as R;
        let words = |rejection: R, header: Option<&str>| {
            let (status, message) = rejection.in_flask_words(header.map(str::as_bytes), &compat(), 100);
            (status.as_u16(), message)
        };
        for (rejection, header, status, message) in [
            (R::AccessTokenMissing, None, 401, "Missing Authorization Header"),
            (R::AccessTokenMissing, Some(" , "), 401, "Missing Authorization Header"),
            (R::RefreshTokenMissing, Some("Basic eA=="), 401, MISSING_TYPE),
            (R::BearerEmpty, Some("Bearer "), 422, BAD_HEADER),
            (R::BearerNotOneToken, Some("Bearer a b"), 422, BAD_HEADER),
            (R::BearerNotOneToken, Some("Bearer a, Bearer b"), 401, MISSING_TYPE),
            (R::TokenExpired, Some("Bearer x"), 401, "Token has expired"),
            (R::SessionEnded, Some("Bearer x"), 401, "Token has been revoked"),
            (R::FreshTokenMissing, Some("Bearer x"), 401, "Fresh token required"),
            (R::WrongCredentials, None, 401, "no"),
            (R::AccountLocked(std::time::Duration::from_secs(1)), None, 403, "locked"),
            (R::NoRoute, None, 404, "no route leads here"),
        ] {
            assert_eq!(words(rejection, header), (status, message.to_owned()));
        }
        let refresh = format!("Bearer {}", token("{}", r#"{"type":"refresh","iat":200}"#));
        assert_eq!(words(R::TokenOfWrongType, Some(&refresh)).1, "Only non-refresh tokens are allowed");
        assert_eq!(words(R::TokenNotYetValid, Some(&refresh)).1, "The token is not yet valid (iat)");
        let access = format!("Bearer {}", token("{}", r#"{"type":"access","iat":1,"nbf":200}"#));
        assert_eq!(words(R::TokenOfWrongType, Some(&access)).1, "Only refresh tokens are allowed");
        assert_eq!(words(R::TokenNotYetValid, Some(&access)).1, "The token is not yet valid (nbf)");
    }

    #[test]
    fn only_a_401_has_a_challenge() {
        let head = RequestHead::default();
        let response = |rejection: Rejection| rejection.to_flask_response(&head, &compat());
        let malformed = response(Rejection::TokenInvalid("x"));
        assert_eq!((malformed.status().as_u16(), malformed.headers().get(WWW_AUTHENTICATE)), (422, None));
        let missing = response(Rejection::AccessTokenMissing);
        assert!(missing.headers().contains_key(WWW_AUTHENTICATE));
        assert_eq!(missing.body().as_ref(), b"{\"msg\":\"Missing Authorization Header\"}\n");
    }
}
