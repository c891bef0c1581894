//! `auth-gateway serve`: run until told to stop.

use std::io;
use std::path::PathBuf;

use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};

use super::{CommandError, load};
use crate::server::{ServeError, start};
use crate::telemetry;

/// Runs the gateway until SIGTERM or SIGINT.
pub(super) fn run(files: &[PathBuf]) -> Result<(), CommandError> {
    let settings = load(files)?.settings;
    let logs = telemetry::init(&settings.log).map_err(CommandError::configuration)?;
    // Caught from here on, so that a signal during the start is not lost.
    let runtime = Builder::new_current_thread().enable_all().build().map_err(CommandError::failed)?;
    let mut signals = runtime.block_on(async { Signals::catch() }).map_err(CommandError::failed)?;
    let running = start(settings, &logs).map_err(|error| match error {
        ServeError::Snapshot(_) => CommandError::configuration(error),
        _ => CommandError::failed(error),
    })?;
    tracing::info!(address = %running.public_address, admin = %running.admin_address, "listening");
    let name = runtime.block_on(signals.next());
    tracing::info!(signal = name, "stopping: requests in flight may finish");
    std::thread::spawn(move || {
        runtime.block_on(signals.next());
        // Who asks twice does not want to wait.
        std::process::exit(1);
    });
    running.stop().map_err(CommandError::failed)?;
    tracing::info!("stopped");
    drop(logs);
    Ok(())
}

struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl Signals {
    fn catch() -> io::Result<Signals> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}
