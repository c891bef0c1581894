//! `auth-gateway serve`: runs the gateway until it is signalled to stop.

use std::io;
use std::path::PathBuf;

use sd_notify::NotifyState;
use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};

use super::{CommandError, environment, warn};
use crate::config::Source;
use crate::server::{ActivatedSockets, OldProcess, ServeError, start};
use crate::telemetry::{self, AuditEvent};

/// The options of `serve`.
#[derive(Debug, Default, clap::Args)]
pub(super) struct ServeArguments {
    /// Take over from the running gateway with this process id (hot restart): listen on its addresses beside
    /// it, and have it drain and exit when this one is ready
    #[arg(long, value_name = "PID")]
    take_over: Option<i32>,
}

/// Runs the gateway until SIGTERM or SIGINT, or until another one takes over (SIGQUIT); SIGHUP reloads the
/// configuration and all files it names.
pub(super) fn run(arguments: &ServeArguments, files: &[PathBuf]) -> Result<(), CommandError> {
    let old_process = arguments.take_over.map(OldProcess::find).transpose().map_err(CommandError::failed)?;
    let takes_over = old_process.is_some();
    let sockets = ActivatedSockets::take().map_err(CommandError::failed)?;
    let source = Source::new(files, environment());
    let (loaded, seen) =
        source.read().map_err(|errors| CommandError::Configuration(format!("{errors:#}")))?;
    warn(&loaded.warnings);
    let logs =
        telemetry::init(&loaded.settings.log, &loaded.settings.audit).map_err(CommandError::configuration)?;
    telemetry::log_panics();
    // Installed here, so that a signal during the start is not lost.
    let runtime = Builder::new_current_thread().enable_all().build().map_err(CommandError::failed)?;
    let mut signals = runtime.block_on(async { Signals::catch() }).map_err(CommandError::failed)?;
    let running = start(source.clone(), loaded, seen, sockets, old_process, &logs).map_err(|error| {
        let text = match error.key() {
            Some(key) => format!("{:#}", source.error_of_key(key, &error.to_string())),
            None => format!("error: {error}"),
        };
        match error {
            ServeError::RuntimeConfig(_) => CommandError::Configuration(text),
            _ => CommandError::Failed(text),
        }
    })?;
    tracing::info!(address = %running.public_address, admin = %running.admin_address, "listening");
    let start = AuditEvent::new("start", if takes_over { "took_over" } else { "success" }, "gateway");
    start.write();
    notify(&[NotifyState::Ready]);
    let name = loop {
        match runtime.block_on(signals.next()) {
            SignalRequest::Reload => {
                if let Ok(now) = NotifyState::monotonic_usec_now() {
                    notify(&[NotifyState::Reloading, now]);
                }
                running.reload();
                notify(&[NotifyState::Ready]);
            }
            SignalRequest::Stop(name) => break name,
        }
    };
    tracing::info!(signal = name, "stopping: requests in flight may finish");
    AuditEvent { reason: Some(name), ..AuditEvent::new("stop", "success", "gateway") }.write();
    notify(&[NotifyState::Stopping]);
    std::thread::spawn(move || {
        while let SignalRequest::Reload = runtime.block_on(signals.next()) {}
        // A second signal exits at once.
        std::process::exit(1);
    });
    let stopped = if name == TAKEOVER_SIGNAL { running.stop_after_takeover() } else { running.stop() };
    stopped.map_err(CommandError::failed)?;
    tracing::info!("stopped");
    drop(logs);
    Ok(())
}

/// Notifies the service manager (sd_notify), if there is one.
fn notify(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::debug!(%error, "the service manager could not be notified");
    }
}

/// The signal that a gateway sends to the one it takes over from.
const TAKEOVER_SIGNAL: &str = "SIGQUIT";

/// What a signal requests.
enum SignalRequest {
    Reload,
    /// The signal's name.
    Stop(&'static str),
}

struct Signals {
    hangup: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
    quit: tokio::signal::unix::Signal,
}

impl Signals {
    fn catch() -> io::Result<Signals> {
        Ok(Signals {
            hangup: signal(SignalKind::hangup())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
        })
    }

    async fn next(&mut self) -> SignalRequest {
        tokio::select! {
            _ = self.hangup.recv() => SignalRequest::Reload,
            _ = self.terminate.recv() => SignalRequest::Stop("SIGTERM"),
            _ = self.interrupt.recv() => SignalRequest::Stop("SIGINT"),
            _ = self.quit.recv() => SignalRequest::Stop(TAKEOVER_SIGNAL),
        }
    }
}
