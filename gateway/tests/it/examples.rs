//! The examples of config/examples, each with the real proxy in front of the gateway.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use socket2::{Domain, Socket, Type};
use tempfile::TempDir;

use crate::fixture::{Gateway, PASSWORD, Upstream, free_address, get, request, users_file, wait_until};

const EXAMPLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../config/examples");

/// A proxy in front of the gateway; it is ended when this is dropped.
struct Front {
    child: Child,
    address: SocketAddr,
    _folder: TempDir,
}

impl Drop for Front {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An example with the addresses of this test in it.
fn example(file: &str, addresses: &[(&str, SocketAddr)]) -> String {
    let text = fs::read_to_string(Path::new(EXAMPLES).join(file)).unwrap();
    addresses.iter().fold(text, |text, (port, address)| {
        assert!(text.contains(port), "{file} does not mention {port}");
        text.replace(port, &address.port().to_string())
    })
}

/// The gateway of `behind-a-proxy.toml`.
fn gateway(upstream: &Upstream) -> Gateway {
    let text = example("behind-a-proxy.toml", &[("3000", upstream.address)]);
    let users = users_file(&[("1", "alice", PASSWORD, &["user"])]);
    Gateway::start_with(&text, "", &[("users.toml", users.as_bytes())])
}

fn program(names: &[&str]) -> PathBuf {
    let python = std::env::var("AUTH_GATEWAY_PYTHON").unwrap_or_default();
    let beside_python = Path::new(&python).parent().map(Path::to_owned);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into()]).chain(beside_python);
    let found =
        folders.flat_map(|folder| names.iter().map(move |name| folder.join(name))).find(|p| p.exists());
    found.unwrap_or_else(|| panic!("none of {names:?} is installed: run .ci/test, which installs them"))
}

/// Starts a proxy with its example.
fn start(name: &str, gateway: &Gateway) -> Front {
    let folder = tempfile::tempdir().unwrap();
    let (address, root) = (free_address(), folder.path().to_owned());
    let listens = [("8000", address), ("8080", gateway.address)];
    let write = |file: &str, text: String| {
        fs::write(root.join(file), text).unwrap();
        root.join(file)
    };
    let mut command = match name {
        "nginx" => {
            let site = example("nginx/auth-gateway.conf", &listens);
            let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
                .map(|what| format!("{what}_temp_path {what};\n"))
                .concat();
            let all = format!(
                "daemon off;\npid nginx.pid;\nerror_log error.log;\nevents {{}}\nhttp {{\naccess_log off;\n{temporary}{site}}}\n"
            );
            let file = write("nginx.conf", all);
            let mut command = Command::new(program(&["nginx"]));
            command.arg("-p").arg(&root).arg("-c").arg(file);
            command
        }
        "haproxy" => {
            let text = example("haproxy/haproxy.cfg", &[&listens[..], &[("9090", gateway.admin)]].concat());
            let mut command = Command::new(program(&["haproxy"]));
            command.arg("-db").arg("-f").arg(write("haproxy.cfg", text));
            command
        }
        "caddy" => {
            let file = write("Caddyfile", example("caddy/Caddyfile", &listens));
            let mut command = Command::new(program(&["caddy"]));
            command.args(["run", "--adapter", "caddyfile", "--config"]).arg(file);
            command.env("HOME", &root).env("XDG_DATA_HOME", &root).env("XDG_CONFIG_HOME", &root);
            command
        }
        _ => {
            let file = write("envoy.yaml", example("envoy/envoy.yaml", &listens));
            let mut command = Command::new(program(&["envoy"]));
            command
                .args(["--log-level", "error", "--concurrency", "1", "--use-dynamic-base-id", "-c"])
                .arg(file);
            command
        }
    };
    let log = fs::File::create(root.join("log")).unwrap();
    let errors = log.try_clone().unwrap();
    let child = command.current_dir(&root).stdin(Stdio::null()).stdout(log).stderr(errors).spawn().unwrap();
    let front = Front { child, address, _folder: folder };
    wait_until(&format!("{name} serves: {:?}", fs::read_to_string(root.join("log"))), || {
        get(address, "/public", &[]).is_some_and(|reply| reply.status == 200)
    });
    front
}

/// An address of a client that is no trusted proxy.
const ELSEWHERE: &str = "127.0.0.2";

/// The response to a request from another loopback address than that of the proxies.
fn get_from_elsewhere(address: SocketAddr, target: &str, fields: &str) -> String {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::new(ELSEWHERE.parse().unwrap(), 0).into()).unwrap();
    socket.connect(&address.into()).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let mut stream = TcpStream::from(socket);
    write!(stream, "GET {target} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n{fields}\r\n\r\n")
        .unwrap();
    let mut reply = Vec::new();
    stream.read_to_end(&mut reply).unwrap();
    String::from_utf8_lossy(&reply).into_owned()
}

#[test]
fn every_example_of_a_proxy_in_front_passes_tokens_identity_and_addresses() {
    let upstream = Upstream::start();
    let gateway = gateway(&upstream);
    for (number, name) in ["nginx", "haproxy", "caddy", "envoy"].into_iter().enumerate() {
        let front = start(name, &gateway);
        assert_eq!(get(front.address, "/hello", &[]).unwrap().status, 401, "{name}");
        let body = format!("{{\"username\":\"alice\",\"password\":{PASSWORD:?}}}");
        let fields = [("Content-Type", "application/json")];
        let reply = request(front.address, "POST", "/auth/login", &fields, body.as_bytes()).unwrap();
        assert_eq!(reply.status, 200, "{name}: {}", reply.text());
        let token = reply.json()["access_token"].as_str().unwrap().to_owned();

        let forged = format!(
            "Authorization: Bearer {token}\r\nX-Auth-User: root\r\nX-Forwarded-For: 203.0.113.9\r\n\
             X-Forwarded-Prefix: /forged\r\nX-Forwarded-Port: 6666\r\nX-Forwarded-Ssl: on\r\n\
             X-Forwarded-Host: forged.example\r\nX-Forwarded-Proto: https\r\n\
             Forwarded: for=203.0.113.9;host=forged.example;proto=https"
        );
        let reply = get_from_elsewhere(front.address, "/hello/%7Ea?b=%2F", &forged);
        assert!(reply.starts_with("HTTP/1.1 200"), "{name}: {reply}");
        let seen = upstream.last();
        assert_eq!(seen.values("x-auth-user"), ["alice"], "{name}");
        assert_eq!(seen.target, "/hello/%7Ea?b=%2F", "{name} forwards the target as it was sent");
        assert_eq!(seen.values("x-forwarded-proto"), ["http"], "{name}");
        assert_eq!(seen.values("x-forwarded-host"), [front.address.to_string()], "{name}");
        for field in ["x-forwarded-prefix", "x-forwarded-port", "x-forwarded-ssl"] {
            assert!(seen.values(field).is_empty(), "{name} passes on a client's own {field}");
        }
        assert!(!seen.values("forwarded").concat().contains("forged"), "{name}");
        let lines = || {
            let lines: Vec<serde_json::Value> =
                gateway.log().lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
            lines.into_iter().filter(|line| line["path"] == "/hello/%7Ea").collect::<Vec<_>>()
        };
        wait_until("the access line is written", || lines().len() > number);
        assert_eq!(lines()[number]["client"], ELSEWHERE, "{name}: a client's own claim is not believed");
    }
}
