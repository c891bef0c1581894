//! F-35: zero-downtime restarts under load, with socket activation and by takeover. Clients wait a little; no
//! connection is refused, and no accepted request is cut.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use super::load::{self, Load};
use crate::fixture::{
    Gateway, PASSWORD, PROGRAM, free_address, get, request, tokens, users_file, wait_until,
};

fn config(store: &str) -> String {
    format!(
        "[log]\naccess = false\n[server]\nh2c = true\n[store]\n{store}\n[tokens]\naccess_ttl = \"1h\"\nrefresh_ttl = \"2h\"\n\
         [upstreams.app]\nurls = [\"http://{}\"]\n[[routes]]\npath = \"/load\"\nupstream = \"app\"\n",
        load::app()
    )
}

fn folder(store: &str) -> tempfile::TempDir {
    folder_with(&config(store))
}

/// A folder with a configuration and alice.
pub(super) fn folder_with(config: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("gateway.toml"), config).unwrap();
    fs::create_dir(dir.path().join("config")).unwrap();
    let alice = users_file(&[("1", "alice", PASSWORD, &["user"])]);
    fs::write(dir.path().join("config/users.toml"), alice).unwrap();
    dir
}

pub(super) fn is_ready(admin: SocketAddr) -> bool {
    get(admin, "/readyz", &[]).is_some_and(|reply| reply.status == 200)
}

/// Has `restart` done again and again, each time some requests later, and prints the counts.
fn under_load(what: &str, public: SocketAddr, token: &str, mut restart: impl FnMut()) {
    let wanted = if std::env::var_os("AUTH_GATEWAY_LONG").is_some() { 100_000 } else { 1_500 };
    let (load, started, mut restarts) = (Load::start(public, token), Instant::now(), 0);
    while load.counts.answered() < wanted || restarts < 5 {
        let before = load.counts.answered();
        restart();
        wait_until("requests are answered", || load.counts.answered() > before + wanted / 30);
        restarts += 1;
    }
    println!("{restarts} restarts {what} in {:?}: {}", started.elapsed(), load.end());
}

/// The keeper of the socket; it and the gateway are ended when this is dropped.
struct Keeper(Child);

impl Drop for Keeper {
    fn drop(&mut self) {
        // It passes the end on, which killing it would not.
        let _ = Command::new("kill").arg(self.0.id().to_string()).status();
        let _ = self.0.wait();
    }
}

#[test]
fn restarts_with_socket_activation_refuse_no_connection() {
    let dir = folder("kind = \"embedded\"");
    fs::write(dir.path().join("keeper.py"), include_str!("keeper.py")).unwrap();
    let (public, admin) = (free_address(), free_address());
    let (host, port) = (public.ip().to_string(), public.port().to_string());
    let keeper = Command::new("python3")
        .args(["keeper.py", &host, &port, PROGRAM, "--config", "gateway.toml"])
        .current_dir(dir.path())
        .env("AUTH_GATEWAY__ADMIN__LISTEN", admin.to_string())
        .stdin(Stdio::null())
        .stderr(File::create(dir.path().join("log")).unwrap())
        .spawn();
    let _keeper = Keeper(keeper.unwrap());
    wait_until("it is ready", || is_ready(admin));
    let (token, _) = tokens(public, "alice", PASSWORD);
    let pid = || fs::read_to_string(dir.path().join("pid")).unwrap();
    under_load("on an inherited socket", public, &token, || {
        let last = pid();
        assert!(Command::new("kill").args(["-TERM", &last]).status().unwrap().success());
        wait_until("the next one is there", || pid() != last);
        wait_until("the next one is ready", || is_ready(admin));
    });
}

/// A gateway on addresses of its own or of others; it is killed when this is dropped.
pub(super) struct Process(Child);

impl Process {
    pub(super) fn start(
        dir: &Path,
        (public, admin): (SocketAddr, SocketAddr),
        arguments: &[&str],
    ) -> Process {
        let log = File::options().create(true).append(true).open(dir.join("log")).unwrap();
        let child = Command::new(PROGRAM)
            .args(["--config", "gateway.toml", "serve"])
            .args(arguments)
            .current_dir(dir)
            .env("AUTH_GATEWAY__SERVER__LISTEN", public.to_string())
            .env("AUTH_GATEWAY__ADMIN__LISTEN", admin.to_string())
            .stdin(Stdio::null())
            .stderr(log)
            .spawn();
        Process(child.unwrap())
    }

    pub(super) fn id(&self) -> String {
        self.0.id().to_string()
    }

    /// Whether it has ended well.
    pub(super) fn has_ended(&mut self) -> bool {
        self.0.try_wait().unwrap().is_some_and(|status| status.success())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn take_over_under_load(store: &str, what: &str) {
    let dir = folder(store);
    let addresses = (free_address(), free_address());
    let mut process = Process::start(dir.path(), addresses, &[]);
    wait_until("it is ready", || is_ready(addresses.1));
    let (token, refresh) = tokens(addresses.0, "alice", PASSWORD);
    under_load(what, addresses.0, &token, || {
        let last = process.id();
        let next = Process::start(dir.path(), addresses, &["--take-over", &last]);
        let mut older = std::mem::replace(&mut process, next);
        wait_until("the older one has ended", || older.has_ended());
        // No request fails meanwhile, and a load balancer does not see the drain of the old process.
        assert!(is_ready(addresses.1));
    });
    if store.contains("embedded") {
        let bearer = format!("Bearer {refresh}");
        let again = request(addresses.0, "POST", "/refresh", &[("Authorization", &bearer)], b"");
        assert_eq!(again.unwrap().status, 200, "sessions go on");
    }
}

#[test]
fn a_takeover_of_an_embedded_store_refuses_no_connection() {
    take_over_under_load("kind = \"embedded\"", "by taking over with the embedded store");
}

#[test]
fn a_takeover_with_a_shared_store_refuses_no_connection() {
    take_over_under_load("kind = \"memory\"", "by taking over beside the older one");
}

#[test]
fn a_takeover_signals_only_gateways() {
    let dir = folder("kind = \"memory\"");
    let mut other = Command::new("sleep").arg("60").spawn().unwrap();
    let ask = |id: &str| {
        Gateway::command(dir.path(), &["--config", "gateway.toml", "serve", "--take-over", id], "")
    };
    let (code, _, said) = ask(&other.id().to_string());
    assert!(code == 1 && said.contains("it is sleep, not auth-gateway"), "{code}: {said}");
    assert!(other.try_wait().unwrap().is_none(), "it goes on");
    other.kill().unwrap();
    other.wait().unwrap();
    for id in ["0", "-1", &other.id().to_string()] {
        let (code, _, said) = ask(id);
        assert!(code != 0 && said.contains("error"), "{id}: {code}: {said}");
    }
}
