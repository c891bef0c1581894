//! A session and the rule of refresh rotation, without I/O and without a clock.
//!
//! A session is a family of refresh tokens in one line: each has at most one successor, chosen once and given again
//! to whoever presents the predecessor again while that lives. Racing tabs and lost answers thus get the same pair,
//! never a fork. A dead token that comes back means that two parties hold the line, so the line ends (RFC 9700
//! section 4.14.2).

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::{TokenId, UnixMillis};
use crate::config::Rotation;

/// Tokens of one line that live at a time; it bounds the record. A client that refreshes faster than its old tokens die
/// is given its newest one again until they have died.
pub(super) const MAX_LIVE_TOKENS: usize = 32;

/// How far the memory of when a session was last refreshed may lag behind, in milliseconds: tabs that race cost one write, and a client
/// that keeps its first token one a second. Idle sessions are given that much longer, so that none ends early.
pub(super) const ACTIVITY_RESOLUTION_MILLIS: UnixMillis = 1000;

/// The same where no idle session ends and the time only serves people who look at their sessions, in milliseconds.
const DISPLAY_RESOLUTION_MILLIS: UnixMillis = 60_000;

/// How far the clocks of instances may be apart, in milliseconds: a time that lies ahead by more is taken for a mistake.
pub(super) const MAX_CLOCK_SKEW_MILLIS: UnixMillis = 60_000;

/// As much of a `User-Agent` is remembered, in bytes.
const MAX_USER_AGENT: usize = 256;

/// When predecessors die, and when a session ends that nobody refreshes.
#[derive(Debug, Clone, Copy)]
pub struct RotationPolicy {
    /// The mode.
    pub mode: Rotation,
    /// How long a token lives on after the event that kills it, in milliseconds.
    pub grace: UnixMillis,
    /// How long a session lives without being refreshed, in milliseconds; `None` is as long as its absolute lifetime.
    pub idle_ttl: Option<UnixMillis>,
}

/// Whom a session was opened or last refreshed by, for people who look at their sessions. It decides nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientInfo {
    /// The address, as far as trusted proxies tell.
    pub address: Option<IpAddr>,
    /// What `User-Agent` said, cut to 256 bytes.
    pub user_agent: Option<String>,
}

impl ClientInfo {
    /// A client at `address` that calls itself `user_agent`.
    pub fn new(address: IpAddr, user_agent: Option<&str>) -> ClientInfo {
        let cut = |text: &str| text[..text.floor_char_boundary(MAX_USER_AGENT)].to_owned();
        ClientInfo { address: Some(address), user_agent: user_agent.map(cut) }
    }
}

/// Why a session was ended.
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
    /// It was not refreshed for too long.
    Idle,
    /// An operator, or the user on the page of sessions, ended it.
    Revoked,
    /// The user opened more sessions than one may have.
    TooMany,
}

/// The end of a session before its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revoked {
    /// When.
    pub at: UnixMillis,
    /// Why.
    pub reason: RevocationReason,
}

/// A refresh token of the line.
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
    /// Changes with the user's password.
    pub credential: [u8; 16],
    /// When it was opened.
    pub opened_at: UnixMillis,
    /// Its absolute end; it never moves.
    pub expires_at: UnixMillis,
    /// When it was last refreshed, or up to [`ACTIVITY_RESOLUTION_MILLIS`] before that.
    #[serde(default)]
    active_at: UnixMillis,
    /// Since when the client is known to adopt the tokens it is given: when it first used a successor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    adopted_at: Option<UnixMillis>,
    /// Who opened or last refreshed it.
    #[serde(default)]
    pub client: ClientInfo,
    /// Whether it was ended before.
    pub revoked: Option<Revoked>,
    /// The living tokens of the line, oldest first. A token of this session that is not here is dead.
    links: Vec<RefreshTokenRecord>,
}

/// What a presented refresh token is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RefreshDecision {
    /// It is good, and this is its successor.
    Rotated {
        successor: TokenId,
        issued_at: UnixMillis,
        /// Whether the successor was issued at an earlier presentation. Where the line is full, it is the presented
        /// token itself.
        repeated: bool,
    },
    /// It is good and stays the only one.
    Kept,
    /// It is dead; the session has been revoked for it.
    Reused,
    Revoked,
    /// It was not refreshed for too long; the session has been ended for it.
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
        let (adopted_at, client, revoked) = (None, ClientInfo::default(), None);
        Session {
            subject,
            username,
            credential,
            opened_at,
            expires_at,
            active_at,
            adopted_at,
            client,
            revoked,
            links,
        }
    }

    /// Ends the session; the first reason stays. Tells whether that was a change.
    pub(super) fn revoke(&mut self, reason: RevocationReason, now: UnixMillis) -> bool {
        let change = self.revoked.is_none();
        self.revoked.get_or_insert(Revoked { at: now, reason });
        change
    }

    /// Judges a token that is presented now, and remembers that it was. `fresh` becomes the successor if there is
    /// none yet; the caller chose it beforehand, so that asking twice is no different from asking once.
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
        self.links[place].first_presented.get_or_insert(now);
        if place > 0 {
            self.adopted_at.get_or_insert(now);
        }
        if newest {
            self.links.push(RefreshTokenRecord { id: fresh, issued_at: now, first_presented: None });
            // Costs nothing, for the record changes anyway: a policy that begins to look at it finds it.
            self.active_at = self.active_at.max(now);
        }
        let RefreshTokenRecord { id: successor, issued_at, .. } = self.links[place + 1];
        RefreshDecision::Rotated { successor, issued_at, repeated: !newest }
    }

    /// Whether it would still be refreshed at `now`, by the record alone.
    pub(super) fn is_live(&self, policy: RotationPolicy, now: UnixMillis) -> bool {
        self.revoked.is_none() && now < self.expires_at && !self.is_idle(policy, now)
    }

    /// When it was last refreshed, as far as is remembered.
    pub(super) fn last_refreshed_at(&self) -> UnixMillis {
        self.active_at.max(self.opened_at)
    }

    /// Brings times that lie ahead back to `now`: they were written by a clock that was wrong, and must not keep old
    /// tokens alive or make the session longer than it was to be.
    fn clamp_to(&mut self, now: UnixMillis) {
        let ahead = self.opened_at.saturating_sub(now);
        if ahead > MAX_CLOCK_SKEW_MILLIS {
            self.opened_at -= ahead;
            self.expires_at = self.expires_at.saturating_sub(ahead);
        }
        let latest = now.saturating_add(MAX_CLOCK_SKEW_MILLIS);
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
        let end = policy
            .idle_ttl
            .map(|ttl| active_at.saturating_add(ttl).saturating_add(ACTIVITY_RESOLUTION_MILLIS));
        end.is_some_and(|end| now >= end)
    }

    fn stay_active(&mut self, policy: RotationPolicy, now: UnixMillis) {
        let step =
            if policy.idle_ttl.is_some() { ACTIVITY_RESOLUTION_MILLIS } else { DISPLAY_RESOLUTION_MILLIS };
        if now >= self.active_at.saturating_add(step) {
            self.active_at = now;
        }
    }

    /// A token dies `grace` after the event that kills it: its own first use where the mode is strict, and in `on-use` that
    /// use or the first of any successor, whichever is later. So a client that never adopts a successor keeps its first
    /// token, and once it has adopted one, the mode notices what `strict` does: thief and owner cannot both go on by
    /// refreshing in turn.
    fn is_dead(&self, place: usize, policy: RotationPolicy, now: UnixMillis) -> bool {
        let used_at = self.links[place].first_presented;
        let killed_at = match policy.mode {
            Rotation::OnUse => used_at.zip(self.adopted_at).map(|(used, adopted)| used.max(adopted)),
            Rotation::Strict => used_at,
            Rotation::Off => None,
        };
        killed_at.is_some_and(|at| now >= at.saturating_add(policy.grace))
    }

    /// Tokens die in the order of the line, also where clocks disagree: none dies before the one that leads to it, so
    /// that nobody is given a dead successor.
    fn prune_expired(&mut self, policy: RotationPolicy, now: UnixMillis) {
        let dead = (0..self.links.len()).take_while(|&place| self.is_dead(place, policy, now)).count();
        self.links.drain(..dead);
    }
}
