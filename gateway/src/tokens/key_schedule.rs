//! The rules by which managed keys come and go, without I/O and without a clock: what has to be done next.

use super::UnixSeconds;
use super::key_record::KeyRole;
use super::key_store::{KeyState, StoredKey};
use crate::config::Algorithm;
use std::time::Duration;

/// How long the private half of a retired key is kept after it stopped signing, in seconds: instances whose clocks are behind
/// may still want it.
const PRIVATE_HALF_KEPT: Duration = Duration::from_secs(60);

/// When keys are rotated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Schedule {
    /// How long a key signs.
    pub every: Duration,
    /// How long it is published before.
    pub publish_before: Duration,
}

/// What has to be done to the keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Generate the next key, which is published and does not sign yet.
    Publish,
    /// Let the next key sign, and retire the one that did.
    Rotate,
    /// Remove a key whose tokens have all expired.
    Drop(String),
    /// Remove the private half of a key that signs no more.
    RemovePrivateHalf(String),
}

/// The keys in question, and how they are to be kept.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// The algorithm that signs.
    pub algorithm: Algorithm,
    /// `None` where an operator rotates.
    pub schedule: Option<Schedule>,
    /// How long after its issue a token may be accepted.
    pub lifetime: Duration,
}

/// The next step, if there is one at `now`; `keys` are all keys, oldest first, and `has_private` is whether the file of one has its private half.
pub(super) fn next_step(
    keys: &[StoredKey],
    rules: &Rules,
    now: UnixSeconds,
    has_private: impl Fn(&StoredKey) -> bool,
) -> Option<Step> {
    rotation(keys, rules, now).or_else(|| {
        let retired = |key: &StoredKey| match key.role(rules.lifetime) {
            KeyRole::Previous { stopped_at, until, .. } => Some((stopped_at, until)),
            KeyRole::Next | KeyRole::Signing { .. } => None,
        };
        let expired = keys.iter().find(|key| retired(key).is_some_and(|(_, until)| until <= now));
        let expired = expired.map(|key| Step::Drop(key.kid.clone()));
        expired.or_else(|| {
            let is_over = |key: &&StoredKey| {
                retired(key)
                    .is_some_and(|(stopped_at, _)| stopped_at.saturating_add(PRIVATE_HALF_KEPT) <= now)
            };
            let key = keys.iter().filter(is_over).find(|key| has_private(key))?;
            Some(Step::RemovePrivateHalf(key.kid.clone()))
        })
    })
}

/// A key is published in time, and signs when the other has signed for long enough and it has been published for long enough.
fn rotation(keys: &[StoredKey], rules: &Rules, now: UnixSeconds) -> Option<Step> {
    let schedule = rules.schedule?;
    let ours = || keys.iter().filter(|key| key.algorithm == rules.algorithm);
    let signing = ours().rfind(|key| key.state == KeyState::Signing)?;
    let KeyRole::Signing { from } = signing.role(rules.lifetime) else { return None };
    let due = from.saturating_add(schedule.every);
    match ours().rfind(|key| key.state == KeyState::Next) {
        None => (now >= due.saturating_sub(schedule.publish_before)).then_some(Step::Publish),
        Some(next) => {
            let is_known = now >= next.created_at.saturating_add(schedule.publish_before);
            (now >= due && is_known).then_some(Step::Rotate)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 3600;
    const DAY: u64 = 24 * HOUR;
    const START: u64 = 1_800_000_000;

    fn key(kid: &str, created_at: u64, state: KeyState) -> StoredKey {
        let signs_since = (state != KeyState::Next).then_some(created_at);
        StoredKey {
            kid: kid.into(),
            algorithm: Algorithm::EdDSA,
            created_at: UnixSeconds::new(created_at),
            signs_since: signs_since.map(UnixSeconds::new),
            state,
        }
    }

    fn rules(schedule: Option<Schedule>) -> Rules {
        Rules { algorithm: Algorithm::EdDSA, schedule, lifetime: Duration::from_secs(600) }
    }

    const MONTHLY: Option<Schedule> =
        Some(Schedule { every: Duration::from_secs(30 * DAY), publish_before: Duration::from_secs(HOUR) });

    #[test]
    fn a_key_is_published_before_it_signs_and_signs_when_it_is_due_and_known() {
        let signing = key("a", START, KeyState::Signing);
        let next = |created_at| key("b", created_at, KeyState::Next);
        let due = START + 30 * DAY;
        for (keys, now, step) in [
            (vec![signing.clone()], due - HOUR - 1, None),
            (vec![signing.clone()], due - HOUR, Some(Step::Publish)),
            // The gateway was off in between.
            (vec![signing.clone()], due + 5 * DAY, Some(Step::Publish)),
            (vec![signing.clone(), next(due - HOUR)], due - 1, None),
            (vec![signing.clone(), next(due - HOUR)], due, Some(Step::Rotate)),
            (vec![signing.clone(), next(due + 5 * DAY)], due + 5 * DAY + HOUR - 1, None),
            (vec![signing.clone(), next(due + 5 * DAY)], due + 5 * DAY + HOUR, Some(Step::Rotate)),
            // Published by an operator long before.
            (vec![signing.clone(), next(START)], due - 1, None),
            (vec![signing.clone(), next(START)], due, Some(Step::Rotate)),
            (vec![], due, None),
        ] {
            assert_eq!(
                next_step(&keys, &rules(MONTHLY), UnixSeconds::new(now), |_| true),
                step,
                "{keys:?} at {now}"
            );
            let by_hand = next_step(&keys, &rules(None), UnixSeconds::new(now), |_| true);
            assert_eq!(by_hand, None, "without a schedule an operator rotates");
        }
    }

    #[test]
    fn a_retired_key_loses_its_private_half_and_goes_after_its_last_token() {
        let keys = [
            key("a", START - DAY, KeyState::Retired { at: UnixSeconds::new(START) }),
            key("b", START - DAY, KeyState::Signing),
        ];
        let stopped = START + 10;
        for (now, private, step) in [
            (stopped + 59, true, None),
            (stopped + 60, true, Some(Step::RemovePrivateHalf("a".into()))),
            (stopped + 60, false, None),
            (stopped + 599, false, None),
            (stopped + 600, false, Some(Step::Drop("a".into()))),
            (stopped + 600, true, Some(Step::Drop("a".into()))),
        ] {
            let has_private = |key: &StoredKey| private || key.kid == "b";
            assert_eq!(
                next_step(&keys, &rules(MONTHLY), UnixSeconds::new(now), has_private),
                step,
                "{now} {private}"
            );
        }
    }

    /// Many instances with one folder: whoever looks first acts, and the others find it done.
    #[test]
    fn years_of_scheduled_rotation_keep_one_signing_key_that_was_published_in_time() {
        let schedule =
            Schedule { every: Duration::from_secs(30 * DAY), publish_before: Duration::from_secs(HOUR) };
        let mut keys = vec![key("0", START, KeyState::Signing)];
        let mut rotations = 0;
        for now in (START..START + 720 * DAY).step_by(600) {
            while let Some(step) = next_step(&keys, &rules(Some(schedule)), UnixSeconds::new(now), |_| false)
            {
                match step {
                    Step::Publish => keys.push(key(&now.to_string(), now, KeyState::Next)),
                    Step::Rotate => {
                        for key in &mut keys {
                            key.state = match key.state {
                                KeyState::Signing => KeyState::Retired { at: UnixSeconds::new(now) },
                                KeyState::Next => {
                                    assert!(now >= key.created_at.get() + HOUR);
                                    key.signs_since = Some(UnixSeconds::new(now));
                                    KeyState::Signing
                                }
                                retired => retired,
                            };
                        }
                        rotations += 1;
                    }
                    Step::Drop(kid) => keys.retain(|key| key.kid != kid),
                    Step::RemovePrivateHalf(_) => {}
                }
            }
            assert_eq!(keys.iter().filter(|key| key.state == KeyState::Signing).count(), 1);
            assert!(keys.len() <= 3, "{keys:?}");
        }
        assert_eq!(rotations, 23, "in 24 months");
    }
}
