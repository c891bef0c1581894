//! Real database servers on free ports, which are killed on drop, and SQLite.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::python;
use crate::fixture::free_address;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Sqlite,
    Postgres,
    MariaDb,
}

pub(super) struct Database {
    kind: Kind,
    dir: TempDir,
    port: u16,
    child: Option<Child>,
}

/// A command that runs as another account where this one is root, which PostgreSQL refuses to be.
fn command_as(account: &str, program: &str) -> Command {
    if !rustix::process::getuid().is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid", account, "--regid", account, "--init-groups", "--", program]);
    command
}

fn run(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{command:?}: {}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

/// Debian keeps PostgreSQL's programs out of the path, in a folder of the version.
fn postgres(program: &str) -> String {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let found = versions.map(|version| version.path().join("bin").join(program)).find(|path| path.exists());
    found.map_or(program.to_owned(), |path| path.display().to_string())
}

impl Database {
    pub(super) fn start(kind: Kind) -> Database {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        match kind {
            Kind::Sqlite => {}
            Kind::Postgres => {
                if rustix::process::getuid().is_root() {
                    run(Command::new("chown").arg("postgres").arg(dir.path()));
                }
                run(command_as("postgres", &postgres("initdb"))
                    .args(["-A", "trust", "-U", "postgres", "-N", "-D"])
                    .arg(&data));
            }
            Kind::MariaDb => {
                let mut install = Command::new("mariadb-install-db");
                install.arg("--no-defaults").arg(format!("--datadir={}", data.display()));
                install.args(["--auth-root-authentication-method=normal", "--skip-test-db"]);
                if rustix::process::getuid().is_root() {
                    install.arg("--user=root");
                }
                run(&mut install);
            }
        }
        let mut database = Database { kind, dir, port: free_address().port(), child: None };
        database.run();
        database
    }

    /// Starts the server, for the first time or again, and waits until it answers.
    pub(super) fn run(&mut self) {
        let (port, data) = (self.port.to_string(), self.dir.path().join("data"));
        let mut command = match self.kind {
            Kind::Sqlite => return,
            Kind::Postgres => {
                let mut command = command_as("postgres", &postgres("postgres"));
                command
                    .args(["-p", &port, "-c", "fsync=off", "-c", "listen_addresses=127.0.0.1", "-k", ""])
                    .arg("-D")
                    .arg(&data);
                command
            }
            Kind::MariaDb => {
                let mut command = Command::new("mariadbd");
                command.arg("--no-defaults").arg(format!("--datadir={}", data.display())).args([
                    "--bind-address=127.0.0.1",
                    "--port",
                    &port,
                ]);
                command.arg(format!("--socket={}", self.dir.path().join("socket").display()));
                if rustix::process::getuid().is_root() {
                    command.arg("--user=root");
                }
                command
            }
        };
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        self.child = Some(child.unwrap());
        let end = Instant::now() + Duration::from_secs(60);
        while !self.client("SELECT 1").output().unwrap().status.success() {
            assert!(Instant::now() < end, "{:?} does not answer", self.kind);
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn client(&self, sql: &str) -> Command {
        let port = self.port.to_string();
        let mut command = match self.kind {
            Kind::Sqlite => unreachable!("SQLite has no client"),
            Kind::Postgres => {
                let mut command = Command::new(postgres("psql"));
                command.args(["-X", "-t", "-A", "-h", "127.0.0.1", "-U", "postgres", "-p", &port, "-c", sql]);
                command
            }
            Kind::MariaDb => {
                let mut command = Command::new("mariadb");
                command.args(["--no-defaults", "-N", "-h", "127.0.0.1", "-uroot", "-P", &port]);
                if sql != "SELECT 1" {
                    command.args(["-D", "app"]);
                }
                command.args(["-e", sql]);
                command
            }
        };
        command.stdin(Stdio::null());
        command
    }

    /// Runs statements, and returns what they print.
    pub(super) fn sql(&self, sql: &str) -> String {
        match self.kind {
            Kind::Sqlite => python("sqlite.py", &[self.file().to_str().unwrap(), sql]),
            _ => run(&mut self.client(sql)),
        }
    }

    pub(super) fn create(&self) {
        if self.kind == Kind::MariaDb {
            let port = self.port.to_string();
            run(Command::new("mariadb").args([
                "--no-defaults",
                "-h",
                "127.0.0.1",
                "-uroot",
                "-P",
                &port,
                "-e",
                "CREATE DATABASE app",
            ]));
        }
    }

    fn file(&self) -> std::path::PathBuf {
        self.dir.path().join("app.db")
    }

    pub(super) fn url(&self) -> String {
        match self.kind {
            Kind::Sqlite => format!("sqlite://{}", self.file().display()),
            Kind::Postgres => format!("postgres://postgres@127.0.0.1:{}/postgres", self.port),
            Kind::MariaDb => format!("mysql://root@127.0.0.1:{}/app", self.port),
        }
    }

    /// A name as the database quotes it.
    pub(super) fn quoted(&self, name: &str) -> String {
        let quote = if self.kind == Kind::MariaDb { '`' } else { '"' };
        format!("{quote}{name}{quote}")
    }

    /// Takes the database away without a word: the server ends, and SQLite's file is locked by another program.
    pub(super) fn kill(&mut self) {
        match self.kind {
            Kind::Sqlite => {
                const LOCK: &str = "import sqlite3, sys, time\nc = sqlite3.connect(sys.argv[1], isolation_level=None)\n\
                                    c.execute('BEGIN EXCLUSIVE')\nprint(flush=True)\ntime.sleep(60)";
                let mut locking = Command::new("python3");
                locking.args(["-c", LOCK]).arg(self.file()).stdout(Stdio::piped());
                let mut child = locking.spawn().unwrap();
                std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut [0]).unwrap();
                self.child = Some(child);
            }
            // It ends its children itself, without finishing anything.
            Kind::Postgres => self.end("QUIT"),
            Kind::MariaDb => self.end("KILL"),
        }
    }

    /// Brings it back.
    pub(super) fn restart(&mut self) {
        match self.kind {
            Kind::Sqlite => self.end("KILL"),
            _ => self.run(),
        }
    }

    fn end(&mut self, signal: &str) {
        if let Some(mut child) = self.child.take() {
            run(Command::new("kill").args(["-s", signal, &child.id().to_string()]));
            child.wait().unwrap();
        }
    }

    /// Has the server hang, or go on: connections stay open and nothing answers.
    pub(super) fn signal(&self, name: &str) {
        if let Some(child) = &self.child {
            // The processes of a PostgreSQL are children of the first.
            let children = fs::read_to_string(Path::new(&format!("/proc/{0}/task/{0}/children", child.id())))
                .unwrap_or_default();
            let pids = children.split_whitespace().map(str::to_owned).chain([child.id().to_string()]);
            run(Command::new("kill").args(["-s", name]).args(pids));
        }
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        // After a failed test it may be stopped, and would not end.
        if std::thread::panicking() && self.kind != Kind::Sqlite {
            self.signal("CONT");
        }
        self.end(if self.kind == Kind::Postgres { "QUIT" } else { "KILL" });
    }
}
