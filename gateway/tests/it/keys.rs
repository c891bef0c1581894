//! Keys that change: another secret, another algorithm, and when the old one goes.

use std::fs;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{JoinHandle, sleep};
use std::time::Duration;

use crate::fixture::{Gateway, PASSWORD, get, post, tokens, users_file, wait_until};

const SECRET: &str = "kT7q/9vXw2LrZ0yBf4mEoN6uGhJc1sPdAi8WtVbRxYeQ3zU5";
const NEW_SECRET: &str = "Zp3/0aTn8mWq5xKbR7dYv2HcLs9JuEfGi4oXtB1kCwPrMhV6";

fn config(tokens: &str) -> String {
    format!(
        "[log]\naccess = false\n[store]\nkind = \"memory\"\n[tokens]\nissuer = \"http://gateways\"\n{tokens}\n\
         [[routes]]\npath = \"/app\"\nrespond = {{ status = 200, body = \"here\", content_type = \"text/plain\" }}\n"
    )
}

fn start(tokens: &str) -> Gateway {
    let files: [(&str, &[u8]); 2] = [("secret", SECRET.as_bytes()), ("new-secret", NEW_SECRET.as_bytes())];
    Gateway::start_with(&config(tokens), &users_file(&[("1", "alice", PASSWORD, &["user"])]), &files)
}

/// Puts a new configuration in place of the old one, in one step.
fn configure(gateway: &Gateway, tokens: &str) {
    fs::write(gateway.path("next"), config(tokens)).unwrap();
    fs::rename(gateway.path("next"), gateway.path("gateway.toml")).unwrap();
}

/// Waits for a key of an algorithm to be in a state.
fn wait_for_key(gateway: &Gateway, algorithm: &str, state: &str) {
    let labels = format!("algorithm=\"{algorithm}\",state=\"{state}\"}} 1");
    wait_until(&format!("{algorithm} {state}"), || gateway.metrics().contains(&labels));
}

fn status(gateway: SocketAddr, token: &str) -> u16 {
    get(gateway, "/app", &[("Authorization", &format!("Bearer {token}"))]).unwrap().status
}

/// A client that uses its access token and refreshes, again and again; whatever is refused fails the test.
fn keep_refreshing(
    address: SocketAddr,
    stop: &Arc<AtomicBool>,
    answered: &Arc<AtomicUsize>,
) -> JoinHandle<()> {
    let (stop, answered) = (Arc::clone(stop), Arc::clone(answered));
    std::thread::spawn(move || {
        let (mut access, mut refresh) = tokens(address, "alice", PASSWORD);
        while !stop.load(Ordering::Relaxed) {
            assert_eq!(status(address, &access), 200);
            let reply = post(address, "/refresh", &refresh);
            assert_eq!(reply.status, 200, "{reply:?}");
            let token = |name: &str| reply.json()[name].as_str().unwrap().to_owned();
            (access, refresh) = (token("access_token"), token("refresh_token"));
            answered.fetch_add(2, Ordering::Relaxed);
            sleep(Duration::from_millis(10));
        }
    })
}

#[test]
fn no_client_is_logged_out_when_secret_and_algorithm_change_and_change_back() {
    let gateway = start("algorithm = \"HS256\"\nsecret_file = \"secret\"");
    let (stop, answered) = <(Arc<AtomicBool>, Arc<AtomicUsize>)>::default();
    let clients = [(); 3].map(|()| keep_refreshing(gateway.address, &stop, &answered));
    // Clients that come back only in the end.
    let (first_access, first_refresh) = tokens(gateway.address, "alice", PASSWORD);
    configure(
        &gateway,
        "algorithm = \"EdDSA\"\nmigrate_from = { algorithm = \"HS256\", secret_file = \"secret\" }",
    );
    wait_for_key(&gateway, "EdDSA", "signing");
    let (second_access, second_refresh) = tokens(gateway.address, "alice", PASSWORD);
    wait_for_key(&gateway, "HS256", "previous");
    configure(
        &gateway,
        "algorithm = \"HS256\"\nsecret_file = \"new-secret\"\nprevious_secrets_file = [\"secret\"]\n\
         migrate_from = { algorithm = \"EdDSA\" }",
    );
    wait_for_key(&gateway, "HS256", "signing");
    sleep(Duration::from_millis(200));
    for token in [first_access, second_access] {
        assert_eq!(status(gateway.address, &token), 200);
    }
    for token in [first_refresh, second_refresh] {
        assert_eq!(post(gateway.address, "/refresh", &token).status, 200);
    }
    stop.store(true, Ordering::Relaxed);
    clients.into_iter().for_each(|client| client.join().unwrap());
    let (answered, page) = (answered.load(Ordering::Relaxed), gateway.metrics());
    println!("{answered} requests through two changes of the algorithm, none refused");
    assert!(answered > 50, "{answered}");
    let counts: Vec<_> =
        page.lines().filter(|line| line.starts_with("auth_gateway_key_verifications")).collect();
    assert_eq!(counts.len(), 3, "{counts:?}");
    assert!(counts.iter().all(|line| !line.ends_with(" 0")), "{counts:?}");
    // The public half is published for as long as there may be tokens.
    let jwks = get(gateway.address, "/.well-known/jwks.json", &[]).unwrap().json();
    assert_eq!(jwks["keys"].as_array().unwrap().len(), 1);
    for said in ["the key begins to sign", "HS256-", "EdDSA"] {
        assert!(gateway.log().contains(said), "{said}: {}", gateway.log());
    }
}

#[test]
fn a_previous_secret_goes_by_itself_when_its_last_token_has_expired_also_over_a_restart() {
    let lifetimes =
        "access_ttl = \"2s\"\nrefresh_ttl = \"2s\"\nprevious_grace = \"0s\"\nalgorithm = \"HS256\"\n";
    let mut gateway = start(&format!("{lifetimes}secret_file = \"secret\""));
    let (access, refresh) = tokens(gateway.address, "alice", PASSWORD);
    configure(
        &gateway,
        &format!("{lifetimes}secret_file = \"new-secret\"\nprevious_secrets_file = [\"secret\"]"),
    );
    wait_for_key(&gateway, "HS256", "previous");
    assert_eq!(status(gateway.address, &access), 200);
    let expiry = |gateway: &Gateway| {
        let page = gateway.metrics();
        page.lines()
            .find(|line| line.starts_with("auth_gateway_key_expiry_timestamp_seconds{"))
            .map(str::to_owned)
    };
    let before = expiry(&gateway);
    gateway.kill();
    gateway.run();
    assert_eq!(expiry(&gateway), before, "a restart prolongs nothing");
    assert!(before.is_some());
    wait_until("the old secret is gone", || expiry(&gateway).is_none());
    for reply in [
        get(gateway.address, "/app", &[("Authorization", &format!("Bearer {access}"))]).unwrap(),
        post(gateway.address, "/refresh", &refresh),
    ] {
        assert_eq!((reply.status, reply.json()["code"].as_str()), (401, Some("invalid_token")));
    }
    assert!(gateway.log().contains("verifies no more"), "{}", gateway.log());
}
