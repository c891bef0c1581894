//! Personal access tokens in the store: made, found, listed, used and revoked.

use std::net::IpAddr;
use std::time::Duration;

use super::{SessionEnd, Sessions};
use crate::sessions::personal_token::{
    NewPersonalToken, PersonalToken, PersonalTokenInfo, PersonalTokenRefusal, PresentedToken,
    RECHECK_INTERVAL, REVOKED_RETENTION, TokenText,
};
use crate::sessions::record::Change;
use crate::sessions::store::{Key, Space, StoreError};
use crate::sessions::{SessionId, UnixMillis};

/// Why a token was not made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CreateTokenError {
    /// The user has as many as one may have.
    #[error("the user has as many tokens as one may have; revoke one first")]
    TooMany,
    /// The store failed; the outcome is unknown.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Sessions {
    /// Makes a token, unless its user has `max` of them. Its text exists nowhere but in the result.
    ///
    /// # Errors
    ///
    /// There are too many, or the store fails.
    pub async fn create_token(
        &self,
        new: NewPersonalToken,
        max: usize,
        now: UnixMillis,
    ) -> Result<(TokenText, PersonalTokenInfo), CreateTokenError> {
        if self.list_tokens(Some(&new.subject), now).await?.len() >= max {
            return Err(CreateTokenError::TooMany);
        }
        let id = SessionId::random();
        let (text, token) = PersonalToken::new(id, new, now);
        // 128 random bits are never taken.
        self.update(&token_key(id), |_: Option<PersonalToken>| (Some(change(token.clone(), now)), ()))
            .await?;
        Ok((text, PersonalTokenInfo::new(id, token)))
    }

    /// The token that was presented.
    ///
    /// # Errors
    ///
    /// The store fails; whether the token is good is then unknown.
    pub(crate) async fn find_token(
        &self,
        presented: &PresentedToken,
        now: UnixMillis,
    ) -> Result<Result<PersonalToken, PersonalTokenRefusal>, StoreError> {
        let Some(token) = self.read::<PersonalToken>(&token_key(presented.id)).await? else {
            return Ok(Err(PersonalTokenRefusal::Unknown));
        };
        Ok(token.check(presented, now).map(|()| token))
    }

    /// Records that a token was used, to the minute.
    ///
    /// # Errors
    ///
    /// The store fails.
    pub async fn record_token_use(
        &self,
        id: SessionId,
        from: IpAddr,
        now: UnixMillis,
    ) -> Result<(), StoreError> {
        self.update(&token_key(id), |record: Option<PersonalToken>| {
            let changed = record.and_then(|mut token| token.record_use(now, from).then_some(token));
            (changed.map(|token| change(token, now)), ())
        })
        .await
    }

    /// The live tokens of one user or of all, newest first.
    ///
    /// # Errors
    ///
    /// The store fails.
    pub async fn list_tokens(
        &self,
        subject: Option<&str>,
        now: UnixMillis,
    ) -> Result<Vec<PersonalTokenInfo>, StoreError> {
        let found = self.records::<PersonalToken>(Space::PersonalToken, subject).await?;
        let live = found.into_iter().filter(|(_, token)| token.is_live(now));
        let mut tokens: Vec<PersonalTokenInfo> =
            live.map(|(id, token)| PersonalTokenInfo::new(id, token)).collect();
        tokens.sort_unstable_by_key(|token| (std::cmp::Reverse(token.created_at), token.id));
        Ok(tokens)
    }

    /// Revokes a token of that user, or of anyone where no user is named: on every instance, and on this one before the call
    /// returns. Returns whose it was, or `None` where there is no such live token.
    ///
    /// # Errors
    ///
    /// The store fails; whether it is revoked is then unknown.
    pub async fn revoke_token(
        &self,
        subject: Option<&str>,
        id: SessionId,
        now: UnixMillis,
    ) -> Result<Option<PersonalTokenInfo>, StoreError> {
        let until = now.saturating_add(2 * RECHECK_INTERVAL);
        let mut ending = SessionEnd { revocations: &self.revocations, id, until, decided: false };
        let key = token_key(id);
        let revoked = self.update(&key, |record: Option<PersonalToken>| {
            let of_user = |token: &PersonalToken| subject.is_none_or(|subject| subject == token.subject);
            let Some(mut token) = record.filter(|token| token.is_live(now) && of_user(token)) else {
                return (None, None);
            };
            token.revoked_at = Some(now);
            ending.decided = true;
            let info = PersonalTokenInfo::new(id, token.clone());
            (Some(change(token, now)), Some(info))
        });
        let revoked = revoked.await;
        ending.decided &= revoked.is_ok();
        revoked
    }

    /// Ends what is under way with these ids on this instance alone, for a moment.
    pub fn interrupt(&self, ids: impl IntoIterator<Item = SessionId>, now: UnixMillis) {
        self.revocations.extend(ids.into_iter().map(|id| (id, now.saturating_add(Duration::from_secs(1)))));
    }
}

fn token_key(id: SessionId) -> Key {
    Key { space: Space::PersonalToken, id: id.to_string() }
}

fn change(token: PersonalToken, now: UnixMillis) -> Change<PersonalToken> {
    let expires_at = match token.revoked_at {
        Some(at) => at.saturating_add(REVOKED_RETENTION),
        None => token.expires_at.unwrap_or(UnixMillis::MAX),
    };
    let revoked_until = token.revoked_at.map(|_| now.saturating_add(2 * RECHECK_INTERVAL));
    Change { expires_at, group: Some(token.subject.clone()), revoked_until, record: token }
}
