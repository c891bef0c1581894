//! Hot reload of single changes.

use std::fs;

use super::{good_reloads, metric, replace, status};
use crate::fixture::{Connection, Gateway, PASSWORD, Upstream, get, tokens, wait_until};

fn config(upstream: &Upstream, more: &str) -> String {
    format!(
        "[log]\naccess = false\n{more}\n[upstreams.app]\nurls = [\"http://{}\"]\n\
         [[routes]]\npath = \"/app\"\nupstream = \"app\"\naccess = \"public\"\n",
        upstream.address
    )
}

#[test]
fn a_changed_file_is_hot_reloaded_and_connections_stay() {
    let upstream = Upstream::start();
    let first = config(&upstream, "");
    let gateway = Gateway::start(&first);
    let mut connection = Connection::open(gateway.address).unwrap();
    let mut ask = |path: &str| {
        connection.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes()).unwrap();
        connection.reply().unwrap().status
    };
    assert_eq!((ask("/app"), ask("/new")), (200, 404));
    let route = "[[routes]]\npath = \"/new\"\nupstream = \"app\"\naccess = \"public\"\n";
    replace(&gateway, "gateway.toml", &format!("{first}{route}"));
    wait_until("the new route is there", || good_reloads(&gateway) == 1);
    assert_eq!((ask("/app"), ask("/new")), (200, 200), "over the same connection");
    wait_until("the log says so", || gateway.log().contains("changed: routes[/new].path"));
    assert_eq!(upstream.connections(), 1, "the upstream is the same, and so are its connections");

    // In place, as some editors write; and a route that goes.
    fs::write(gateway.path("gateway.toml"), &first).unwrap();
    wait_until("the new route is gone", || good_reloads(&gateway) == 2);
    assert_eq!((ask("/app"), ask("/new")), (200, 404));
    for line in [
        "auth_gateway_requests_total{route=\"/app\",status=\"2xx\"} 3",
        "auth_gateway_requests_total{route=\"/new\",status=\"2xx\"} 1",
        "auth_gateway_requests_total{route=\"(none)\",status=\"4xx\"} 2",
    ] {
        // Counted when the answer has been sent.
        wait_until(line, || gateway.metrics().lines().any(|l| l == line));
    }
}

#[test]
fn an_invalid_configuration_changes_nothing_and_is_reported_as_at_the_start() {
    let upstream = Upstream::start();
    let first = config(&upstream, "");
    let gateway = Gateway::start(&first);
    let route = "[[routes]]\npath = \"/new\"\nupstream = \"app\"\naccess = \"public\"\n";
    let certificate =
        "[server.tls]\ncertificates = [{ certificate_file = \"bad.pem\", private_key_file = \"bad.pem\" }]\n";
    fs::write(gateway.path("bad.pem"), "no certificate").unwrap();
    let mistakes = [
        (
            format!("{first}{route}upstram = \"app\"\n"),
            "unknown key `upstram` in [[routes]]; did you mean `upstream`?",
        ),
        (format!("{first}{route}[[routes"), "gateway.toml:"),
        (format!("{certificate}{first}{route}"), "bad.pem"),
        (format!("[users]\nfile = \"none.toml\"\n{first}{route}"), "none.toml does not exist"),
        (format!("[tokens]\nkeys_dir = \"bad.pem\"\n{first}{route}"), "cannot keep keys in bad.pem"),
    ];
    for (round, (text, said)) in mistakes.iter().enumerate() {
        replace(&gateway, "gateway.toml", text);
        let failed = || metric(&gateway, "config_reloads_total{outcome=\"failure\"}") > round as u64;
        wait_until("the mistake is noticed", failed);
        wait_until("the mistake is in the log", || gateway.log().contains(said));
        assert_eq!(metric(&gateway, "config_up_to_date"), 0);
        let ready = get(gateway.admin, "/readyz", &[]).unwrap();
        assert_eq!((ready.status, ready.json()["status"].as_str()), (200, Some("degraded")));
        assert_eq!((status(&gateway, "/app"), status(&gateway, "/new")), (200, 404));
    }
    assert_eq!(good_reloads(&gateway), 0);
    replace(&gateway, "gateway.toml", &format!("{first}{route}"));
    wait_until("it is put right", || metric(&gateway, "config_up_to_date") == 1);
    assert_eq!((status(&gateway, "/app"), status(&gateway, "/new")), (200, 200));
}

#[test]
fn what_needs_a_restart_keeps_its_value_and_is_named() {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&config(&upstream, "[reload]\nwatch = false\n[limits]\nhash_threads = 1"));
    let changed = "[reload]\nwatch = false\n[limits]\nhash_threads = 2\nmax_body = \"1KiB\"\n[store]\nkind = \"memory\"";
    let (_, refresh) = tokens(gateway.address, "alice", PASSWORD);
    replace(&gateway, "gateway.toml", &config(&upstream, changed));
    std::thread::sleep(std::time::Duration::from_millis(1500));
    assert_eq!(good_reloads(&gateway), 0, "it is not watched");
    gateway.signal("HUP");
    wait_until("it is read", || good_reloads(&gateway) == 1);
    wait_until("the log has all of it", || gateway.log().contains("changed: store.kind"));
    let log = gateway.log();
    let named =
        |key: &str| log.lines().any(|line| line.contains("config_restart_required") && line.contains(key));
    assert!(named("limits.hash_threads") && named("store.kind") && !named("max_body"), "{log}");
    let bearer = format!("Bearer {refresh}");
    let again =
        crate::fixture::request(gateway.address, "POST", "/refresh", &[("Authorization", &bearer)], b"");
    assert_eq!(again.unwrap().status, 200, "the store is the one of the start");
    let large = crate::fixture::request(gateway.address, "POST", "/app", &[], &[b'x'; 2000]).unwrap();
    assert_eq!(large.status, 413);
    gateway.signal("HUP");
    wait_until("it is read again", || gateway.log().contains("nothing has changed"));
}

#[test]
fn a_secret_that_changes_in_its_file_verifies_from_then_on() {
    let upstream = Upstream::start();
    let keys = "[tokens]\nalgorithm = \"HS256\"\nsecret_file = \"secret\"\n";
    let config = config(&upstream, keys).replace("access = \"public\"\n", "");
    let users = crate::fixture::users_file(&[("1", "alice", PASSWORD, &["user"])]);
    let gateway = Gateway::start_with(&config, &users, &[("secret", b"pM3kz1v8Qw7rT5yX2bN9cL4dF6gH0jKs")]);
    let (old, _) = tokens(gateway.address, "alice", PASSWORD);
    let answer = |token: &str| {
        get(gateway.address, "/app", &[("Authorization", &format!("Bearer {token}"))]).unwrap().status
    };
    assert_eq!(answer(&old), 200);
    replace(&gateway, "secret", "kT8yX2bN9cL4dF6gH0jKspM3kz1v8Qw7");
    wait_until("the secret is another", || answer(&old) == 401);
    let (new, _) = tokens(gateway.address, "alice", PASSWORD);
    assert_eq!(answer(&new), 200);
    wait_until("the log says so", || gateway.log().contains("changed: the file secret"));
}
