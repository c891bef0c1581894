//! A verified identity, and the identity headers for upstreams.

use serde_json::Value;

use crate::config::IdentityHeader;
use crate::proxy::header_name_set::HeaderNameSet;
use crate::rejection::Rejection;
use crate::sessions::SessionId;
use crate::tokens::{ClaimValue, VerifiedClaims};

/// Maximum length of a claim's value in a header field, in bytes.
pub(crate) const MAX_VALUE_LEN: usize = 4 * 1024;

/// The identity behind a request. Made from verified claims only.
#[derive(Debug)]
pub(crate) struct Identity {
    claims: VerifiedClaims,
    session: SessionId,
    header_lines: Box<[u8]>,
}

impl Identity {
    pub(crate) fn new(claims: VerifiedClaims, headers: &IdentityHeaders) -> Result<Identity, Rejection> {
        let session = claims.sid().parse().map_err(|_| Rejection::TokenWithoutSession)?;
        let header_lines = headers.lines(&claims)?;
        Ok(Identity { claims, session, header_lines })
    }

    pub(crate) fn claims(&self) -> &VerifiedClaims {
        &self.claims
    }

    pub(crate) fn session(&self) -> &SessionId {
        &self.session
    }

    /// `Name: value` lines in wire format.
    pub(crate) fn header_lines(&self) -> &[u8] {
        &self.header_lines
    }

    pub(crate) fn has_one_of(&self, roles: &[String]) -> bool {
        roles.iter().any(|role| self.claims.roles().contains(role))
    }
}

/// Which claims are sent in which headers, and which header names are therefore reserved.
#[derive(Debug)]
pub(crate) struct IdentityHeaders {
    injected: Vec<IdentityHeader>,
    reserved: HeaderNameSet,
}

/// Reserved even where they are not injected: an upstream may still trust them.
const ALWAYS_RESERVED: [&str; 4] = ["X-Auth-User", "X-Auth-Subject", "X-Auth-Roles", "X-Auth-Session"];

impl IdentityHeaders {
    /// `of_routes` are further names under which a route sends a claim: an upstream may trust them on every
    /// route.
    pub(crate) fn new<'n>(
        injected: &'n [IdentityHeader],
        of_routes: impl Iterator<Item = &'n str>,
    ) -> IdentityHeaders {
        let names = injected.iter().map(|h| h.header.as_str()).chain(ALWAYS_RESERVED).chain(of_routes);
        IdentityHeaders { injected: injected.to_vec(), reserved: HeaderNameSet::new(names) }
    }

    /// Whether an upstream could take a field of that name for an identity header.
    pub(crate) fn reserves(&self, name: &[u8]) -> bool {
        self.reserved.contains(name)
    }

    /// The header lines for a token's claims. A claim that is absent or an object has no header.
    fn lines(&self, claims: &VerifiedClaims) -> Result<Box<[u8]>, Rejection> {
        let mut lines = Vec::with_capacity(256);
        for IdentityHeader { claim, header } in &self.injected {
            let Some(value) = claims.get(claim) else { continue };
            let start = lines.len();
            lines.extend_from_slice(header.as_bytes());
            lines.extend_from_slice(b": ");
            let value_start = lines.len();
            if !push_value(value, &mut lines) {
                lines.truncate(start);
                continue;
            }
            if lines.len() - value_start > MAX_VALUE_LEN {
                return Err(Rejection::ClaimTooLarge);
            }
            lines.extend_from_slice(b"\r\n");
        }
        Ok(lines.into())
    }
}

/// Appends a claim as a field value, if it can be represented as one.
pub(crate) fn push_value(claim: ClaimValue<'_>, out: &mut Vec<u8>) -> bool {
    match claim {
        ClaimValue::Text(text) => push_escaped(text, false, out),
        ClaimValue::Texts(elements) => push_list(elements.iter().map(String::as_str), out),
        ClaimValue::Number(number) => out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes()),
        ClaimValue::Json(Value::String(text)) => push_escaped(text, false, out),
        ClaimValue::Json(Value::Array(elements)) if elements.iter().all(Value::is_string) => {
            push_list(elements.iter().filter_map(Value::as_str), out);
        }
        ClaimValue::Json(scalar @ (Value::Number(_) | Value::Bool(_))) => {
            out.extend_from_slice(scalar.to_string().as_bytes());
        }
        ClaimValue::Json(_) => return false,
    }
    true
}

fn push_list<'e>(elements: impl Iterator<Item = &'e str>, out: &mut Vec<u8>) {
    for (place, element) in elements.enumerate() {
        if place > 0 {
            out.push(b',');
        }
        push_escaped(element, true, out);
    }
}

/// Percent-encodes every byte outside visible ASCII, `%` itself, and the comma within list elements.
fn push_escaped(text: &str, in_list: bool, out: &mut Vec<u8>) {
    if text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_') {
        return out.extend_from_slice(text.as_bytes());
    }
    for &byte in text.as_bytes() {
        if byte.is_ascii_graphic() && byte != b'%' && !(in_list && byte == b',') {
            out.push(byte);
        } else {
            out.extend_from_slice(format!("%{byte:02X}").as_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn claim_values_cannot_break_out_of_their_field() {
        for (claim, value) in [
            (json!("alice"), Some("alice")),
            (json!("a\r\nX-Auth-Roles: admin"), Some("a%0D%0AX-Auth-Roles:%20admin")),
            (json!("root "), Some("root%20")),
            (json!("100%"), Some("100%25")),
            (json!("アリス"), Some("%E3%82%A2%E3%83%AA%E3%82%B9")),
            (json!(["user", "a,b"]), Some("user,a%2Cb")),
            (json!([]), Some("")),
            (json!(7), Some("7")),
            (json!({"$ne": 1}), None),
            (json!(null), None),
            (json!([{"a": 1}]), None),
        ] {
            let mut out = Vec::new();
            let pushed = push_value(ClaimValue::Json(&claim), &mut out);
            let out = String::from_utf8_lossy(&out);
            assert_eq!(pushed.then_some(&*out), value, "{claim}");
        }
    }

    #[test]
    fn every_spelling_that_folds_to_an_identity_header_is_reserved() {
        let own = IdentityHeader { claim: "email".into(), header: "X-Mail".into() };
        let headers = IdentityHeaders::new(std::slice::from_ref(&own), ["X-Tenant"].into_iter());
        for name in [
            "X-Auth-User",
            "x-auth-user",
            "X_Auth_User",
            "X.Auth!User",
            "x-auth-roles",
            "X-MAIL",
            "x_mail",
            "x_tenant",
        ] {
            assert!(headers.reserves(name.as_bytes()), "{name}");
        }
        for name in ["X-Auth-Users", "X-Mai", "Accept", "XAuthUser"] {
            assert!(!headers.reserves(name.as_bytes()), "{name}");
        }
    }
}
