//! The compatible profile beside a real Flask app with Flask-JWT-Extended: the same requests to both, and the app moved
//! behind the gateway as the migration guide says.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::fixture::{Gateway, PASSWORD, Reply, free_address, get, python, request, tokens, wait_until};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/compat");
const GUIDE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/how-to/migrate-from-flask-jwt-extended.md");
/// The app's JWT_SECRET_KEY.
const SECRET: &str = "kT7q/9vXw2LrZ0yBf4mEoN6uGhJc1sPdAi8WtVbRxYeQ3zU5";

fn in_folder() -> Command {
    let mut command = python();
    command.arg("-B").current_dir(FOLDER);
    command
}

fn succeeded(command: &mut Command) -> String {
    let Output { status, stdout, stderr } = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(status.success(), "{command:?}: {}{}", text(&stdout), text(&stderr));
    text(&stdout)
}

fn environment(database: &Path) -> [(&'static str, String); 2] {
    [("DATABASE_URL", format!("sqlite:///{}", database.display())), ("JWT_SECRET_KEY", SECRET.to_owned())]
}

/// A folder with the app's database, in which three users have `PASSWORD`.
fn database() -> (TempDir, std::path::PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app.db");
    let users = ["alice", "bob", "carol"].map(|name| format!("{name}={PASSWORD}"));
    succeeded(in_folder().arg("app.py").args(users).envs(environment(&path)));
    (dir, path)
}

/// The app under gunicorn; it ends with this.
struct App {
    address: SocketAddr,
    child: Child,
}

impl App {
    fn start(database: &Path, behind_gateway: bool) -> App {
        let address = free_address();
        let mut command = in_folder();
        command.args(["-m", "gunicorn", "--bind", &address.to_string(), "--log-level", "error"]);
        command.args(["--no-control-socket", "app:app"]).envs(environment(database));
        if behind_gateway {
            command.env("BEHIND_GATEWAY", "1");
        }
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        wait_until("the app", || TcpStream::connect(address).is_ok());
        App { address, child }
    }
}

impl Drop for App {
    fn drop(&mut self) {
        // Its worker ends with it, which a kill would prevent.
        let _ = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status();
        let _ = self.child.wait();
    }
}

/// The configuration of the migration guide, with the addresses and files of the test.
fn configuration(database: &Path, app: SocketAddr) -> String {
    let guide = fs::read_to_string(GUIDE).unwrap();
    let start = guide.find("```toml\n").expect("the guide has a configuration") + "```toml\n".len();
    let block = &guide[start..start + guide[start..].find("```").unwrap()];
    let mut config = block.to_owned();
    for (there, here) in [
        ("sqlite:///srv/app/instance/app.db", format!("sqlite://{}", database.display())),
        ("http://127.0.0.1:5000", format!("http://{app}")),
    ] {
        assert!(config.contains(there), "{config}");
        config = config.replace(there, &here);
    }
    let lines = config.lines().filter(|line| !line.starts_with("listen = ") && *line != "[server]");
    lines.collect::<Vec<_>>().join("\n") + "\n"
}

fn gateway(database: &Path, app: &App, more: &str) -> Gateway {
    let config = configuration(database, app.address) + more;
    Gateway::start_with(&config, "", &[("secrets/jwt", SECRET.as_bytes())])
}

#[test]
fn three_hundred_requests_are_answered_as_by_the_library() {
    let (_dir, of_flask) = database();
    let (_other_dir, of_gateway) = database();
    let (flask, behind) = (App::start(&of_flask, false), App::start(&of_gateway, true));
    let gateway = gateway(
        &of_gateway,
        &behind,
        "[[routes]]\npath = \"/optional\"\nupstream = \"app\"\naccess = \"optional\"\n\
         [[routes]]\npath = \"/fresh\"\nupstream = \"app\"\nclaims = { fresh = true }\n\
         [throttle]\nmax_failures = 0\n",
    );
    let (flask, gateway) = (flask.address.to_string(), gateway.address.to_string());
    println!("{}", succeeded(in_folder().args(["differential.py", &flask, &gateway, SECRET, GUIDE])));
}

fn post(address: SocketAddr, path: &str, token: Option<&str>, body: &Value) -> Reply {
    let bearer = token.map(|token| format!("Bearer {token}"));
    let mut fields = vec![("Content-Type", "application/json")];
    fields.extend(bearer.as_deref().map(|bearer| ("Authorization", bearer)));
    let body = if body.is_null() { String::new() } else { body.to_string() };
    request(address, "POST", path, &fields, body.as_bytes()).unwrap()
}

fn protected(address: SocketAddr, token: &str) -> (u16, Value) {
    let reply = get(address, "/protected", &[("Authorization", &format!("Bearer {token}"))]).unwrap();
    (reply.status, reply.json())
}

#[test]
fn the_tutorials_app_moves_behind_the_gateway_and_keeps_its_users_and_their_sessions() {
    let (_dir, database) = database();
    let alone = App::start(&database, false);
    let (access, refresh) = tokens(alone.address, "alice", PASSWORD);
    let (of_bob, refresh_of_bob) = tokens(alone.address, "bob", PASSWORD);
    drop(alone);

    let app = App::start(&database, true);
    let mut gateway = gateway(&database, &app, "");
    let hello = |name: &str| json!({"message": format!("Hello {name}, welcome to the protected page.")});
    let refreshed = |gateway: &Gateway, token: &str| {
        let reply = post(gateway.address, "/refresh", Some(token), &Value::Null);
        (reply.status, reply.json()["access_token"].as_str().unwrap_or_default().to_owned())
    };

    // No user is logged out: the app's tokens go on, as often as they are used, and over a restart.
    assert_eq!(protected(gateway.address, &access), (200, hello("alice")));
    for _ in 0..2 {
        let (status, access) = refreshed(&gateway, &refresh);
        assert_eq!(status, 200);
        assert_eq!(protected(gateway.address, &access), (200, hello("alice")));
    }
    gateway.kill();
    gateway.run();
    let (status, second) = refreshed(&gateway, &refresh);
    assert_eq!(status, 200);

    // No user has to register: every old password is good.
    for name in ["alice", "bob", "carol"] {
        let (access, refresh) = tokens(gateway.address, name, PASSWORD);
        assert_eq!(protected(gateway.address, &access), (200, hello(name)));
        assert_eq!(refreshed(&gateway, &refresh).0, 200);
    }

    // A logout ends the whole session, with the access tokens that it made here.
    assert_eq!(post(gateway.address, "/logout", Some(&refresh), &Value::Null).status, 204);
    assert_eq!(refreshed(&gateway, &refresh).0, 401);
    assert_eq!(protected(gateway.address, &second), (401, json!({"msg": "Token has been revoked"})));
    // And an access token of the app alone ends by itself.
    assert_eq!(post(gateway.address, "/logout", Some(&of_bob), &Value::Null).status, 204);
    assert_eq!(protected(gateway.address, &of_bob).0, 401);
    assert_eq!(refreshed(&gateway, &refresh_of_bob).0, 200);
    // All of them, by an access token that was made here.
    let (_, of_bob) = refreshed(&gateway, &refresh_of_bob);
    assert_eq!(post(gateway.address, "/logout-all", Some(&of_bob), &Value::Null).status, 204);
    assert_eq!(refreshed(&gateway, &refresh_of_bob).0, 401);

    // The way back: the app takes the gateway's tokens.
    let (access, refresh) = tokens(gateway.address, "carol", PASSWORD);
    let alone = App::start(&database, false);
    assert_eq!(protected(alone.address, &access), (200, hello("carol")));
    assert_eq!(post(alone.address, "/refresh", Some(&refresh), &Value::Null).status, 200);

    // A deleted user's token of the app refreshes no more.
    let (_, refresh) = tokens(alone.address, "bob", PASSWORD);
    let script = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); \
                  c.execute(\"DELETE FROM user WHERE username = 'bob'\"); c.commit()";
    succeeded(in_folder().args(["-c", script]).arg(&database));
    assert_eq!(refreshed(&gateway, &refresh).0, 401);
}
