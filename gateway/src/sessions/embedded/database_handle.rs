//! The handle of the open database, which is closed and reopened after a failure.
//!
//! After a failed change the state on disk is unknown, and going on could lose acknowledged changes. So the
//! database is closed, all operations fail, and reopening the file, with all its checks, establishes its
//! state. Once the cause is gone, such as a full disk, reopening succeeds and the store works again.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{PoisonError, RwLock};

use redb::Database;

use super::disk::Watch;
use super::state_file;
use crate::sessions::store::StoreError;

pub(super) struct DatabaseHandle {
    state: RwLock<State>,
    /// `None` where the database is not a file.
    watch: Option<Watch>,
}

enum State {
    Open(Box<Database>),
    Failed(String),
}

impl DatabaseHandle {
    pub(super) fn new(database: Database, watch: Option<Watch>) -> DatabaseHandle {
        DatabaseHandle { state: RwLock::new(State::Open(Box::new(database))), watch }
    }

    /// Runs `work` on the open database. The caller reports failures.
    pub(super) fn with<T>(
        &self,
        work: impl FnOnce(&Database) -> Result<T, redb::Error>,
    ) -> Result<Result<T, redb::Error>, StoreError> {
        match &*self.state.read().unwrap_or_else(PoisonError::into_inner) {
            State::Open(database) => Ok(work(database)),
            State::Failed(reason) => Err(self.refusal(reason)),
        }
    }

    /// Closes the database because a change has failed.
    pub(super) fn mark_failed(&self, reason: String) -> StoreError {
        let refusal = self.refusal(&reason);
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut *state, State::Failed(reason));
        drop(state);
        // redb may panic on damaged data.
        let _ = catch_unwind(AssertUnwindSafe(|| drop(before)));
        refusal
    }

    pub(super) fn is_failed(&self) -> bool {
        matches!(&*self.state.read().unwrap_or_else(PoisonError::into_inner), State::Failed(_))
    }

    /// Reopens the file, if that can establish its state. Returns whether it is open now.
    pub(super) fn reopen(&self) -> bool {
        let Some(watch) = self.watch.as_ref().filter(|watch| watch.may_reopen()) else { return false };
        // Also before opening, so that a file which has replaced it is left alone.
        let opened = match watch.still_there() {
            Ok(()) => state_file::open(watch.path(), Some(watch)),
            Err(error) => Err(state_file::OpenError::inaccessible(watch.path(), &error)),
        };
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        *state = match opened {
            Ok((database, _)) => State::Open(Box::new(database)),
            Err(error) => State::Failed(error.to_string()),
        };
        matches!(*state, State::Open(_))
    }

    fn refusal(&self, reason: &str) -> StoreError {
        let outlook = match &self.watch {
            Some(watch) if watch.may_reopen() => "it is tried again every second",
            _ => "restart when the cause is gone",
        };
        StoreError::Unavailable(format!("{reason}; {outlook}"))
    }
}
