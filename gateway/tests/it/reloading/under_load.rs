//! F-30, F-31: reloads between two versions of the configuration under load, with invalid ones and key
//! rotations in between: no request fails, and each response is of one version throughout.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::load::{self, Load};
use super::{good_reloads, metric, replace};
use crate::fixture::{Connection, Gateway, PASSWORD, Upstream, login, tokens, wait_until};

/// The upstream of what is loaded changes with the version, too: its connections are given up each time.
fn version(name: &str, upstream: &Upstream, load: SocketAddr) -> String {
    let timeout = if name == "a" { 20 } else { 30 };
    format!(
        "[tokens]\naccess_ttl = \"1h\"\nrefresh_ttl = \"2h\"\n[log]\naccess = false\n[reload]\nwatch = false\n\
         [server]\nh2c = true\n[upstreams.app]\nurls = [\"http://{}\"]\n\
         [upstreams.load]\nurls = [\"http://{load}\"]\nresponse_timeout = \"{timeout}s\"\n\
         [[routes]]\npath = \"/load\"\nupstream = \"load\"\n\
         [[routes]]\npath = \"/version\"\nrespond = {{ status = 200, body = \"{name}\", content_type = \"text/plain\" }}\n\
         response_headers = {{ set = {{ X-Version = \"{name}\" }} }}\n\
         [[routes]]\npath = \"/only-{name}\"\nupstream = \"app\"\n\
         [[routes]]\npath = \"/app\"\nupstream = \"app\"\n\
         request_headers = {{ set = {{ X-Version = \"{name}\" }} }}\n\
         response_headers = {{ set = {{ X-Version = \"{name}\" }} }}\n",
        upstream.address
    )
}

#[derive(Default)]
struct Counts {
    of_a: AtomicUsize,
    of_b: AtomicUsize,
    connections: AtomicUsize,
}

/// Asks over one connection after the other, a hundred times over each.
fn keep_asking(gateway: SocketAddr, token: &str, stop: &AtomicBool, counts: &Counts) {
    let version = format!("GET /version HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\n\r\n");
    let upload = format!(
        "POST /app HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\nContent-Length: 5\r\n\r\nhello"
    );
    while !stop.load(Ordering::Relaxed) {
        let mut connection = Connection::open(gateway).unwrap();
        counts.connections.fetch_add(1, Ordering::Relaxed);
        for turn in 0..100 {
            let reply = match turn % 4 {
                3 => {
                    // The head alone goes through the reload; the body comes later.
                    let (head, body) = upload.split_at(upload.len() - 5);
                    connection.send(head.as_bytes()).unwrap();
                    std::thread::sleep(Duration::from_millis(2));
                    connection.send(body.as_bytes()).unwrap();
                    connection.reply().unwrap()
                }
                _ => {
                    connection.send(version.as_bytes()).unwrap();
                    connection.reply().unwrap()
                }
            };
            assert_eq!(reply.status, 200, "{reply:?}");
            let version = reply.field("x-version").unwrap().to_owned();
            match turn % 4 {
                3 => {
                    let seen = reply.json()["fields"].to_string().to_lowercase();
                    assert!(seen.contains(&format!("[\"x-version\",\"{version}\"]")), "{version}: {seen}");
                }
                _ => assert_eq!(reply.text(), version),
            }
            let counter = if version == "a" { &counts.of_a } else { &counts.of_b };
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[test]
fn reloads_under_load_fail_no_request() {
    let upstream = Upstream::start();
    let app = load::app();
    let versions = ["a", "b"].map(|name| version(name, &upstream, app));
    let gateway = Gateway::start(&versions[0]);
    let (token, _) = tokens(gateway.address, "alice", PASSWORD);
    let (stop, counts) = (Arc::new(AtomicBool::new(false)), Arc::new(Counts::default()));
    let clients = [(); 4].map(|()| {
        let (token, stop, counts) = (token.clone(), Arc::clone(&stop), Arc::clone(&counts));
        let address = gateway.address;
        std::thread::spawn(move || keep_asking(address, &token, &stop, &counts))
    });
    let load = Load::start(gateway.address, &token);
    let long = std::env::var_os("AUTH_GATEWAY_LONG").is_some();
    let (rounds, started) = (if long { 300 } else { 12 }, Instant::now());
    let (mut good, mut bad, mut keys) = (0, 0, 0);
    let mut memory = 0;
    for round in 1..=rounds {
        std::thread::sleep(Duration::from_millis(200));
        if round % 5 == 0 {
            let args = ["keys", "rotate", "--config", "gateway.toml"];
            let (code, _, said) = Gateway::command(gateway.dir.path(), &args, "");
            assert_eq!(code, 0, "{said}");
            keys += 1;
        }
        if round % 3 == 0 {
            replace(&gateway, "gateway.toml", &format!("{}[[routes", versions[round % 2]));
            gateway.signal("HUP");
            bad += 1;
            let failures = || metric(&gateway, "config_reloads_total{outcome=\"failure\"}");
            wait_until("the mistake is noticed", || failures() == bad);
        }
        replace(&gateway, "gateway.toml", &versions[round % 2]);
        gateway.signal("HUP");
        good += 1;
        wait_until("it is active", || good_reloads(&gateway) == good);
        assert_eq!(login(gateway.address, "bob", PASSWORD).status, 200);
        upstream.clear();
        if round == rounds / 4 {
            memory = gateway.memory_kib();
        }
    }
    let grown = gateway.memory_kib().saturating_sub(memory);
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        client.join().unwrap();
    }
    let load = load.end();
    let count = |counter: &AtomicUsize| counter.load(Ordering::Relaxed);
    println!(
        "{good} reloads, {bad} mistakes and {keys} new keys in {:?}: {} answers of one version and {} of the other over {} connections, \
         none failed; beside them {load}; {grown} KiB more than after a quarter of them ({memory} KiB)",
        started.elapsed(),
        count(&counts.of_a),
        count(&counts.of_b),
        count(&counts.connections),
    );
    assert!(count(&counts.of_a) > 100 && count(&counts.of_b) > 100);
    assert!(grown < 8 * 1024, "{grown} KiB");
}
