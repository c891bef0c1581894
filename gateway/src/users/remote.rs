//! Access to a source on another server: a runtime and thread of its own, a timeout, and the last error.
//!
//! Connections belong to this runtime, not to the worker that first used them: they outlive it, and no worker
//! waits for the work of another.

use std::fmt::Display;
use std::future::Future;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;

/// A source of users is unavailable, so nothing is known of a user: never a reason for a 401.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the users of {source_name} cannot be asked for: {reason}")]
pub struct SourceUnavailable {
    /// The source.
    pub source_name: String,
    /// The error.
    pub reason: String,
}

/// A source on another server.
#[derive(Debug)]
pub(super) struct Remote {
    name: String,
    time_limit: Duration,
    /// `None` only during drop.
    runtime: Option<Runtime>,
    last_error: Arc<Mutex<Option<String>>>,
}

impl Remote {
    /// Starts a thread for the source of that name.
    pub(super) fn new(name: &str, time_limit: Duration) -> io::Result<Remote> {
        let runtime =
            Builder::new_multi_thread().worker_threads(1).thread_name("users").enable_all().build()?;
        Ok(Remote { name: name.to_owned(), time_limit, runtime: Some(runtime), last_error: Arc::default() })
    }

    /// The result of `work`, within the timeout.
    pub(super) async fn submit<T, E>(
        &self,
        work: impl Future<Output = Result<T, E>> + Send + 'static,
    ) -> Result<T, SourceUnavailable>
    where
        T: Send + 'static,
        E: Display,
    {
        let (limit, source, last_error) = (self.time_limit, self.name.clone(), Arc::clone(&self.last_error));
        let work = async move {
            let outcome = match timeout(limit, work).await {
                Ok(outcome) => outcome.map_err(|error| error.to_string()),
                Err(_) => Err(format!("no answer within {}", humantime::format_duration(limit))),
            };
            // Here, for whoever waits may have given up.
            record(&source, &last_error, outcome.as_ref().err());
            outcome
        };
        let outcome = match &self.runtime {
            Some(runtime) => runtime.spawn(work).await.unwrap_or_else(|error| Err(error.to_string())),
            None => Err("it is being closed".to_owned()),
        };
        outcome.map_err(|reason| SourceUnavailable { source_name: self.name.clone(), reason })
    }

    /// Runs `work` until this is dropped.
    pub(super) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        if let Some(runtime) = &self.runtime {
            runtime.spawn(work);
        }
    }

    /// The last error, if the last operation failed.
    pub(super) fn last_error(&self) -> Option<String> {
        let error = self.last_error.lock().unwrap_or_else(PoisonError::into_inner).clone();
        error.map(|error| format!("{}: {error}", self.name))
    }
}

/// Keeps the outcome of an operation, and logs where it differs from the one before.
fn record(source: &str, last_error: &Mutex<Option<String>>, error: Option<&String>) {
    let mut last_error = last_error.lock().unwrap_or_else(PoisonError::into_inner);
    match (error, last_error.is_some()) {
        (None, true) => tracing::info!(source, "the source of users responds again"),
        (Some(reason), false) => {
            tracing::error!(source, %reason, "the source of users does not respond: its logins and refreshes get 503");
        }
        _ => {}
    }
    *last_error = error.cloned();
}

impl Drop for Remote {
    fn drop(&mut self) {
        // A plain drop would block on its thread, which no runtime allows inside another.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
