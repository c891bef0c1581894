//! The payload of a token: strict deserialisation of its claims into their required types.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use super::UnixSeconds;
use crate::strict_json::Strict;

/// The largest integer that every JSON parser represents exactly.
const MAX_NUMERIC_DATE: u64 = 1 << 53;

/// The claims of a payload, of the right types; an absent text is empty. Their values are checked by the
/// verifier.
#[derive(Debug)]
pub(super) struct Payload<'p> {
    pub(super) iss: Cow<'p, str>,
    pub(super) aud: Audience<'p>,
    pub(super) sub: Cow<'p, str>,
    pub(super) iat: UnixSeconds,
    pub(super) nbf: Option<UnixSeconds>,
    pub(super) exp: UnixSeconds,
    pub(super) jti: Cow<'p, str>,
    pub(super) sid: Cow<'p, str>,
    pub(super) token_type: Cow<'p, str>,
    pub(super) username: Cow<'p, str>,
    /// A single string only in tokens of another library.
    pub(super) roles: Option<Audience<'p>>,
    pub(super) further: Map<String, Value>,
}

/// Audience: a name or a list of names (RFC 7519 section 4.1.3).
#[derive(Debug)]
pub(super) enum Audience<'p> {
    One(Cow<'p, str>),
    Several(Vec<String>),
}

impl Payload<'_> {
    /// Reads a whole payload. A claim of a wrong type is an error, never "absent"; so is a duplicate claim.
    pub(super) fn read(json: &[u8]) -> Option<Payload<'_>> {
        let payload = Payload::read_foreign(json)?;
        let Payload { iss, jti, sid, token_type, username, .. } = &payload;
        let texts = [iss, jti, sid, token_type, username];
        let complete = texts.iter().all(|text| !text.is_empty())
            && payload.nbf.is_some()
            && matches!(payload.roles, Some(Audience::Several(_)))
            && !matches!(&payload.aud, Audience::One(aud) if aud.is_empty());
        complete.then_some(payload)
    }

    /// Reads a payload that another library made: only `sub`, `iat` and `exp` are required.
    pub(super) fn read_foreign(json: &[u8]) -> Option<Payload<'_>> {
        // Once for the whole, not for each string of it.
        let json = std::str::from_utf8(json).ok()?;
        let payload: Payload<'_> = serde_json::from_str(json).ok()?;
        let dates = [payload.iat, payload.nbf.unwrap_or_default(), payload.exp];
        let plausible = !payload.sub.is_empty() && dates.iter().all(|&date| date.get() <= MAX_NUMERIC_DATE);
        plausible.then_some(payload)
    }
}

impl<'de> Deserialize<'de> for Payload<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Payload<'de>, D::Error> {
        deserializer.deserialize_map(PayloadVisitor(PhantomData))
    }
}

struct PayloadVisitor<'p>(PhantomData<Payload<'p>>);

impl<'de> Visitor<'de> for PayloadVisitor<'de> {
    type Value = Payload<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of claims")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut claims: A) -> Result<Payload<'de>, A::Error> {
        let (mut iss, mut aud, mut sub, mut jti, mut sid) = (None, None, None, None, None);
        let (mut iat, mut nbf, mut exp) = (None, None, None);
        let (mut token_type, mut username, mut roles) = (None, None, None);
        let mut further = Map::new();
        while let Some(Text(name)) = claims.next_key()? {
            match &*name {
                "iss" => once(&mut iss, &mut claims)?,
                "aud" => once(&mut aud, &mut claims)?,
                "sub" => once(&mut sub, &mut claims)?,
                "jti" => once(&mut jti, &mut claims)?,
                "sid" => once(&mut sid, &mut claims)?,
                "iat" => once(&mut iat, &mut claims)?,
                "nbf" => once(&mut nbf, &mut claims)?,
                "exp" => once(&mut exp, &mut claims)?,
                "type" => once(&mut token_type, &mut claims)?,
                "username" => once(&mut username, &mut claims)?,
                "roles" => once(&mut roles, &mut claims)?,
                _ => {
                    let Strict(value) = claims.next_value()?;
                    if further.insert(name.into_owned(), value).is_some() {
                        return Err(repeated());
                    }
                }
            }
        }
        let text = |claim: Option<Text<'de>>| claim.map_or(Cow::Borrowed(""), |Text(text)| text);
        Ok(Payload {
            iss: text(iss),
            aud: aud.unwrap_or(Audience::One(Cow::Borrowed(""))),
            sub: text(sub),
            iat: iat.ok_or_else(missing)?,
            nbf,
            exp: exp.ok_or_else(missing)?,
            jti: text(jti),
            sid: text(sid),
            token_type: text(token_type),
            username: text(username),
            roles,
            further,
        })
    }
}

/// Reads a claim that must not have been read before.
fn once<'de, T: Deserialize<'de>, A: MapAccess<'de>>(
    claim: &mut Option<T>,
    claims: &mut A,
) -> Result<(), A::Error> {
    match claim.replace(claims.next_value()?) {
        Some(_) => Err(repeated()),
        None => Ok(()),
    }
}

fn repeated<E: Error>() -> E {
    E::custom("a claim stands twice")
}

fn missing<E: Error>() -> E {
    E::custom("a claim is missing")
}

/// A string, borrowed from the payload unless it contains escapes.
struct Text<'p>(Cow<'p, str>);

impl<'de> Deserialize<'de> for Text<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Text<'de>, D::Error> {
        match Audience::deserialize(deserializer)? {
            Audience::One(text) => Ok(Text(text)),
            Audience::Several(_) => Err(D::Error::custom("a list where one string belongs")),
        }
    }
}

impl<'de> Deserialize<'de> for Audience<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Audience<'de>, D::Error> {
        deserializer.deserialize_any(AudienceVisitor(PhantomData))
    }
}

struct AudienceVisitor<'p>(PhantomData<Audience<'p>>);

impl<'de> Visitor<'de> for AudienceVisitor<'de> {
    type Value = Audience<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string, or a list of strings")
    }

    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Audience<'de>, E> {
        Ok(Audience::One(Cow::Borrowed(text)))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Audience<'de>, E> {
        Ok(Audience::One(Cow::Owned(text.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Audience<'de>, A::Error> {
        let mut names = Vec::new();
        while let Some(name) = elements.next_element()? {
            names.push(name);
        }
        Ok(Audience::Several(names))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn claims() -> Value {
        json!({
            "iss": "i", "aud": "a", "sub": "1", "iat": 1, "nbf": 1, "exp": 61, "jti": "j", "sid": "s",
            "type": "access", "username": "alice", "roles": ["user"], "email": "a@example.org",
        })
    }

    fn accepts(json: &str) -> bool {
        Payload::read(json.as_bytes()).is_some()
    }

    #[test]
    fn a_claim_of_another_type_is_refused_like_one_that_is_missing() {
        assert!(accepts(&claims().to_string()));
        for (claim, wrong) in [
            ("iss", vec![json!(1), json!(["i"]), json!(""), json!(null)]),
            ("aud", vec![json!(1), json!([1]), json!({"a": 1}), json!(true)]),
            ("sub", vec![json!(1), json!(""), json!({}), json!(["1"])]),
            ("exp", vec![json!("61"), json!(61.5), json!(-1), json!(1_u64 << 60), json!(null)]),
            ("nbf", vec![json!("1"), json!(1.0)]),
            ("iat", vec![json!("1"), json!(true)]),
            ("type", vec![json!(1)]),
            ("username", vec![json!(["alice"]), json!("")]),
            ("roles", vec![json!("user"), json!([1]), json!({"user": true}), json!(null)]),
            ("sid", vec![json!(7)]),
            ("jti", vec![json!(7)]),
        ] {
            for value in wrong {
                let mut claims = claims();
                claims[claim] = value;
                assert!(!accepts(&claims.to_string()), "{claims}");
            }
            let mut claims = claims();
            claims.as_object_mut().map(|members| members.remove(claim));
            assert!(!accepts(&claims.to_string()), "{claim} is missing");
        }
    }

    #[test]
    fn a_duplicate_claim_is_refused_however_it_is_spelled() {
        let claims = claims().to_string();
        let with = |more: &str| format!("{},{more}}}", claims.trim_end_matches('}'));
        assert!(accepts(&with(r#""x":{"a":1}"#)));
        for twice in
            [r#""sub":"1""#, r#""s\u0075b":"2""#, r#""email":"b""#, r#""x":{"a":1,"a":1}"#, r#""roles":[]"#]
        {
            assert!(!accepts(&with(twice)), "{twice}");
        }
        assert!(!accepts(&format!("{claims} x")) && !accepts("[]") && !accepts(""));
    }
}
