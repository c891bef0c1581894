//! Notifications of PostgreSQL about users who have changed (LISTEN/NOTIFY), in place of polling a version.
//!
//! What changed while the connection was down was not announced: after each connect, all users count as changed.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sqlx::postgres::PgListener;
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

/// How long a connection may be silent before it is tested.
const HEARTBEAT: Duration = Duration::from_secs(10);
/// Delay before another connection attempt.
const RETRY_DELAY: Duration = Duration::from_secs(1);
/// More users than this are not kept one by one.
const MAX_USERS: usize = 1000;

/// Users who have changed, as far as they are known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Changed {
    /// These, by their ids.
    Users(BTreeSet<String>),
    /// Any of them.
    Any,
}

impl Default for Changed {
    fn default() -> Changed {
        Changed::Users(BTreeSet::new())
    }
}

impl Changed {
    /// Adds what a notification announces: the user of the id that is its payload, or any where that is empty.
    fn add(&mut self, payload: &str) {
        match self {
            Changed::Users(ids)
                if !payload.is_empty() && (ids.len() < MAX_USERS || ids.contains(payload)) =>
            {
                ids.insert(payload.to_owned());
            }
            _ => *self = Changed::Any,
        }
    }

    fn merge(&mut self, other: Changed) {
        match other {
            Changed::Any => *self = Changed::Any,
            Changed::Users(ids) => ids.iter().for_each(|id| self.add(id)),
        }
    }

    fn is_empty(&self) -> bool {
        matches!(self, Changed::Users(ids) if ids.is_empty())
    }
}

/// Listens on a channel of a database.
#[derive(Debug)]
pub(super) struct SqlListener {
    source: String,
    url: String,
    channel: String,
    time_limit: Duration,
    is_started: AtomicBool,
    is_listening: AtomicBool,
    changed: Mutex<Changed>,
}

impl SqlListener {
    pub(super) fn new(source: &str, url: &str, channel: &str, time_limit: Duration) -> SqlListener {
        SqlListener {
            source: source.to_owned(),
            url: url.to_owned(),
            channel: channel.to_owned(),
            time_limit,
            is_started: AtomicBool::new(false),
            is_listening: AtomicBool::new(false),
            changed: Mutex::new(Changed::default()),
        }
    }

    /// Whether changes are announced at present.
    pub(super) fn is_listening(&self) -> bool {
        self.is_listening.load(Ordering::Acquire)
    }

    /// Whether the caller is the first to start it.
    pub(super) fn starts(&self) -> bool {
        !self.is_started.swap(true, Ordering::AcqRel)
    }

    /// What has changed since the last call, if anything.
    pub(super) fn take(&self) -> Option<Changed> {
        let mut changed = self.changed.lock().unwrap_or_else(PoisonError::into_inner);
        (!changed.is_empty()).then(|| std::mem::take(&mut *changed))
    }

    /// Adds changes, to be taken later.
    pub(super) fn add(&self, more: Changed) {
        self.changed.lock().unwrap_or_else(PoisonError::into_inner).merge(more);
    }

    /// Listens for good, and connects again after a while where the connection is lost. `wake` is notified of each change.
    pub(super) async fn run(self: Arc<Self>, wake: Arc<Notify>) {
        let mut is_reported = false;
        loop {
            let Err(error) = self.listen(&wake, &mut is_reported).await;
            self.is_listening.store(false, Ordering::Release);
            if !is_reported {
                tracing::warn!(
                    source = self.source,
                    error,
                    "changes of users are not announced any more; they are noticed by the version where one is configured, or at the next refresh"
                );
            }
            is_reported = true;
            sleep(RETRY_DELAY).await;
        }
    }

    /// Listens until the connection is lost. Returns why.
    async fn listen(&self, wake: &Notify, is_reported: &mut bool) -> Result<Infallible, String> {
        let late = |_| format!("no answer within {}", humantime::format_duration(self.time_limit));
        let connect = async {
            let mut listener = PgListener::connect(&self.url).await?;
            listener.eager_reconnect(false);
            listener.listen(&self.channel).await?;
            Ok(listener)
        };
        let connected: Result<PgListener, sqlx::Error> =
            timeout(self.time_limit, connect).await.map_err(late)?;
        let mut listener = connected.map_err(|error| error.to_string())?;
        self.add(Changed::Any);
        self.is_listening.store(true, Ordering::Release);
        if std::mem::take(is_reported) {
            tracing::info!(source = self.source, "changes of users are announced again");
        }
        wake.notify_one();
        loop {
            match timeout(HEARTBEAT, listener.try_recv()).await {
                Ok(Ok(Some(notification))) => {
                    self.changed.lock().unwrap_or_else(PoisonError::into_inner).add(notification.payload());
                    wake.notify_one();
                }
                Ok(Ok(None)) => return Err("the connection was lost".to_owned()),
                Ok(Err(error)) => return Err(error.to_string()),
                Err(_) => {
                    let answer = timeout(self.time_limit, sqlx::query("SELECT 1").execute(&mut listener));
                    answer.await.map_err(late)?.map_err(|error| error.to_string())?;
                }
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn users(ids: &[&str]) -> Changed {
        Changed::Users(ids.iter().map(|&id| id.to_owned()).collect())
    }

    #[test]
    fn notifications_name_a_user_or_none() {
        for (payloads, expected) in [
            (&["1"][..], users(&["1"])),
            (&["1", "2", "1"], users(&["1", "2"])),
            (&["1", ""], Changed::Any),
            (&["", "1"], Changed::Any),
            (&[], Changed::default()),
        ] {
            let mut changed = Changed::default();
            payloads.iter().for_each(|payload| changed.add(payload));
            assert_eq!(changed, expected, "{payloads:?}");
        }
    }

    #[test]
    fn many_users_are_any_user() {
        let mut changed = Changed::default();
        (0..MAX_USERS).for_each(|id| changed.add(&id.to_string()));
        changed.add("0");
        assert!(matches!(&changed, Changed::Users(ids) if ids.len() == MAX_USERS));
        changed.add("one more");
        assert_eq!(changed, Changed::Any);
    }

    #[test]
    fn changes_are_taken_once_and_what_was_not_acted_on_is_kept() {
        let listener = SqlListener::new("db", "postgres://", "users", Duration::from_secs(1));
        assert_eq!(listener.take(), None);
        listener.add(users(&["1"]));
        let taken = listener.take().unwrap();
        assert_eq!((&taken, listener.take()), (&users(&["1"]), None));
        listener.add(users(&["2"]));
        listener.add(taken);
        assert_eq!(listener.take(), Some(users(&["1", "2"])));
        assert!(listener.starts() && !listener.starts());
    }
}
