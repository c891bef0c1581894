//! `cargo demo`: the gateway, an application behind it and the page, built and started together.
//!
//! Both programs run in process groups of their own, so that Ctrl-C reaches only this one, which then stops the
//! gateway before the upstream that it still may need. Whatever happens, none of them outlives the demo.

use std::convert::Infallible;
use std::env;
use std::fmt;
use std::future::pending;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{ExitCode, ExitStatus, Stdio};
use std::time::Duration;

use clap::Parser;
use rustix::process::{Pid, Signal as Kill, kill_process_group};
use tokio::process::{Child, Command};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep};

// As config/users.toml has them.
const USER: &str = "alice";
const PASSWORD: &str = "down-the-rabbit-hole";

/// How long the gateway may take to get ready. The first start makes keys and a store; a second is plenty.
const READY_WITHIN: Duration = Duration::from_secs(60);
const READY_POLL: Duration = Duration::from_millis(50);
const PROBE_TIMEOUT: Duration = Duration::from_secs(1);

/// How long a program may take to stop before it is killed.
const STOP_WITHIN: Duration = Duration::from_secs(10);

/// Builds and starts auth-gateway with the demo upstream and the page, until Ctrl-C.
#[derive(Parser)]
#[command(bin_name = "cargo demo")]
struct Arguments {
    /// Where the gateway listens
    #[arg(long, value_name = "ADDRESS", default_value_t = loopback(8080), env = "AUTH_GATEWAY__SERVER__LISTEN")]
    listen: SocketAddr,
    /// Where the gateway's health and metrics are
    #[arg(long, value_name = "ADDRESS", default_value_t = loopback(9090), env = "AUTH_GATEWAY__ADMIN__LISTEN")]
    admin: SocketAddr,
    /// Where the demo application behind the gateway listens
    #[arg(long, value_name = "ADDRESS", default_value_t = loopback(9000))]
    upstream: SocketAddr,
}

impl Arguments {
    /// The same with every port 0 replaced by a free one.
    fn free(&self) -> Result<Arguments, Failure> {
        let free = |address, purpose| {
            let bound = TcpListener::bind(address).and_then(|listener| listener.local_addr());
            bound.map_err(|error| Failure::Taken { address, purpose, error })
        };
        Ok(Arguments {
            upstream: free(self.upstream, "the demo upstream")?,
            listen: free(self.listen, "the gateway")?,
            admin: free(self.admin, "the gateway's admin listener")?,
        })
    }

    /// The environment that moves the gateway: config/gateway.toml has the default addresses. The issuer is how
    /// browsers name it.
    fn environment(&self) -> impl Iterator<Item = (&'static str, String)> {
        let addresses = [
            ("AUTH_GATEWAY__SERVER__LISTEN", self.listen.to_string()),
            ("AUTH_GATEWAY__ADMIN__LISTEN", self.admin.to_string()),
        ];
        // What the user says otherwise goes.
        let others = [
            ("AUTH_GATEWAY__UPSTREAMS__DEMO__URLS", format!("[\"http://{}\"]", self.upstream)),
            ("AUTH_GATEWAY__TOKENS__ISSUER", format!("http://{}", reachable(self.listen))),
        ];
        addresses.into_iter().chain(others.into_iter().filter(|(name, _)| env::var_os(name).is_none()))
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match demo(&Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let _ = writeln!(io::stderr(), "demo: error: {failure}");
            ExitCode::FAILURE
        }
    }
}

/// Why there is no demo.
#[derive(Debug)]
enum Failure {
    Signals(io::Error),
    Start { program: String, error: io::Error },
    Build(ExitStatus),
    Taken { address: SocketAddr, purpose: &'static str, error: io::Error },
    NotReady(SocketAddr),
    Ended { program: String, status: io::Result<ExitStatus> },
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Signals(error) => write!(f, "cannot catch Ctrl-C: {error}"),
            Failure::Start { program, error } => write!(f, "cannot start {program}: {error}"),
            Failure::Build(status) => write!(f, "the build failed ({status}): cargo says above why"),
            Failure::Taken { address, purpose, error } if error.kind() == io::ErrorKind::AddrInUse => write!(
                f,
                "{address}, where {purpose} wants to listen, is taken: stop what listens there, maybe another \
                 `cargo demo` (`ss -ltnp 'sport = :{}'` names it), and try again",
                address.port()
            ),
            Failure::Taken { address, purpose, error } => {
                write!(f, "{purpose} cannot listen on {address}: {error}")
            }
            Failure::NotReady(admin) => write!(
                f,
                "the gateway was not ready within {} s: http://{admin}/readyz does not answer 200; its log stands \
                 above",
                READY_WITHIN.as_secs()
            ),
            Failure::Ended { program, status: Ok(status) } => {
                write!(f, "{program} ended ({status}): its own message stands above")
            }
            Failure::Ended { program, status: Err(error) } => write!(f, "lost sight of {program}: {error}"),
        }
    }
}

async fn demo(arguments: &Arguments) -> Result<(), Failure> {
    let mut signals = Signals::catch().map_err(Failure::Signals)?;
    let root = repository_root();
    let mut build = Program::start(&mut build_command(&root))?;
    tokio::select! {
        status = build.child.wait() => match status {
            Ok(status) if status.success() => {}
            Ok(status) => return Err(Failure::Build(status)),
            Err(error) => return Err(Failure::Start { program: build.name, error }),
        },
        () = signals.next() => {
            build.stop(&mut signals).await;
            return Ok(());
        }
    }
    let arguments = arguments.free()?;

    let mut upstream = Program::start(
        built("demo-upstream").current_dir(&root).arg("--listen").arg(arguments.upstream.to_string()),
    )?;
    let gateway = Program::start(
        built("auth-gateway")
            .current_dir(&root)
            .args(["--config", "config/gateway.toml"])
            .envs(arguments.environment()),
    );
    let mut gateway = match gateway {
        Ok(gateway) => gateway,
        Err(failure) => {
            upstream.stop(&mut signals).await;
            return Err(failure);
        }
    };
    let outcome = tokio::select! {
        // A program that ended is the better explanation for a gateway that is not ready.
        biased;
        () = signals.next() => Ok(()),
        failure = upstream.end() => Err(failure),
        failure = gateway.end() => Err(failure),
        Err(failure) = announce_when_ready(reachable(arguments.listen), reachable(arguments.admin)) => Err(failure),
    };
    gateway.stop(&mut signals).await;
    upstream.stop(&mut signals).await;
    outcome
}

/// Prints the demo's URL once it is ready. Returns only if it never gets ready.
async fn announce_when_ready(gateway: SocketAddr, admin: SocketAddr) -> Result<Infallible, Failure> {
    let deadline = Instant::now() + READY_WITHIN;
    while !matches!(spawn_blocking(move || is_ready(admin)).await, Ok(Ok(true))) {
        if Instant::now() >= deadline {
            return Err(Failure::NotReady(admin));
        }
        sleep(READY_POLL).await;
    }
    let announcement = format!(
        "\n  The demo is running:  http://{gateway}/\n  \
         Log in as {USER} with the password {PASSWORD}\n  \
         Ctrl-C stops it.\n\n"
    );
    // In one write, ignoring a closed standard output.
    let _ = io::stdout().write_all(announcement.as_bytes());
    pending().await
}

fn is_ready(admin: SocketAddr) -> io::Result<bool> {
    let mut stream = TcpStream::connect_timeout(&admin, PROBE_TIMEOUT)?;
    stream.set_read_timeout(Some(PROBE_TIMEOUT))?;
    stream.set_write_timeout(Some(PROBE_TIMEOUT))?;
    stream.write_all(
        format!("GET /readyz HTTP/1.1\r\nHost: {admin}\r\nConnection: close\r\n\r\n").as_bytes(),
    )?;
    let mut start = [0; b"HTTP/1.1 200".len()];
    stream.read_exact(&mut start)?;
    Ok(start == *b"HTTP/1.1 200")
}

const fn loopback(port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)
}

/// Where an address that means all interfaces is reached from here.
fn reachable(listen: SocketAddr) -> SocketAddr {
    match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => loopback(listen.port()),
        IpAddr::V6(ip) if ip.is_unspecified() => SocketAddr::new(Ipv6Addr::LOCALHOST.into(), listen.port()),
        _ => listen,
    }
}

fn repository_root() -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.parent().unwrap_or(package).to_path_buf()
}

/// The same cargo, profile and target folder that made this program.
fn build_command(root: &Path) -> Command {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.arg("build").args(["--profile", "demo", "--bin", "auth-gateway", "--bin", "demo-upstream"]);
    cargo.arg("--manifest-path").arg(root.join("Cargo.toml"));
    cargo
}

/// A program that the build put beside this one.
fn built(name: &str) -> Command {
    // Without an own path, the name alone makes an error that says what was looked for.
    Command::new(env::current_exe().map_or_else(|_| name.into(), |this| this.with_file_name(name)))
}

/// A program that was started here and is stopped here.
struct Program {
    name: String,
    child: Child,
}

impl Program {
    fn start(command: &mut Command) -> Result<Program, Failure> {
        let path = Path::new(command.as_std().get_program());
        let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
        match command.stdin(Stdio::null()).process_group(0).kill_on_drop(true).spawn() {
            Ok(child) => Ok(Program { name, child }),
            Err(error) => Err(Failure::Start { program: name, error }),
        }
    }

    /// Waits for an unexpected exit.
    async fn end(&mut self) -> Failure {
        Failure::Ended { status: self.child.wait().await, program: self.name.clone() }
    }

    /// Asks the program and its children to stop, and kills them if they take too long or a second signal comes.
    async fn stop(&mut self, signals: &mut Signals) {
        let Some(group) = self.group() else { return };
        // It may have exited meanwhile: then there is no process to signal.
        let _ = kill_process_group(group, Kill::TERM);
        tokio::select! {
            _ = self.child.wait() => return,
            () = sleep(STOP_WITHIN) => {}
            () = signals.next() => {}
        }
        let _ = writeln!(io::stderr(), "demo: {} did not stop in time and is killed", self.name);
        let _ = kill_process_group(group, Kill::KILL);
        let _ = self.child.wait().await;
    }

    /// Its process group, unless it has exited already: the number may have been reused.
    fn group(&self) -> Option<Pid> {
        self.child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw)
    }
}

/// Everything by which a terminal or an operator ends a program.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
    quit: Signal,
}

impl Signals {
    fn catch() -> io::Result<Signals> {
        Ok(Signals {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
            quit: signal(SignalKind::quit())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.hangup.recv() => {}
            _ = self.quit.recv() => {}
        }
    }
}
