//! A session and the rule of refresh token rotation, without I/O and without a clock.
//!
//! A session is a family of refresh tokens in one line: each token has at most one successor, chosen once and
//! returned again to clients that present the predecessor again during its grace period. Racing tabs and lost
//! responses thus get the same pair, never a fork. A dead token that is presented means that two parties hold
//! the family, so the session ends (RFC 9700 section 4.14.2).

use std::time::Duration;

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::{Account, SessionId, TokenId, UnixMillis};
use crate::config::Rotation;

/// Maximum number of live tokens per session; it bounds the record. A client that refreshes faster than its
/// old tokens expire gets its newest one again.
pub(super) const MAX_LIVE_TOKENS: usize = 32;

/// Resolution of the last refresh time: tabs that race cost one write, and a client that
/// keeps its first token one per second. The idle timeout is prolonged by it, so that no session ends early.
pub(super) const ACTIVITY_RESOLUTION: Duration = Duration::from_secs(1);

/// The same where there is no idle timeout and the time only serves listings.
const DISPLAY_RESOLUTION: Duration = Duration::from_secs(60);

/// Tolerated clock skew between instances: a time further ahead is taken for a mistake.
pub(super) const MAX_CLOCK_SKEW: Duration = Duration::from_secs(60);

/// Maximum stored length of a `User-Agent`, in bytes.
const MAX_USER_AGENT: usize = 256;

/// When predecessors die, and when an idle session ends.
#[derive(Debug, Clone, Copy)]
pub struct RotationPolicy {
    /// The mode.
    pub mode: Rotation,
    /// Grace period: how long a token lives after the event that kills it.
    pub grace: Duration,
    /// Idle timeout of a session; `None` for its absolute lifetime.
    pub idle_ttl: Option<Duration>,
}

/// The client that opened or last refreshed a session, for listings only.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientInfo {
    /// The address, as reported by trusted proxies.
    pub address: Option<IpAddr>,
    /// The `User-Agent`, truncated to 256 bytes.
    pub user_agent: Option<String>,
}

impl ClientInfo {
    /// A client at `address` with this `User-Agent`.
    pub fn new(address: IpAddr, user_agent: Option<&str>) -> ClientInfo {
        let cut = |text: &str| text[..text.floor_char_boundary(MAX_USER_AGENT)].to_owned();
        ClientInfo { address: Some(address), user_agent: user_agent.map(cut) }
    }
}

/// Why a session was revoked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RevocationReason {
    /// The user logged out.
    Logout,
    /// The user logged out everywhere.
    LogoutAll,
    /// A dead refresh token was presented.
    Reuse,
    /// The user was disabled or deleted, or has a new password.
    AccountChanged,
    /// It exceeded the idle timeout.
    Idle,
    /// An operator, or the user on the sessions page, revoked it.
    Revoked,
    /// The user exceeded the session limit.
    TooMany,
}

/// How the user of a session proved the identity.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Authentication {
    /// When, the last time.
    pub at: UnixMillis,
    /// Whether by a second factor as well.
    pub second_factor: bool,
}

/// A revocation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revoked {
    /// When.
    pub at: UnixMillis,
    /// Why.
    pub reason: RevocationReason,
}

/// How long a session that is handed over may be claimed.
const CLAIM_TIMEOUT: Duration = Duration::from_secs(60);

/// A sign-in that is handed over to another host: a session of its own, which the host claims once by the id of its first token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Handover {
    /// The session of the sign-in.
    from: SessionId,
    /// The only host that may claim it.
    host: String,
    /// The id of the first token, once it was claimed by that.
    #[serde(default)]
    claimed_by: Option<TokenId>,
}

/// A refresh token of the family.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct RefreshTokenRecord {
    id: TokenId,
    issued_at: UnixMillis,
    first_presented: Option<UnixMillis>,
}

/// A session as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Session {
    /// The user's id.
    pub subject: String,
    /// The user's name at login.
    pub username: String,
    /// A fingerprint that changes with the user's password.
    pub credential: [u8; 16],
    /// The fingerprint after a password change that the session survives. Set before the password is stored,
    /// so that no instance ends the session in between.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    next_credential: Option<[u8; 16]>,
    /// The thumbprint of the key that its tokens are bound to: without that key it cannot be refreshed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<[u8; 32]>,
    /// When the user last proved the identity, where that was not when the session was opened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    authenticated_at: Option<UnixMillis>,
    /// Whether by a second factor as well.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    second_factor: bool,
    /// Opened at.
    pub opened_at: UnixMillis,
    /// Absolute end; it never moves.
    pub expires_at: UnixMillis,
    /// Last refreshed at, accurate to [`ACTIVITY_RESOLUTION`].
    #[serde(default)]
    active_at: UnixMillis,
    /// When the client first used a successor, and so is known to adopt the tokens it gets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    adopted_at: Option<UnixMillis>,
    /// The client that opened or last refreshed it.
    #[serde(default)]
    pub client: ClientInfo,
    /// Set where a sign-in on another host was handed over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    handover: Option<Handover>,
    /// Set where the session's token was issued elsewhere: when that token expires at the latest, whatever the lifetime of
    /// access tokens is here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    foreign_until: Option<UnixMillis>,
    /// Set once it was revoked.
    pub revoked: Option<Revoked>,
    /// The live tokens of the family, oldest first. Any other token of this session is dead.
    links: Vec<RefreshTokenRecord>,
}

/// The decision about a presented refresh token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RefreshDecision {
    /// Valid, with this successor.
    Rotated {
        successor: TokenId,
        issued_at: UnixMillis,
        /// Whether the successor was issued at an earlier presentation. Where the family is full, it is the
        /// presented token itself.
        repeated: bool,
    },
    /// Valid, and not rotated.
    Kept,
    /// Dead (reuse); the session has been revoked.
    Reused,
    Revoked,
    /// The idle timeout has passed; the session has been revoked.
    Idle,
    Expired,
}

impl Session {
    /// A session with its first refresh token.
    pub(super) fn open(
        subject: String,
        username: String,
        credential: [u8; 16],
        first: TokenId,
        now: UnixMillis,
        expires_at: UnixMillis,
    ) -> Session {
        let links = vec![RefreshTokenRecord { id: first, issued_at: now, first_presented: None }];
        let (opened_at, active_at) = (now, now);
        let (adopted_at, client, handover, foreign_until, revoked) =
            (None, ClientInfo::default(), None, None, None);
        Session {
            subject,
            username,
            credential,
            next_credential: None,
            key: None,
            authenticated_at: None,
            second_factor: false,
            opened_at,
            expires_at,
            active_at,
            adopted_at,
            client,
            handover,
            foreign_until,
            revoked,
            links,
        }
    }

    /// How the user proved the identity.
    pub fn authentication(&self) -> Authentication {
        Authentication {
            at: self.authenticated_at.unwrap_or(self.opened_at),
            second_factor: self.second_factor,
        }
    }

    /// Notes that the user proved the identity otherwise than by opening the session.
    pub(super) fn authenticate(&mut self, authentication: Authentication) {
        self.authenticated_at = Some(authentication.at);
        self.second_factor |= authentication.second_factor;
    }

    /// Whether the session was opened with the credential that the account has, or may go on with it.
    pub(super) fn is_of(&self, account: Account) -> bool {
        match account {
            Account::Gone => false,
            Account::Active { credential } => {
                credential == self.credential || Some(credential) == self.next_credential
            }
        }
    }

    /// Has the session go on when the user's credential changes from `from` to `to`.
    pub(super) fn outlive_change(&mut self, from: [u8; 16], to: [u8; 16]) {
        if self.is_of(Account::Active { credential: from }) {
            (self.credential, self.next_credential) = (from, Some(to));
        }
    }

    /// Revokes the session; the first reason stays. Returns whether that was a change.
    pub(super) fn revoke(&mut self, reason: RevocationReason, now: UnixMillis) -> bool {
        let change = self.revoked.is_none();
        self.revoked.get_or_insert(Revoked { at: now, reason });
        change
    }

    /// Takes the session for that of a token that was issued elsewhere and is accepted until `until`.
    pub(super) fn outlast(&mut self, until: UnixMillis) {
        self.foreign_until = Some(until);
    }

    /// Until when a revocation must be remembered, if the session was revoked: no token of it is accepted later. `access_ttl` is
    /// how long after its issue a token of this gateway can be valid.
    pub(super) fn revoked_until(&self, access_ttl: Duration) -> Option<UnixMillis> {
        let last = self.revoked?.at.saturating_add(access_ttl);
        Some(last.max(self.foreign_until.unwrap_or_default()))
    }

    /// Redeems a token, and records its use. `fresh` becomes the successor if there is none yet; the caller
    /// chose it beforehand, so a retry has the same result.
    pub(super) fn redeem(
        &mut self,
        presented: TokenId,
        fresh: TokenId,
        policy: RotationPolicy,
        now: UnixMillis,
    ) -> RefreshDecision {
        if self.revoked.is_some() {
            return RefreshDecision::Revoked;
        }
        self.clamp_to(now);
        if now >= self.expires_at {
            return RefreshDecision::Expired;
        }
        if self.is_idle(policy, now) {
            self.revoke(RevocationReason::Idle, now);
            return RefreshDecision::Idle;
        }
        self.prune_expired(policy, now);
        let Some(place) = self.links.iter().position(|link| link.id == presented) else {
            self.revoke(RevocationReason::Reuse, now);
            return RefreshDecision::Reused;
        };
        self.stay_active(policy, now);
        if policy.mode == Rotation::Off {
            return RefreshDecision::Kept;
        }
        let newest = place + 1 == self.links.len();
        if newest && self.links.len() >= MAX_LIVE_TOKENS {
            // Not a use, or it would begin to die without a successor.
            let RefreshTokenRecord { id, issued_at, .. } = self.links[place];
            return RefreshDecision::Rotated { successor: id, issued_at, repeated: true };
        }
        // Who has a successor was given it for its predecessor, whatever became of that since.
        self.links[..=place].iter_mut().for_each(|link| _ = link.first_presented.get_or_insert(now));
        if place > 0 {
            self.adopted_at.get_or_insert(now);
        }
        if newest {
            self.links.push(RefreshTokenRecord { id: fresh, issued_at: now, first_presented: None });
            // Free, as the record changes anyway, and a later idle timeout finds it.
            self.active_at = self.active_at.max(now);
        }
        let RefreshTokenRecord { id: successor, issued_at, .. } = self.links[place + 1];
        RefreshDecision::Rotated { successor, issued_at, repeated: !newest }
    }

    /// Leaves a session that was just opened to `host`, which has a minute to claim it.
    pub(super) fn hand_over(&mut self, from: SessionId, host: &str) {
        self.handover = Some(Handover { from, host: host.to_owned(), claimed_by: None });
    }

    /// Claims a session that was handed over: its first token, whose id has been in an address, dies, and `fresh` takes its
    /// place. Returns whether that was possible. The same code a second time revokes the session, for then two parties have the
    /// address.
    pub(super) fn claim(&mut self, code: TokenId, host: &str, fresh: TokenId, now: UnixMillis) -> bool {
        let in_time = now < self.expires_at && now < self.opened_at.saturating_add(CLAIM_TIMEOUT);
        let is_code = self.links.first().is_some_and(|link| link.id == code);
        let Some(handover) = self.handover.as_mut().filter(|to| to.host.eq_ignore_ascii_case(host)) else {
            return false;
        };
        if let Some(claimed_by) = handover.claimed_by {
            // The id of a session is no secret, and must not suffice to end it.
            if claimed_by == code {
                self.revoke(RevocationReason::Reuse, now);
            }
            return false;
        }
        if !in_time || !is_code || self.revoked.is_some() {
            return false;
        }
        handover.claimed_by = Some(code);
        self.links = vec![RefreshTokenRecord { id: fresh, issued_at: now, first_presented: None }];
        true
    }

    /// The session that this one, whose id is `own`, was handed over from; `own` where it was opened by a login.
    pub(super) fn sign_in_root(&self, own: SessionId) -> SessionId {
        self.handover.as_ref().map_or(own, |handover| handover.from)
    }

    /// Begins the grace of a presented token anew, for its successor has not reached the client yet. Tells whether that is
    /// still so: not where the successor was used, or the session is over.
    pub(super) fn hold(&mut self, presented: TokenId, now: UnixMillis) -> bool {
        match self.unused_successor_of(presented) {
            Some(link) => {
                link.first_presented = link.first_presented.max(Some(now));
                true
            }
            None => false,
        }
    }

    /// Takes back that a token was presented, for the response with its successor never left. Tells whether it was.
    pub(super) fn withdraw(&mut self, presented: TokenId) -> bool {
        self.unused_successor_of(presented).is_some_and(|link| link.first_presented.take().is_some())
    }

    /// A living token whose successor was issued and not presented so far.
    fn unused_successor_of(&mut self, presented: TokenId) -> Option<&mut RefreshTokenRecord> {
        let place = self.links.iter().position(|link| link.id == presented)?;
        let is_unused = self.links.get(place + 1).is_some_and(|next| next.first_presented.is_none());
        (self.revoked.is_none() && is_unused).then(|| &mut self.links[place])
    }

    /// Whether it could still be refreshed at `now`, by the record alone.
    pub(super) fn is_live(&self, policy: RotationPolicy, now: UnixMillis) -> bool {
        let is_claimed = self.handover.as_ref().is_none_or(|handover| handover.claimed_by.is_some());
        self.revoked.is_none() && is_claimed && now < self.expires_at && !self.is_idle(policy, now)
    }

    /// Last refreshed at, as far as it is recorded.
    pub(super) fn last_refreshed_at(&self) -> UnixMillis {
        self.active_at.max(self.opened_at)
    }

    /// When its newest refresh token was issued first.
    pub(super) fn newest_issued_at(&self) -> Option<UnixMillis> {
        self.links.last().map(|link| link.issued_at)
    }

    /// Caps times in the future at `now`: they were written by a wrong clock, and must neither keep old
    /// tokens alive nor prolong the session.
    fn clamp_to(&mut self, now: UnixMillis) {
        let ahead = self.opened_at.since(now);
        if ahead > MAX_CLOCK_SKEW {
            self.opened_at = now;
            self.expires_at = self.expires_at.saturating_sub(ahead);
        }
        let latest = now.saturating_add(MAX_CLOCK_SKEW);
        let clamp = |at: &mut UnixMillis| {
            if *at > latest {
                *at = now;
            }
        };
        clamp(&mut self.active_at);
        self.adopted_at.as_mut().into_iter().for_each(clamp);
        for link in &mut self.links {
            clamp(&mut link.issued_at);
            link.first_presented.as_mut().into_iter().for_each(clamp);
        }
    }

    fn is_idle(&self, policy: RotationPolicy, now: UnixMillis) -> bool {
        let active_at = self.last_refreshed_at();
        let end =
            policy.idle_ttl.map(|ttl| active_at.saturating_add(ttl).saturating_add(ACTIVITY_RESOLUTION));
        end.is_some_and(|end| now >= end)
    }

    fn stay_active(&mut self, policy: RotationPolicy, now: UnixMillis) {
        let step = if policy.idle_ttl.is_some() { ACTIVITY_RESOLUTION } else { DISPLAY_RESOLUTION };
        if now >= self.active_at.saturating_add(step) {
            self.active_at = now;
        }
    }

    /// A token dies `grace` after the event that kills it: in `strict` mode its own first use, in `on-use`
    /// mode that or the first use of any successor, whichever is later. So a client that never adopts a
    /// successor keeps its first token, and once it has adopted one, reuse is detected as in `strict`: thief
    /// and owner cannot both go on by refreshing in turn.
    fn is_dead(&self, place: usize, policy: RotationPolicy, now: UnixMillis) -> bool {
        let used_at = self.links[place].first_presented;
        let killed_at = match policy.mode {
            Rotation::OnUse => used_at.zip(self.adopted_at).map(|(used, adopted)| used.max(adopted)),
            Rotation::Strict => used_at,
            Rotation::Off => None,
        };
        killed_at.is_some_and(|at| now >= at.saturating_add(policy.grace))
    }

    /// Tokens die in the order of the family, also where clocks disagree: none dies before its predecessor,
    /// so that no client is given a dead successor.
    fn prune_expired(&mut self, policy: RotationPolicy, now: UnixMillis) {
        let dead = (0..self.links.len()).take_while(|&place| self.is_dead(place, policy, now)).count();
        self.links.drain(..dead);
    }
}
