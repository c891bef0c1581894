//! Machines and scripts: personal access tokens, and HTTP Basic with real clients.

mod basic;
mod clients;
mod oauth;
mod pages;
mod tokens;

use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::fixture::{Gateway, PASSWORD, Reply, Upstream, get, request, tokens as log_in, until_not_busy};

/// A gateway's configuration: `/app` needs a token, `/dav` also takes Basic, `/admin` a role. `more` comes first.
fn config(upstream: &Upstream, more: &str) -> String {
    format!(
        "{more}\n[personal_tokens]\nenabled = true\n[upstreams.app]\nurls = [\"http://{}\"]\n\
         [[routes]]\npath = \"/app\"\nupstream = \"app\"\n\
         [[routes]]\npath = \"/dav\"\nupstream = \"app\"\nbasic = true\n\
         [[routes]]\npath = \"/admin\"\nupstream = \"app\"\nroles = [\"admin\"]\n\
         [upstreams.endless]\nurls = [\"http://{}\"]\n[[routes]]\npath = \"/stream\"\nupstream = \"endless\"\n\
         [[routes]]\npath = \"/open\"\nupstream = \"app\"\naccess = \"public\"\n",
        upstream.address,
        endless()
    )
}

/// An upstream whose responses never end.
fn endless() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for mut socket in listener.incoming().flatten() {
            thread::spawn(move || {
                let head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
                let mut written = socket.write_all(head);
                while written.is_ok() {
                    written = socket.write_all(b"1\r\n.\r\n");
                    thread::sleep(Duration::from_millis(20));
                }
            });
        }
    });
    address
}

fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}

fn basic(name: &str, password: &str) -> String {
    use base64::Engine as _;
    format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(format!("{name}:{password}")))
}

/// `GET` with this `Authorization`.
fn with(gateway: &Gateway, target: &str, authorization: &str) -> Reply {
    until_not_busy(|| get(gateway.address, target, &[("Authorization", authorization)]).unwrap())
}

/// Asks for a token with the access token of a user.
fn ask(gateway: &Gateway, access: &str, body: &Value) -> Reply {
    let fields = [("Authorization", &*bearer(access)), ("Content-Type", "application/json")];
    request(gateway.address, "POST", "/tokens", &fields, body.to_string().as_bytes()).unwrap()
}

/// A new token of a user: its text and its id.
fn make(gateway: &Gateway, user: &str, more: &Value) -> (String, String) {
    let (access, _) = log_in(gateway.address, user, PASSWORD);
    let mut body = json!({"name": "a script"});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let reply = ask(gateway, &access, &body);
    assert_eq!(reply.status, 201, "{}", reply.text());
    let text = |name: &str| reply.json()[name].as_str().unwrap().to_owned();
    (text("token"), text("id"))
}
