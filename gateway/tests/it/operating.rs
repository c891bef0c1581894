//! Operation: start, graceful shutdown, errors, commands.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use crate::fixture::{
    Gateway, PASSWORD, Upstream, exchange, free_address, get, request, tokens, users_file, wait_until,
};

fn config(upstream: &Upstream) -> String {
    format!(
        "[upstreams.app]\nurls = [\"http://{}\"]\n[[routes]]\npath = \"/\"\nupstream = \"app\"\naccess = \"public\"\n",
        upstream.address
    )
}

/// A folder with a configuration and a users file, for commands.
fn folder(config: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("config")).unwrap();
    fs::write(dir.path().join("config/users.toml"), users_file(&[("1", "alice", PASSWORD, &["user"])]))
        .unwrap();
    fs::write(dir.path().join("gateway.toml"), config).unwrap();
    dir
}

#[test]
fn graceful_shutdown_finishes_requests_in_flight() {
    let upstream = Upstream::start();
    let mut gateway = Gateway::start(&config(&upstream));
    let address = gateway.address;
    let mut idle = TcpStream::connect(address).unwrap();
    idle.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    idle.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    while idle.read(&mut [0; 4096]).is_ok() {}
    upstream.clear();
    let ask = b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n";
    let slow = std::thread::spawn(move || exchange(address, ask));
    wait_until("the request is at the upstream", || !upstream.requests().is_empty());
    let mut newcomer = TcpStream::connect(address).unwrap();
    gateway.terminate();
    idle.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    assert_eq!(idle.read(&mut [0]).unwrap(), 0, "an idle connection is closed at once");
    let greeting = b"GET /late HTTP/1.1\r\nHost: a\r\n\r\n";
    newcomer.write_all(greeting).unwrap();
    let mut answer = [0; 12];
    newcomer.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200", "who had just connected is served");
    wait_until("no new one is accepted", || TcpStream::connect(address).is_err());
    assert_eq!(get(gateway.admin, "/readyz", &[]).unwrap().status, 503, "and readiness reports it");
    let slow = slow.join().unwrap();
    assert_eq!((slow.replies[0].status, slow.closed), (200, true));
    assert_eq!(slow.replies[0].field("connection"), Some("close"), "it says that the connection ends");
    assert_eq!(gateway.wait().code(), Some(0));
}

#[test]
fn the_drain_ends_in_time_whatever_a_client_does() {
    let upstream = Upstream::start();
    let mut gateway = Gateway::start(&format!("[server]\ndrain_timeout = \"300ms\"\n{}", config(&upstream)));
    let mut stuck = TcpStream::connect(gateway.address).unwrap();
    stuck.write_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nx").unwrap();
    std::thread::sleep(Duration::from_millis(100));
    gateway.terminate();
    assert_eq!(gateway.wait().code(), Some(0));
}

#[test]
fn the_admin_listener_answers_machines_only() {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&config(&upstream));
    assert_eq!(get(gateway.admin, "/healthz", &[]).unwrap().text(), "ok\n");
    assert_eq!(get(gateway.admin, "/readyz", &[]).unwrap().json()["status"], "ready");
    assert_eq!(get(gateway.admin, "/other", &[]).unwrap().status, 404);
    assert_eq!(request(gateway.admin, "POST", "/metrics", &[], b"").unwrap().status, 405);
    assert_eq!(get(gateway.admin, "/metrics", &[("Origin", "http://evil.test")]).unwrap().status, 403);
    let rebound = b"GET /metrics HTTP/1.1\r\nHost: rebind.evil.test\r\n\r\n";
    assert_eq!(exchange(gateway.admin, rebound).replies[0].status, 403);
    get(gateway.address, "/x", &[]).unwrap();
    let line = "auth_gateway_requests_total{route=\"/\",status=\"2xx\"} 1";
    assert!(gateway.metrics().contains(line), "{}", gateway.metrics());
    assert_eq!(
        get(gateway.address, "/metrics", &[]).unwrap().json()["target"],
        "/metrics",
        "never on the public listener"
    );
}

#[test]
fn keys_are_made_once_kept_private_and_can_be_rotated() {
    let upstream = Upstream::start();
    let mut gateway = Gateway::start(&config(&upstream).replace("access = \"public\"", ""));
    let keys = |gateway: &Gateway| {
        get(gateway.address, "/.well-known/jwks.json", &[]).unwrap().json()["keys"].clone()
    };
    let first = keys(&gateway);
    for file in fs::read_dir(gateway.path("var/keys")).unwrap() {
        assert_eq!(file.unwrap().metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }
    let (access, refresh) = tokens(gateway.address, "alice", PASSWORD);
    gateway.kill();
    gateway.run();
    assert_eq!(keys(&gateway), first);

    let command = |args: &[&str]| {
        Gateway::command(gateway.dir.path(), &[args, &["--config", "gateway.toml"]].concat(), "")
    };
    let (code, published, _) = command(&["keys", "generate"]);
    assert_eq!(code, 0);
    let (code, _, complaint) = command(&["keys", "rotate"]);
    assert_eq!(code, 1);
    assert!(complaint.contains("--now"), "{complaint}");
    let (code, rotated, _) = command(&["keys", "rotate", "--now"]);
    assert_eq!((code, &rotated), (0, &published));
    let (_, list, _) = command(&["keys", "list"]);
    assert!(list.contains("signing") && list.contains("retired"), "{list}");
    gateway.kill();
    gateway.run();
    assert_eq!(keys(&gateway).as_array().unwrap().len(), 2);
    assert_eq!(keys(&gateway)[0]["kid"].as_str(), Some(published.trim()));
    let bearer = format!("Bearer {access}");
    assert_eq!(
        get(gateway.address, "/x", &[("Authorization", &bearer)]).unwrap().status,
        200,
        "the old key still verifies"
    );
    assert_eq!(crate::fixture::post(gateway.address, "/refresh", &refresh).status, 200);
}

#[test]
fn all_errors_are_reported_at_once_with_place_and_remedy() {
    let dir = folder(
        "[tokens]\nacess_ttl = \"60s\"\nalgorithm = \"none\"\n[lockout]\nwindow = 5\n[upstreams.app]\nurls = [\"http://127.0.0.1:1\"]\n\
         [[routes]]\npath = \"/\"\nupstream = \"ap\"\n",
    );
    for args in [&["check", "--config", "gateway.toml"][..], &["--config", "gateway.toml"]] {
        let (code, out, complaint) = Gateway::command(dir.path(), args, "");
        assert_eq!((code, out.as_str()), (78, ""), "{complaint}");
        for said in [
            "gateway.toml:2:",
            "unknown key `acess_ttl`",
            "did you mean `access_ttl`",
            "gateway.toml:3:",
            "`none` is never accepted",
            "gateway.toml:5:",
            "did you mean `app`",
        ] {
            assert!(complaint.contains(said), "{said:?} is not in\n{complaint}");
        }
    }
    let (code, _, complaint) = Gateway::command(dir.path(), &["check", "--config", "missing.toml"], "");
    assert_eq!(code, 78);
    assert!(complaint.contains("missing.toml"), "{complaint}");
    let (code, _, complaint) = Gateway::command(dir.path(), &[], "");
    assert_eq!(code, 78, "there is none at the default place: {complaint}");
    assert!(complaint.contains("/etc/auth-gateway/gateway.toml"), "{complaint}");
    assert_eq!(Gateway::command(dir.path(), &["chek"], "").0, 2);
}

#[test]
fn a_start_that_cannot_be_is_refused_with_its_reason() {
    let upstream = Upstream::start();
    let taken = free_address();
    let admin = free_address();
    let held = TcpListener::bind(taken).unwrap();
    let listen = format!("[server]\nlisten = \"{taken}\"\n[admin]\nlisten = \"{admin}\"\n");
    let start = |more: &str, prepare: &dyn Fn(&std::path::Path)| {
        let dir = folder(&format!("{listen}{more}{}", config(&upstream)));
        prepare(dir.path());
        let (code, _, complaint) = Gateway::command(dir.path(), &["--config", "gateway.toml"], "");
        (code, complaint)
    };
    let (code, complaint) = start("", &|_| {});
    assert_eq!(code, 1);
    assert!(complaint.contains(&taken.to_string()) && complaint.contains("server.listen"), "{complaint}");
    drop(held);
    let (code, complaint) =
        start("", &|dir| fs::write(dir.join("config/users.toml"), "[[users]]\nid = 1\n").unwrap());
    assert_eq!(code, 78);
    assert!(complaint.contains("users.toml:2"), "{complaint}");
    let (code, complaint) =
        start("[store]\npath = \"state\"\n", &|dir| fs::write(dir.join("state"), "rubbish").unwrap());
    assert_eq!(code, 1);
    assert!(complaint.contains("state") && complaint.contains("damaged"), "{complaint}");
    let (code, complaint) = start("[tokens]\nalgorithm = \"RS256\"\nprivate_key_file = \"key\"\n", &|dir| {
        fs::write(dir.join("key"), "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n").unwrap();
    });
    assert_eq!(code, 78);
    assert!(complaint.contains("openssl genpkey"), "{complaint}");
    let weak = "[tokens]\nalgorithm = \"HS256\"\nsecret = \"hunter2hunter2\"\n";
    let (code, complaint) = start(weak, &|_| {});
    assert_eq!(code, 78);
    assert!(complaint.contains("32") && !complaint.contains("hunter2"), "{complaint}");
}

#[test]
fn users_are_added_changed_and_shut_out_from_the_command_line() {
    let dir = folder(
        "[upstreams.app]\nurls = [\"http://127.0.0.1:1\"]\n[[routes]]\npath = \"/\"\nupstream = \"app\"\n",
    );
    let command = |args: &[&str], input: &str| {
        Gateway::command(dir.path(), &[&["users"], args, &["--config", "gateway.toml"]].concat(), input)
    };
    let (code, _, said) = command(&["add", "bob", "--role", "user,admin"], "a new password for bob\n");
    assert_eq!(code, 0, "{said}");
    assert_eq!(command(&["disable", "alice"], "").0, 0);
    let (_, list, _) = command(&["list"], "");
    assert!(list.contains("bob") && list.contains("disabled"), "{list}");
    let (code, _, said) = command(&["passwd", "bbo"], "x\n");
    assert_eq!(code, 1);
    assert!(said.contains("bob"), "{said}");
    let (code, hash, _) = Gateway::command(dir.path(), &["hash-password"], "a new password for bob\n");
    assert_eq!(code, 0);
    assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hash}");
    let (code, table, _) = Gateway::command(dir.path(), &["check", "--config", "gateway.toml"], "");
    assert_eq!(code, 0);
    assert!(table.contains("PATH") && table.contains("upstream app"), "{table}");
}

#[test]
fn the_admin_listener_answers_load_balancers_and_the_names_that_it_is_given() {
    let gateway = Gateway::start(
        "[admin]\nhosts = [\"gateway.svc\"]\n[store]\nkind = \"memory\"\n\
         [[routes]]\npath = \"/\"\naccess = \"public\"\nrespond = { status = 204 }\n",
    );
    let ask = |head: &str| {
        let mut socket = TcpStream::connect(gateway.admin).unwrap();
        socket.write_all(format!("{head}\r\n\r\n").as_bytes()).unwrap();
        let mut response = String::new();
        socket.read_to_string(&mut response).unwrap();
        response
    };
    for (head, status) in [
        ("GET /healthz HTTP/1.1\r\nHost: gateway.svc:9090\r\nConnection: close", 200),
        ("GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close", 200),
        ("GET /healthz HTTP/1.1\r\nHost: evil.example\r\nConnection: close", 403),
        ("GET /healthz HTTP/1.1\r\nHost: localhost\r\nOrigin: http://evil.example\r\nConnection: close", 403),
        ("GET /healthz HTTP/1.1\r\nConnection: close", 400),
        // As HAProxy's `option httpchk` asks, with and without a target of its own.
        ("OPTIONS / HTTP/1.0", 204),
        ("GET /healthz HTTP/1.0", 200),
        ("POST /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 0", 405),
    ] {
        let response = ask(head);
        assert_eq!(response.split(' ').nth(1), Some(status.to_string().as_str()), "{head}: {response}");
        let id = response.lines().find_map(|line| line.strip_prefix("x-request-id: ")).unwrap();
        let contains_id = format!("\"request_id\":\"{id}\"");
        assert!(id.len() >= 16 && (status < 400 || response.contains(&contains_id)), "{head}: {response}");
    }
}

#[test]
fn the_type_of_errors_is_a_setting_that_takes_effect_while_it_runs() {
    let upstream = Upstream::start();
    let private = config(&upstream).replace("access = \"public\"", "");
    let gateway = Gateway::start(&private);
    let kind = || get(gateway.address, "/x", &[]).unwrap().json()["type"].clone();
    assert_eq!(kind(), "about:blank");
    let with_base = format!("[errors]\ntype_base = \"https://docs.example/errors/#\"\n{private}");
    fs::write(gateway.path("gateway.toml"), with_base).unwrap();
    gateway.signal("HUP");
    wait_until("the type is that of the setting", || kind() == "https://docs.example/errors/#missing_token");
}
