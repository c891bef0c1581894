//! Personal access tokens: their text, their record, and the rules about both.
//!
//! A token is `agp_`, its id (22 characters of base64url), 256 random bits (43) and a checksum (6), by which scanners for leaked
//! secrets tell one from other text. Of the text only the SHA-256 is stored. The id is one of a session, so a revocation reaches
//! all instances, and open streams, by the way of logouts.

use std::time::Duration;

use std::fmt;
use std::net::IpAddr;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use super::secret::{hash_text, random_bytes, sha256};
use super::{SessionId, UnixMillis};

/// How long an instance may take a token for good without reading its record again. A revocation is in effect
/// at once; this bounds how long other changes of the record or of its user go unnoticed.
pub(crate) const RECHECK_INTERVAL: Duration = Duration::from_secs(30);

/// How long the record of a revoked token is kept.
pub(super) const REVOKED_RETENTION: Duration = Duration::from_secs(24 * 60 * 60);

/// Accuracy of the time of the last use, in milliseconds, so that not every use is a write.
const USE_RESOLUTION: Duration = Duration::from_secs(60);

const PREFIX: &str = "agp_";
const ID_LEN: usize = 22;
const SECRET_BYTES: usize = 32;
const CHECKSUM_LEN: usize = 6;
const TEXT_LEN: usize = PREFIX.len() + ID_LEN + 43 + CHECKSUM_LEN;

/// What a client presents, in the right form: it may be unknown all the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PresentedToken {
    /// The id in it.
    pub(crate) id: SessionId,
    digest: [u8; 32],
}

impl PresentedToken {
    /// Whether a text claims to be one.
    pub(crate) fn is_meant_by(text: &[u8]) -> bool {
        text.starts_with(PREFIX.as_bytes())
    }

    /// `None` for what no gateway ever made.
    pub(crate) fn parse(text: &str) -> Option<PresentedToken> {
        let (body, sum) =
            text.split_at_checked(TEXT_LEN - CHECKSUM_LEN).filter(|_| text.len() == TEXT_LEN)?;
        let id = body.strip_prefix(PREFIX)?.get(..ID_LEN)?.parse().ok()?;
        (checksum(body) == sum).then(|| PresentedToken { id, digest: sha256(text) })
    }
}

/// The text of a new token, which is shown once.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TokenText(String);

impl TokenText {
    /// 256 bits from the system's random number generator, with the id of the token.
    fn random(id: SessionId) -> TokenText {
        let secret = URL_SAFE_NO_PAD.encode(random_bytes::<SECRET_BYTES>());
        let body = format!("{PREFIX}{id}{secret}");
        let sum = checksum(&body);
        TokenText(body + &sum)
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Lest the token be printed.
impl fmt::Debug for TokenText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenText(…)")
    }
}

/// The first characters of the SHA-256 in base64url.
fn checksum(body: &str) -> String {
    let mut text = hash_text(body);
    text.truncate(CHECKSUM_LEN);
    text
}

/// A token to be made. Times are milliseconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewPersonalToken {
    /// The user's id.
    pub subject: String,
    /// The user's name.
    pub username: String,
    /// What the token is called in listings.
    pub name: String,
    /// The only roles of its user that it has; `None` for all of them.
    pub roles: Option<Vec<String>>,
    /// The paths of the only routes that it is for; empty for all.
    pub routes: Vec<String>,
    /// When it expires; `None` for never.
    pub expires_at: Option<UnixMillis>,
}

/// A token as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PersonalToken {
    pub(crate) subject: String,
    pub(crate) username: String,
    pub(crate) name: String,
    digest: [u8; 32],
    pub(crate) roles: Option<Vec<String>>,
    pub(crate) routes: Vec<String>,
    pub(crate) created_at: UnixMillis,
    pub(crate) expires_at: Option<UnixMillis>,
    pub(super) last_used_at: Option<UnixMillis>,
    pub(super) last_used_from: Option<IpAddr>,
    pub(super) revoked_at: Option<UnixMillis>,
}

/// Why a token is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PersonalTokenRefusal {
    /// There is none with that id and that secret.
    Unknown,
    Revoked,
    Expired,
}

impl PersonalToken {
    /// A new token, with the text that it is presented by.
    pub(super) fn new(id: SessionId, new: NewPersonalToken, now: UnixMillis) -> (TokenText, PersonalToken) {
        let text = TokenText::random(id);
        let NewPersonalToken { subject, username, name, roles, routes, expires_at } = new;
        let digest = sha256(text.as_str());
        let (created_at, last_used_at, last_used_from, revoked_at) = (now, None, None, None);
        let token = PersonalToken {
            subject,
            username,
            name,
            digest,
            roles,
            routes,
            created_at,
            expires_at,
            last_used_at,
            last_used_from,
            revoked_at,
        };
        (text, token)
    }

    /// Whether what was presented is this token, and good at `now`. A wrong secret is unknown, whatever the state of the token.
    pub(super) fn check(
        &self,
        presented: &PresentedToken,
        now: UnixMillis,
    ) -> Result<(), PersonalTokenRefusal> {
        if verify_slices_are_equal(&self.digest, &presented.digest).is_err() {
            return Err(PersonalTokenRefusal::Unknown);
        }
        match self.revoked_at {
            Some(_) => Err(PersonalTokenRefusal::Revoked),
            None if self.has_expired(now) => Err(PersonalTokenRefusal::Expired),
            None => Ok(()),
        }
    }

    /// Whether it still can be used at `now`.
    pub(super) fn is_live(&self, now: UnixMillis) -> bool {
        self.revoked_at.is_none() && !self.has_expired(now)
    }

    fn has_expired(&self, now: UnixMillis) -> bool {
        self.expires_at.is_some_and(|end| now >= end)
    }

    /// Records a use; returns whether the record has changed.
    pub(super) fn record_use(&mut self, now: UnixMillis, from: IpAddr) -> bool {
        let is_new = self.is_use_due(now);
        if is_new {
            (self.last_used_at, self.last_used_from) = (Some(now), Some(from));
        }
        is_new
    }

    /// Whether a use at `now` would be recorded.
    pub(crate) fn is_use_due(&self, now: UnixMillis) -> bool {
        // Also where the last one was recorded by a clock that was ahead.
        self.last_used_at.is_none_or(|at| now.since(at).max(at.since(now)) >= USE_RESOLUTION)
    }

    /// The roles that it has, of those that its user has now.
    pub(crate) fn roles_of(&self, user: &[String]) -> Vec<String> {
        let has = |role: &&String| self.roles.as_ref().is_none_or(|roles| roles.contains(role));
        user.iter().filter(has).cloned().collect()
    }
}

/// A token in listings. Times are milliseconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PersonalTokenInfo {
    /// Its id: the 22 characters behind `agp_`.
    pub id: SessionId,
    /// The user's id.
    pub subject: String,
    /// The user's name when it was made.
    pub username: String,
    /// What it is called.
    pub name: String,
    /// See [`NewPersonalToken::roles`].
    pub roles: Option<Vec<String>>,
    /// See [`NewPersonalToken::routes`].
    pub routes: Vec<String>,
    /// Made at.
    pub created_at: UnixMillis,
    /// See [`NewPersonalToken::expires_at`].
    pub expires_at: Option<UnixMillis>,
    /// Last used at, accurate to a minute.
    pub last_used_at: Option<UnixMillis>,
    /// The address that it was then used from.
    pub last_used_from: Option<IpAddr>,
}

impl PersonalTokenInfo {
    pub(super) fn new(id: SessionId, token: PersonalToken) -> PersonalTokenInfo {
        let PersonalToken { subject, username, name, roles, routes, created_at, .. } = token;
        let PersonalToken { expires_at, last_used_at, last_used_from, .. } = token;
        PersonalTokenInfo {
            id,
            subject,
            username,
            name,
            roles,
            routes,
            created_at,
            expires_at,
            last_used_at,
            last_used_from,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn token(expires_at: Option<UnixMillis>) -> (SessionId, TokenText, PersonalToken) {
        let new = NewPersonalToken {
            subject: "1".into(),
            username: "alice".into(),
            name: "backup".into(),
            roles: Some(vec!["user".into(), "former".into()]),
            routes: Vec::new(),
            expires_at,
        };
        let id = SessionId::random();
        let (text, token) = PersonalToken::new(id, new, UnixMillis::new(1_000));
        (id, text, token)
    }

    #[test]
    fn a_token_is_found_by_its_form_and_by_nothing_that_is_nearly_one() {
        let (id, text, _) = token(None);
        let text = text.as_str();
        let is_word = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
        assert!(text.len() == 75 && text.starts_with("agp_") && text.chars().all(is_word), "{text}");
        assert_eq!(PresentedToken::parse(text).unwrap().id, id);
        for at in 0..text.len() {
            let mut other = text.as_bytes().to_vec();
            other[at] = if other[at] == b'x' { b'y' } else { b'x' };
            assert_eq!(PresentedToken::parse(std::str::from_utf8(&other).unwrap()), None, "{at}");
        }
        for bad in
            ["", "agp_", &text[..74], &format!("{text}A"), &format!(" {}", &text[1..]), &"ä".repeat(38)]
        {
            assert_eq!(PresentedToken::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn only_the_whole_token_passes_and_only_while_it_is_live() {
        let (id, text, mut kept) = token(Some(UnixMillis::new(5_000)));
        let right = PresentedToken::parse(text.as_str()).unwrap();
        let forged = PresentedToken::parse(TokenText::random(id).as_str()).unwrap();
        assert_eq!(kept.check(&right, UnixMillis::new(4_999)), Ok(()));
        assert_eq!(kept.check(&right, UnixMillis::new(5_000)), Err(PersonalTokenRefusal::Expired));
        kept.revoked_at = Some(UnixMillis::new(2_000));
        assert_eq!(kept.check(&right, UnixMillis::new(3_000)), Err(PersonalTokenRefusal::Revoked));
        assert_eq!(kept.check(&forged, UnixMillis::new(3_000)), Err(PersonalTokenRefusal::Unknown));
        assert!(!format!("{text:?}{kept:?}").contains(text.as_str()));
    }

    #[test]
    fn it_has_no_role_that_its_user_has_lost() {
        let (_, _, mut kept) = token(None);
        let user = ["user".to_owned(), "admin".to_owned()];
        assert_eq!(kept.roles_of(&user), ["user"]);
        kept.roles = None;
        assert_eq!(kept.roles_of(&user), user);
        kept.roles = Some(Vec::new());
        assert!(kept.roles_of(&user).is_empty());
    }

    #[test]
    fn uses_are_recorded_once_a_minute() {
        let (_, _, mut kept) = token(None);
        let from: IpAddr = "192.0.2.1".parse().unwrap();
        for (now, recorded) in [(1_000, true), (60_999, false), (61_000, true), (500, true)] {
            assert_eq!(kept.record_use(UnixMillis::new(now), from), recorded, "{now}");
        }
        assert_eq!((kept.last_used_at, kept.last_used_from), (Some(UnixMillis::new(500)), Some(from)));
    }
}
