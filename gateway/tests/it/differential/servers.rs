//! Servers that report how they parsed a request.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::fixture::{Reply, Upstream, free_address, python, wait_until};

/// What a server has understood of a request.
#[derive(Debug, Default)]
pub(super) struct Understood {
    pub(super) method: String,
    /// The request target as it came.
    pub(super) target: String,
    /// The path as the server, or an app in it, would route by it.
    pub(super) path: Vec<u8>,
    pub(super) host: String,
    pub(super) user: String,
    pub(super) subject: String,
    pub(super) roles: String,
    pub(super) authorization: String,
    /// The body's SHA-256 in hexadecimal digits, where the server reads bodies.
    pub(super) body: Option<String>,
}

impl Understood {
    /// What an answer says, if it is a server's.
    pub(super) fn of(reply: &Reply) -> Option<Understood> {
        if reply.field("x-upstream").is_some() {
            return Some(Understood::of_recorder(reply));
        }
        reply.field("x-echo")?;
        let text: String = reply.body.iter().map(|&byte| byte as char).collect();
        let words: Vec<&str> = text.split('\n').collect();
        let word = |place: usize| words.get(place).copied().unwrap_or_default().to_owned();
        let hex = |digits: String| {
            let byte = |at: usize| u8::from_str_radix(&digits[at..at + 2], 16).unwrap();
            (0..digits.len()).step_by(2).map(byte).collect()
        };
        let is_nginx = reply.field("x-echo") == Some("nginx");
        Some(Understood {
            method: word(0),
            target: word(1),
            path: if is_nginx { word(2).chars().map(|c| c as u8).collect() } else { hex(word(2)) },
            host: word(3),
            user: word(4),
            subject: word(5),
            roles: word(6),
            authorization: word(7),
            body: (!is_nginx).then(|| word(8)),
        })
    }

    fn of_recorder(reply: &Reply) -> Understood {
        let echo = reply.json();
        // Under any spelling that a CGI server would take for the name.
        let field = |name: &str| {
            let fields = echo["fields"].as_array().unwrap().iter();
            let values = fields.filter(|field| {
                field[0].as_str().unwrap().to_ascii_lowercase().replace(['_', '.'], "-") == name
            });
            values.map(|field| field[1].as_str().unwrap()).collect::<Vec<_>>().join(",")
        };
        let target = echo["target"].as_str().unwrap().to_owned();
        let path = target.split('?').next().unwrap_or_default();
        Understood {
            method: echo["method"].as_str().unwrap().to_owned(),
            path: decoded(path),
            host: field("host"),
            user: field("x-auth-user"),
            subject: field("x-auth-subject"),
            roles: field("x-auth-roles"),
            authorization: field("authorization"),
            body: None,
            target,
        }
    }
}

/// Decoded once, whatever an escape stands for, as a careless app does it.
fn decoded(path: &str) -> Vec<u8> {
    let bytes = path.as_bytes();
    let (mut out, mut at) = (Vec::new(), 0);
    while at < bytes.len() {
        let escape = path.get(at + 1..at + 3).filter(|_| bytes[at] == b'%');
        match escape.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                out.push(byte);
                at += 3;
            }
            None => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    out
}

/// A server; it ends with this.
pub(super) struct Server {
    pub(super) address: SocketAddr,
    pub(super) recorder: Option<Upstream>,
    child: Option<Child>,
    /// Has a line for each request.
    log: Option<PathBuf>,
    _dir: Option<tempfile::TempDir>,
}

impl Server {
    pub(super) fn recorder() -> Server {
        let upstream = Upstream::start();
        Server { address: upstream.address, recorder: Some(upstream), child: None, log: None, _dir: None }
    }

    pub(super) fn nginx() -> Server {
        let (dir, address) = (tempfile::tempdir().unwrap(), free_address());
        let path = dir.path().display();
        let config = format!(
            "daemon off; pid {path}/pid; worker_processes 1; events {{}}\n\
             http {{ log_format one '$http_x_seed'; access_log {path}/requests one;\n\
             client_body_temp_path {path}/b; proxy_temp_path {path}/p; fastcgi_temp_path {path}/f; uwsgi_temp_path {path}/u; scgi_temp_path {path}/s;\n\
             underscores_in_headers on; ignore_invalid_headers off; keepalive_requests 1000000;\n\
             server {{ listen {address}; server_name _; add_header X-Echo nginx always;\n\
             location / {{ return 200 \"$request_method\n$request_uri\n$uri\n$http_host\n$http_x_auth_user\n$http_x_auth_subject\n$http_x_auth_roles\n$http_authorization\"; }} }} }}"
        );
        fs::write(dir.path().join("nginx.conf"), config).unwrap();
        let program = if Path::new("/usr/sbin/nginx").exists() { "/usr/sbin/nginx" } else { "nginx" };
        let mut command = Command::new(program);
        command.args(["-p", dir.path().to_str().unwrap(), "-c", "nginx.conf", "-e", "error.log"]);
        let log = dir.path().join("requests");
        Server::spawn(command, address, dir, log, "nginx")
    }

    pub(super) fn gunicorn() -> Server {
        let (dir, address) = (tempfile::tempdir().unwrap(), free_address());
        let log = dir.path().join("requests");
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/differential");
        let mut command = python();
        command
            .args(["-B", "-m", "gunicorn", "--chdir", folder, "--bind", &address.to_string()])
            .args([
                "--worker-class",
                "gthread",
                "--threads",
                "4",
                "--keep-alive",
                "60",
                "--log-level",
                "error",
            ])
            .args([
                "--no-control-socket",
                "--access-logfile",
                log.to_str().unwrap(),
                "--access-logformat",
                "%({x-seed}i)s",
                "echo:app",
            ]);
        Server::spawn(command, address, dir, log, "gunicorn")
    }

    fn spawn(
        mut command: Command,
        address: SocketAddr,
        dir: tempfile::TempDir,
        log: PathBuf,
        name: &str,
    ) -> Server {
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let child = child.unwrap_or_else(|e| panic!("{name} is installed by .ci/prepare: {e}"));
        wait_until(name, || TcpStream::connect(address).is_ok());
        Server { address, recorder: None, child: Some(child), log: Some(log), _dir: Some(dir) }
    }

    /// The seeds of the requests that it has seen; a stranger has none.
    fn seeds(&self) -> Vec<String> {
        match (&self.recorder, &self.log) {
            (Some(recorder), _) => {
                recorder.requests().iter().map(|request| request.values("x-seed").join(",")).collect()
            }
            (None, Some(log)) => {
                fs::read_to_string(log).unwrap_or_default().lines().map(str::to_owned).collect()
            }
            _ => Vec::new(),
        }
    }

    /// How many with that seed it has seen. What was answered may still have to be written down.
    pub(super) fn requests_of(&self, seed: u64, answered: usize) -> usize {
        let seed = seed.to_string();
        let count = || self.seeds().iter().filter(|seen| **seen == seed).count();
        wait_until("what was answered is written down", || count() >= answered);
        count()
    }

    /// How many without a seed it has seen.
    pub(super) fn strangers(&self) -> usize {
        self.seeds().iter().filter(|seed| seed.parse::<u64>().is_err()).count()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // Its workers end with it, which a kill would prevent.
            let _ = Command::new("kill").args(["-TERM", &child.id().to_string()]).status();
            let _ = child.wait();
        }
    }
}
