//! The thread beside the workers: it answers the admin listener and the operator's commands, and forgets what has expired.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::runtime::Builder;
use tokio::sync::watch;
use tokio::task::LocalSet;
use tokio::time::{MissedTickBehavior, interval};

use super::admin::{self, AdminState};
use super::control::ControlSocket;
use super::running::since_1970;
use crate::pipeline::Gateway;

/// How often expired records are forgotten.
const SWEEP_INTERVAL: Duration = Duration::from_secs(10);

/// Works until told that the gateway has ended.
pub(super) fn run(
    listener: std::net::TcpListener,
    control: Option<ControlSocket>,
    state: AdminState,
    mut end: watch::Receiver<bool>,
) -> io::Result<()> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, async move {
        let listener = TcpListener::from_std(listener)?;
        let gateway = Arc::clone(&state.gateway);
        tokio::select! {
            () = admin::serve(listener, state) => {}
            () = take_commands(control, Arc::clone(&gateway)) => {}
            () = sweep(&gateway) => {}
            // An error means that nobody is left to tell, which is the end as well.
            _ = end.wait_for(|ended| *ended) => {}
        }
        Ok(())
    })
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
