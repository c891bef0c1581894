//! Background tasks on a thread of their own: the admin listener, the HTTPS redirect listener, the control
//! socket, health checks, the sweep of expired records, and hot reload of configuration and users files.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use tokio::net::TcpListener;
use tokio::runtime::{Builder, Handle};
use tokio::sync::watch;
use tokio::task::{LocalSet, spawn_blocking};
use tokio::time::{Interval, MissedTickBehavior, interval, sleep, timeout};

use crate::clock::{UnixMillis, now_millis, wall_clock_offset};
use crate::config::Store;
use crate::issuers;
use crate::runtime::Gateway;
use crate::server::admin;
use crate::server::admin::AdminState;
use crate::server::control::ControlSocket;
use crate::server::https_redirect;
use crate::server::reload::Reloader;
use crate::sessions::{Account, StoreError};
use crate::telemetry::AuditEvent;
use crate::upstream::run_background_tasks;
use crate::users::{Changed, FileAccounts, ReloadOutcome, UserSources};

/// Poll interval of watched files; a change takes effect after at most two polls.
const FILE_POLL_INTERVAL: Duration = Duration::from_millis(500);
/// Shortest interval of counting sessions.
const CENSUS_INTERVAL: Duration = Duration::from_secs(5);
/// Interval of the sweep of expired records.
const SWEEP_INTERVAL: Duration = Duration::from_secs(10);

/// Runs until shutdown. After a takeover the new process serves the admin and redirect listeners.
pub(crate) fn run(
    listener: std::net::TcpListener,
    redirect: Option<(std::net::TcpListener, SocketAddr)>,
    control: Option<ControlSocket>,
    reloader: Arc<Reloader>,
    state: AdminState,
    (taken_over, mut end): (watch::Receiver<bool>, watch::Receiver<bool>),
) -> io::Result<()> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, async move {
        let listener = TcpListener::from_std(listener)?;
        let gateway = Arc::clone(&state.gateway);
        let redirect = serve_https_redirect(redirect, Arc::clone(&gateway), taken_over.clone());
        tokio::select! {
            served = admin::serve(listener, state, taken_over) => served?,
            redirected = redirect => redirected?,
            () = serve_control_socket(control, Arc::clone(&gateway)) => {}
            () = sweep(&gateway) => {}
            () = count_sessions(&gateway) => {}
            () = run_background_tasks(|| gateway.configuration.current().upstreams.clone()) => {}
            () = issuers::run_background_tasks(|| Arc::clone(&gateway.configuration.current().issuers)) => {}
            () = watch_users(&gateway) => {}
            () = watch_databases(&gateway) => {}
            () = watch_configuration(Arc::clone(&reloader), &gateway) => {}
            () = maintain_keys(reloader, &gateway) => {}
            // An error means that the sender was dropped: shutdown as well.
            _ = end.wait_for(|ended| *ended) => {}
        }
        Ok(())
    })
}

/// Serves the HTTPS redirect listener, if there is one; the address is that of the TLS listener.
async fn serve_https_redirect(
    listener: Option<(std::net::TcpListener, SocketAddr)>,
    gateway: Arc<Gateway>,
    taken_over: watch::Receiver<bool>,
) -> io::Result<()> {
    match listener {
        Some((listener, secure)) => {
            https_redirect::serve(TcpListener::from_std(listener)?, gateway, secure, taken_over).await
        }
        None => std::future::pending().await,
    }
}

/// Ticks now and once in each period; a late tick delays those that follow.
fn ticks(period: Duration) -> Interval {
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

/// Watches the users files, and ends the sessions of users who were disabled or deleted or got a new
/// password. Changes in a directory take effect when a session is refreshed.
async fn watch_users(gateway: &Gateway) {
    let mut last = gateway.configuration.current().users.file_accounts();
    let mut changed = BTreeSet::new();
    if !matches!(gateway.configuration.current().settings.store, Store::Redis(_)) {
        // The store is not shared: changes made while this process was down were seen by no process.
        match gateway.sessions.end_all_changed(|id| last.account(id), now_millis()).await {
            Ok(0) => {}
            Ok(sessions) => tracing::info!(sessions, "sessions of users who changed were ended"),
            Err(error) => {
                tracing::warn!(%error, "sessions of users who changed go on until they are refreshed")
            }
        }
    }
    let mut ticks = ticks(FILE_POLL_INTERVAL);
    loop {
        ticks.tick().await;
        let users = Arc::clone(&gateway.configuration.current().users);
        match spawn_blocking(move || users.poll_changes()).await {
            Ok(outcome) => log_users_reload(&outcome),
            Err(error) => tracing::error!(%error, "the users file could not be polled"),
        }
        // Replaced by this poll or by a configuration reload.
        let current = gateway.configuration.current().users.file_accounts();
        for change in last.differences(&current) {
            AuditEvent::new("user", change.outcome, &change.id).write();
        }
        changed.extend(last.changed(&current));
        last = current;
        changed = revoke_changed_users(gateway, &last, changed).await;
    }
}

/// Follows databases, by what they announce and by their versions, and ends the sessions of users who have changed in them.
async fn watch_databases(gateway: &Gateway) {
    let mut last: BTreeMap<String, String> = BTreeMap::new();
    // A version may be as coarse as a second: a source is checked once more after a change.
    let mut again = BTreeSet::new();
    let mut polled = Instant::now();
    loop {
        let users = Arc::clone(&gateway.configuration.current().users);
        users.listen();
        // A reload of the configuration may change what is followed, and how often.
        let interval = users.poll_interval().unwrap_or(FILE_POLL_INTERVAL);
        let _ = timeout(interval.min(FILE_POLL_INTERVAL), users.announced()).await;
        for (source, changed) in users.take_announced() {
            users.record_database_change();
            if let Err(error) = revoke_changed_in(gateway, &users, &source, changed).await {
                log_not_revoked(&source, &error);
                users.retry_announced(&source);
            }
        }
        if polled.elapsed() < interval {
            continue;
        }
        polled = Instant::now();
        for (source, version) in users.versions().await {
            // The first version counts as a change: of what happened while this process was down.
            let is_new = last.get(&source) != Some(&version);
            if !is_new && !again.remove(&source) {
                continue;
            }
            users.record_database_change();
            match revoke_changed_in(gateway, &users, &source, Changed::Any).await {
                Ok(()) if is_new => {
                    again.insert(source.clone());
                    last.insert(source, version);
                }
                Ok(()) => {}
                Err(error) => {
                    log_not_revoked(&source, &error);
                    last.remove(&source);
                }
            }
        }
    }
}

fn log_not_revoked(source: &str, error: &str) {
    tracing::warn!(source, error, "sessions of users who changed could not be ended yet");
}

/// Looks up the users of a source who may have changed, if they have sessions, and ends the sessions of those who have.
async fn revoke_changed_in(
    gateway: &Gateway,
    users: &UserSources,
    source: &str,
    changed: Changed,
) -> Result<(), String> {
    let subjects = match changed {
        Changed::Users(ids) => ids,
        Changed::Any => {
            let (sessions, now) = (&gateway.sessions, now_millis());
            let tokens = match gateway.configuration.current().settings.personal_tokens.enabled {
                true => sessions.list_tokens(None, now).await.map_err(|error| error.to_string())?,
                false => Vec::new(),
            };
            let sessions = sessions.list(None, now).await.map_err(|error| error.to_string())?;
            let subjects = sessions.into_iter().map(|session| session.subject);
            subjects.chain(tokens.into_iter().map(|token| token.subject)).collect()
        }
    };
    for subject in subjects.into_iter().filter(|subject| users.source_of(subject) == Some(source)) {
        let user = users.by_id(&subject).await.map_err(|error| error.to_string())?;
        let account = user.map_or(Account::Gone, |user| user.account());
        match end_changed(gateway, &subject, account).await.map_err(|error| error.to_string())? {
            0 => {}
            sessions => audit_ended("account_changed", &subject, sessions),
        }
    }
    Ok(())
}

/// Ends the sessions of changed users; returns the users whose sessions could not be ended because the store
/// was unavailable.
async fn revoke_changed_users(
    gateway: &Gateway,
    users: &FileAccounts,
    changed: BTreeSet<String>,
) -> BTreeSet<String> {
    let mut left = BTreeSet::new();
    for subject in changed {
        // The source was removed or is not a file: its users are looked up at the next refresh.
        let Some(account) = users.account(&subject) else { continue };
        match end_changed(gateway, &subject, account).await {
            Ok(sessions) => audit_ended("account_changed", &subject, sessions),
            Err(error) => {
                tracing::warn!(%error, "sessions of a user who has changed could not be ended yet");
                left.insert(subject);
            }
        }
    }
    left
}

/// Writes an audit event about sessions that the gateway has ended by itself.
fn audit_ended(event: &'static str, subject: &str, sessions: usize) {
    let event = AuditEvent::new(event, "success", subject);
    AuditEvent { count: Some(sessions as u64), ..event }.write();
}

/// Ends the sessions of a user who has changed and returns how many, and what is under way by password and, where the user is gone,
/// by personal access token. The tokens themselves stay: whether their user may use them is looked up.
async fn end_changed(gateway: &Gateway, subject: &str, account: Account) -> Result<usize, StoreError> {
    let mut ended = gateway.passwords.forget_changed(subject, account);
    if account == Account::Gone && gateway.configuration.current().settings.personal_tokens.enabled {
        let tokens = gateway.sessions.list_tokens(Some(subject), now_millis()).await?;
        ended.extend(tokens.iter().map(|token| token.id));
    }
    gateway.sessions.interrupt(ended, now_millis());
    gateway.sessions.end_changed(subject, account, now_millis()).await
}

/// Watches the configuration files, if `reload.watch` is on.
async fn watch_configuration(reloader: Arc<Reloader>, gateway: &Gateway) {
    if !gateway.configuration.current().settings.reload.watch {
        return std::future::pending().await;
    }
    let mut ticks = ticks(FILE_POLL_INTERVAL);
    loop {
        ticks.tick().await;
        let reloader = Arc::clone(&reloader);
        if let Err(error) = spawn_blocking(move || reloader.poll_changes()).await {
            tracing::error!(%error, "the configuration could not be polled");
        }
    }
}

/// Maintains the keys, and ends the sessions of those that were revoked.
async fn maintain_keys(reloader: Arc<Reloader>, gateway: &Gateway) {
    let mut ticks = ticks(FILE_POLL_INTERVAL);
    loop {
        ticks.tick().await;
        let keeper = Arc::clone(&reloader);
        if let Err(error) = spawn_blocking(move || keeper.maintain_keys()).await {
            tracing::error!(%error, "the keys could not be looked after");
        }
        for time in reloader.take_revoked() {
            let (from, to) = (
                UnixMillis::of_seconds(time.from),
                UnixMillis::of_seconds(time.to.saturating_add(Duration::from_secs(1))),
            );
            match gateway.sessions.end_issued_within(from..to, now_millis()).await {
                Ok(sessions) => audit_ended("key_revoked", &time.key, sessions),
                Err(error) => {
                    tracing::warn!(%error, "the sessions of a revoked key could not be ended yet");
                    reloader.retry_revoked(time);
                }
            }
        }
    }
}

/// Logs the outcome of reloading the users file.
pub(crate) fn log_users_reload(outcomes: &[ReloadOutcome]) {
    outcomes.iter().for_each(log_reload);
}

fn log_reload(outcome: &ReloadOutcome) {
    match outcome {
        ReloadOutcome::Unchanged => {}
        ReloadOutcome::Loaded { users, warnings } => {
            AuditEvent { count: Some(*users as u64), ..AuditEvent::new("reload", "success", "users") }
                .write();
            tracing::info!(users, "the users file was reloaded");
            warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
        }
        ReloadOutcome::Rejected(errors) => {
            AuditEvent::new("reload", "rejected", "users").write();
            tracing::error!("the users file cannot be used; the active users stay");
            errors.0.iter().for_each(|error| tracing::error!("{error}"));
        }
    }
}

/// Serves the operator's commands over the control socket.
async fn serve_control_socket(socket: Option<ControlSocket>, gateway: Arc<Gateway>) {
    if let Some(socket) = socket
        && let Err(error) = socket.serve(gateway).await
    {
        tracing::error!(%error, "the socket for commands has failed: `users unlock` will not reach this gateway");
    }
    std::future::pending().await
}

/// Counts sessions and locks now and then, in a store that belongs to this process.
async fn count_sessions(gateway: &Arc<Gateway>) {
    if matches!(gateway.configuration.current().settings.store, Store::Redis(_)) {
        return std::future::pending().await;
    }
    loop {
        let (counted, started) = (Arc::clone(gateway), Instant::now());
        let handle = Handle::current();
        // On a thread of its own: with many sessions it takes a while.
        let census = spawn_blocking(move || handle.block_on(counted.sessions.census(now_millis()))).await;
        let census = census.ok().and_then(Result::ok);
        *gateway.census.lock().unwrap_or_else(PoisonError::into_inner) = census;
        // A hundredth of one core at most.
        sleep(CENSUS_INTERVAL.max(started.elapsed() * 100)).await;
    }
}

async fn sweep(gateway: &Gateway) {
    let mut ticks = ticks(SWEEP_INTERVAL);
    let mut logged_offset = None;
    loop {
        ticks.tick().await;
        let offset = wall_clock_offset();
        if let Some((seconds, is_ahead)) = offset.filter(|_| offset != logged_offset) {
            let direction = if is_ahead { "forward" } else { "back" };
            tracing::warn!(
                seconds,
                "the system clock was set {direction}; sessions, locks and tokens go on by the time of this gateway's start \
                 until it is restarted"
            );
        }
        logged_offset = offset;
        match gateway.sessions.sweep(now_millis()).await {
            Ok(0) => {}
            Ok(forgotten) => tracing::debug!(forgotten, "expired records were evicted"),
            Err(error) => tracing::warn!(%error, "expired records could not be evicted"),
        }
    }
}
