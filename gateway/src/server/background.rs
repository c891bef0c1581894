//! The thread beside the workers: it answers the admin listener, the plain listener beside TLS and the operator's
//! commands, forgets what has expired, and follows the files of the configuration and of the users.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::runtime::Builder;
use tokio::sync::watch;
use tokio::task::{LocalSet, spawn_blocking};
use tokio::time::{MissedTickBehavior, interval};

use super::admin::{self, AdminState};
use super::control::ControlSocket;
use super::redirect;
use super::reload::Reloader;
use super::running::since_1970;
use crate::pipeline::Gateway;
use crate::upstreams::care;
use crate::users::ReloadOutcome;

/// How often files are looked at; a change is in force two looks later at most.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);
/// How often expired records are forgotten.
const SWEEP_INTERVAL: Duration = Duration::from_secs(10);

/// Works until told that the gateway has ended. Once another one has its addresses, that one answers on them.
pub(super) fn run(
    listener: std::net::TcpListener,
    redirect: Option<(std::net::TcpListener, SocketAddr)>,
    control: Option<ControlSocket>,
    watch: Option<Arc<Reloader>>,
    state: AdminState,
    (handed_over, mut end): (watch::Receiver<bool>, watch::Receiver<bool>),
) -> io::Result<()> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, async move {
        let listener = TcpListener::from_std(listener)?;
        let gateway = Arc::clone(&state.gateway);
        let redirect = lead_to_https(redirect, Arc::clone(&gateway), handed_over.clone());
        tokio::select! {
            served = admin::serve(listener, state, handed_over) => served?,
            led = redirect => led?,
            () = take_commands(control, Arc::clone(&gateway)) => {}
            () = sweep(&gateway) => {}
            () = care(|| gateway.configuration.current().upstreams.clone()) => {}
            () = follow_users(&gateway) => {}
            () = follow_configuration(watch) => {}
            // An error means that nobody is left to tell, which is the end as well.
            _ = end.wait_for(|ended| *ended) => {}
        }
        Ok(())
    })
}

/// Serves the plain listener, where there is one; the address is that of the listener with TLS.
async fn lead_to_https(
    listener: Option<(std::net::TcpListener, SocketAddr)>,
    gateway: Arc<Gateway>,
    handed_over: watch::Receiver<bool>,
) -> io::Result<()> {
    match listener {
        Some((listener, secure)) => {
            redirect::serve(TcpListener::from_std(listener)?, gateway, secure, handed_over).await
        }
        None => std::future::pending().await,
    }
}

/// Follows the users files.
async fn follow_users(gateway: &Gateway) {
    let mut ticks = interval(LOOK_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let users = Arc::clone(&gateway.configuration.current().users);
        match spawn_blocking(move || users.poll_changes()).await {
            Ok(outcome) => log_users_reload(&outcome),
            Err(error) => tracing::error!(%error, "the users file could not be polled"),
        }
    }
}

/// Follows the files of the configuration, if it is to be followed.
async fn follow_configuration(watch: Option<Arc<Reloader>>) {
    let Some(reloader) = watch else { return std::future::pending().await };
    let mut ticks = interval(LOOK_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let reloader = Arc::clone(&reloader);
        if let Err(error) = spawn_blocking(move || reloader.look()).await {
            tracing::error!(%error, "the configuration could not be looked at");
        }
    }
}

/// Tells what became of the users file, as it is told at the start.
pub(super) fn log_users_reload(outcomes: &[ReloadOutcome]) {
    outcomes.iter().for_each(log_reload);
}

fn log_reload(outcome: &ReloadOutcome) {
    match outcome {
        ReloadOutcome::Unchanged => {}
        ReloadOutcome::Loaded { users, warnings } => {
            tracing::info!(users, "the users file was read again");
            warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
        }
        ReloadOutcome::Rejected(errors) => {
            tracing::error!("the users file cannot be used; the users that were read before stay in force");
            errors.0.iter().for_each(|error| tracing::error!("{error}"));
        }
    }
}

/// Does what the operator's commands ask for.
async fn take_commands(socket: Option<ControlSocket>, gateway: Arc<Gateway>) {
    if let Some(socket) = socket
        && let Err(error) = socket.serve(gateway).await
    {
        tracing::error!(%error, "the socket for commands has failed: `users unlock` will not reach this gateway");
    }
    std::future::pending().await
}

async fn sweep(gateway: &Gateway) {
    let mut ticks = interval(SWEEP_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        match gateway.sessions.sweep(since_1970().as_millis() as u64).await {
            Ok(0) => {}
            Ok(forgotten) => tracing::debug!(forgotten, "expired records were forgotten"),
            Err(error) => tracing::warn!(%error, "expired records could not be forgotten"),
        }
    }
}
