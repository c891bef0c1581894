//! `cargo demo`: builds and runs the gateway with the demo upstream and the page until Ctrl-C.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use tokio::process::Child;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{sleep, timeout};

const UPSTREAM: &str = "127.0.0.1:9000";
const GATEWAY: &str = "127.0.0.1:8080";
const ADMIN: &str = "127.0.0.1:9090";
const START: Duration = Duration::from_secs(10);
const STOP: Duration = Duration::from_secs(35);

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match demo().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn demo() -> Result<(), String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().ok_or("the repository has no root")?;
    [("the demo upstream", UPSTREAM), ("the gateway", GATEWAY), ("its admin listener", ADMIN)]
        .into_iter()
        .try_for_each(|(what, address)| must_be_free(what, address))?;
    let programs = build(root)?;

    // Signals first: from here on a Ctrl-C stops what was started.
    let catch = |kind| signal(kind).map_err(|e| format!("cannot catch signals: {e}"));
    let (mut interrupt, mut terminate) = (catch(SignalKind::interrupt())?, catch(SignalKind::terminate())?);
    let mut upstream = start(root, &programs.join("demo-upstream"), &["--listen", UPSTREAM])?;
    let mut gateway = match start(root, &programs.join("auth-gateway"), &["--config", "config/gateway.toml"])
    {
        Ok(gateway) => gateway,
        Err(error) => {
            stop(&mut upstream).await;
            return Err(error);
        }
    };
    let result = tokio::select! {
        result = run() => result,
        _ = interrupt.recv() => Ok(()),
        _ = terminate.recv() => Ok(()),
        status = upstream.wait() => Err(format!("the demo upstream ended by itself: {}", describe(status))),
        status = gateway.wait() => Err(format!("the gateway ended by itself: {}", describe(status))),
    };
    eprintln!("\nStopping …");
    stop(&mut gateway).await;
    stop(&mut upstream).await;
    result
}

/// Tells when all is up, and then waits for ever.
async fn run() -> Result<(), String> {
    let up = async {
        while !answers(ADMIN, "/readyz") || !answers(GATEWAY, "/") {
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(START, up)
        .await
        .map_err(|_| "the gateway does not answer; its log above tells why".to_owned())?;
    println!(
        "\n  The page:   http://{GATEWAY}/\n  Log in as:  alice\n  Password:   down-the-rabbit-hole\n  \
         Metrics:    http://{ADMIN}/metrics\n\n  Ctrl-C stops everything.\n"
    );
    std::future::pending().await
}

fn must_be_free(what: &str, address: &str) -> Result<(), String> {
    TcpListener::bind(address).map(drop).map_err(|error| {
        format!(
            "{address} is needed for {what} and cannot be had: {error}\n  Perhaps another demo is still running: \
             `ss -ltnp` shows which process has the address. Stop that one and try again."
        )
    })
}

/// Builds both programs in the demo's profile and tells where they are.
fn build(root: &Path) -> Result<PathBuf, String> {
    eprintln!("Building the gateway and the demo upstream (some minutes the first time) …");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .args(["build", "--quiet", "--profile", "demo", "--bin", "auth-gateway", "--bin", "demo-upstream"])
        .current_dir(root)
        .status();
    match status {
        Ok(status) if status.success() => {}
        Ok(_) => return Err("the build failed; see above".into()),
        Err(error) => return Err(format!("cannot run cargo: {error}")),
    }
    // This program was built into the same folder.
    let me = std::env::current_exe().map_err(|e| format!("cannot find the built programs: {e}"))?;
    me.parent().map(Path::to_owned).ok_or_else(|| "cannot find the built programs".into())
}

/// Starts a program in a process group of its own: a Ctrl-C at the terminal then reaches only this process, which
/// stops the others in order.
fn start(root: &Path, program: &Path, arguments: &[&str]) -> Result<Child, String> {
    let mut command = Command::new(program);
    command.args(arguments).current_dir(root).process_group(0);
    tokio::process::Command::from(command)
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| format!("cannot start {}: {error}", program.display()))
}

/// Asks a program to stop and waits for it.
async fn stop(child: &mut Child) {
    // Without an id it has ended already.
    let Some(id) = child.id() else { return };
    let asked = Command::new("kill").args(["-TERM", &id.to_string()]).status();
    if !asked.is_ok_and(|status| status.success()) || timeout(STOP, child.wait()).await.is_err() {
        let _ = child.kill().await;
    }
}

fn describe(status: std::io::Result<std::process::ExitStatus>) -> String {
    status.map_or_else(|error| error.to_string(), |status| status.to_string())
}

/// Whether `GET path` is answered with 200.
fn answers(address: &str, path: &str) -> bool {
    let ask = || -> std::io::Result<bool> {
        let address: SocketAddr = address.parse().map_err(std::io::Error::other)?;
        let mut socket = TcpStream::connect_timeout(&address, Duration::from_millis(200))?;
        socket.set_read_timeout(Some(Duration::from_secs(1)))?;
        write!(socket, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
        let mut status = [0; 12];
        socket.read_exact(&mut status)?;
        Ok(status.ends_with(b" 200"))
    };
    ask().unwrap_or(false)
}
