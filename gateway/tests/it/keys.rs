//! Keys that change: another secret, another algorithm, and when the old one goes.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{JoinHandle, sleep};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

use crate::fixture::{Gateway, PASSWORD, RedisServer, get, post, tokens, users_file, wait_until};

const MEMORY: &str = "kind = \"memory\"";
const SECRET: &str = "kT7q/9vXw2LrZ0yBf4mEoN6uGhJc1sPdAi8WtVbRxYeQ3zU5";
const NEW_SECRET: &str = "Zp3/0aTn8mWq5xKbR7dYv2HcLs9JuEfGi4oXtB1kCwPrMhV6";

fn config(store: &str, tokens: &str) -> String {
    format!(
        "[log]\naccess = false\n[store]\n{store}\n[tokens]\nissuer = \"http://gateways\"\n{tokens}\n\
         [[routes]]\npath = \"/app\"\nrespond = {{ status = 200, body = \"here\", content_type = \"text/plain\" }}\n"
    )
}

fn start(tokens: &str) -> Gateway {
    let files: [(&str, &[u8]); 2] = [("secret", SECRET.as_bytes()), ("new-secret", NEW_SECRET.as_bytes())];
    Gateway::start_with(&config(MEMORY, tokens), &users_file(&[("1", "alice", PASSWORD, &["user"])]), &files)
}

/// Replaces the configuration in one step.
fn configure(gateway: &Gateway, tokens: &str) {
    fs::write(gateway.path("next"), config(MEMORY, tokens)).unwrap();
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
            (access, refresh) = reply.tokens();
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
        gateway.wait_for_log(said);
    }
}

#[test]
fn a_previous_secret_goes_by_itself_when_its_last_token_has_expired_also_over_a_restart() {
    let lifetimes =
        "access_ttl = \"6s\"\nrefresh_ttl = \"6s\"\nprevious_grace = \"0s\"\nalgorithm = \"HS256\"\n";
    let mut gateway = start(&format!("{lifetimes}secret_file = \"secret\""));
    let (access, refresh) = tokens(gateway.address, "alice", PASSWORD);
    configure(
        &gateway,
        &format!("{lifetimes}secret_file = \"new-secret\"\nprevious_secrets_file = [\"secret\"]"),
    );
    wait_for_key(&gateway, "HS256", "previous");
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
    // The metrics follow the clock; the record is written by the next round of the keys' task.
    wait_until("the end of the old secret is in the log", || gateway.log().contains("verifies no more"));
}

/// Two gateways with one key folder and one Redis.
fn pair(redis: &RedisServer, folder: &Path, more: &str) -> [Gateway; 2] {
    let store = format!("kind = \"redis\"\nredis.url = \"{}\"", redis.url());
    let text = config(&store, &format!("keys_dir = {folder:?}\n{more}"));
    let users = users_file(&[("1", "alice", PASSWORD, &["user"])]);
    [(); 2].map(|()| Gateway::start_with(&text, &users, &[]))
}

fn command(gateway: &Gateway, words: &str) -> String {
    let words: Vec<&str> = words.split(' ').collect();
    let (code, output, complaint) = gateway.run_command(&words, "");
    assert_eq!(code, 0, "{complaint}");
    output
}

fn kid(token: &str) -> String {
    let header = URL_SAFE_NO_PAD.decode(token.split('.').next().unwrap()).unwrap();
    serde_json::from_slice::<Value>(&header).unwrap()["kid"].as_str().unwrap().to_owned()
}

fn published(gateway: &Gateway) -> Vec<String> {
    let jwks = get(gateway.address, "/.well-known/jwks.json", &[]).unwrap().json();
    jwks["keys"].as_array().unwrap().iter().map(|key| key["kid"].as_str().unwrap().to_owned()).collect()
}

/// The key is as old as the schedule says, all but some seconds: two gateways would otherwise have to run for a month.
#[test]
fn two_gateways_rotate_on_schedule_publish_before_they_sign_and_refuse_nothing() {
    const EVERY: u64 = 30 * 24 * 3600;
    let (redis, folder) = (RedisServer::start(), tempfile::tempdir().unwrap());
    let schedule = "key_rotation = { every = \"30d\", publish_before = \"1h\" }";
    let gateways = pair(&redis, folder.path(), schedule);
    let first = published(&gateways[0])[0].clone();
    let (stop, answered) = <(Arc<AtomicBool>, Arc<AtomicUsize>)>::default();
    let addresses = [gateways[0].address, gateways[1].address];
    // Each client signs in at one gateway and uses its tokens at both.
    let clients: Vec<_> = [(0, 1), (1, 0)]
        .map(|(here, there)| {
            let (stop, answered) = (Arc::clone(&stop), Arc::clone(&answered));
            let (mut access, mut refresh) = tokens(addresses[here], "alice", PASSWORD);
            std::thread::spawn(move || {
                let mut signed = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    for address in addresses {
                        assert_eq!(status(address, &access), 200);
                    }
                    let reply = post(addresses[there], "/refresh", &refresh);
                    assert_eq!(reply.status, 200, "{reply:?}");
                    (access, refresh) = reply.tokens();
                    signed.push((Instant::now(), kid(&access)));
                    answered.fetch_add(3, Ordering::Relaxed);
                    sleep(Duration::from_millis(10));
                }
                signed
            })
        })
        .into();
    let list = folder.path().join("keys.json");
    let age = |place: usize, created_at: u64| {
        let mut keys: Value = serde_json::from_slice(&fs::read(&list).unwrap()).unwrap();
        keys["keys"][place]["created_at"] = created_at.into();
        if place == 0 {
            keys["keys"][0]["signs_since"] = created_at.into();
        }
        fs::write(folder.path().join("next"), keys.to_string()).unwrap();
        fs::rename(folder.path().join("next"), &list).unwrap();
    };
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    age(0, now() - EVERY + 1800);
    let seen = gateways.each_ref().map(|gateway| {
        wait_until("the next key is published", || published(gateway).len() == 2);
        Instant::now()
    });
    let next = published(&gateways[0]).into_iter().find(|kid| *kid != first).unwrap();
    age(1, now() - 3600);
    age(0, now() - EVERY + 1);
    for gateway in &gateways {
        let signs = format!("key=\"{next}\",algorithm=\"EdDSA\",state=\"signing\"}} 1");
        wait_until("the next key signs", || gateway.metrics().contains(&signs));
    }
    let so_far = answered.load(Ordering::Relaxed);
    wait_until("both have gone on", || answered.load(Ordering::Relaxed) > so_far + 100);
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        let signed = client.join().unwrap();
        let began = signed.iter().find(|(_, kid)| *kid == next).expect("it signs at both").0;
        assert!(seen.iter().all(|seen| *seen < began), "published everywhere before it signs");
        assert!(signed.iter().all(|(_, kid)| *kid == first || *kid == next));
    }
    let answered = answered.load(Ordering::Relaxed);
    println!("{answered} requests at two gateways through a scheduled rotation, none refused");
    assert!(answered > 100, "{answered}");
    for said in ["published by the schedule", "rotated by the schedule"] {
        let times = || gateways.iter().map(|gateway| gateway.log().matches(said).count()).sum::<usize>();
        wait_until(said, || times() > 0);
        assert_eq!(times(), 1, "{said}: one of them acts");
    }
    for gateway in &gateways {
        wait_until("the log has both", || gateway.log().matches("begins to sign").count() == 2);
    }
}

#[test]
fn what_a_revoked_key_signed_ends_at_once_at_both_gateways_and_another_key_signs() {
    let (redis, folder) = (RedisServer::start(), tempfile::tempdir().unwrap());
    let gateways = pair(&redis, folder.path(), "");
    let [here, there] = gateways.each_ref().map(|gateway| gateway.address);
    let older = tokens(here, "alice", PASSWORD);
    command(&gateways[0], "keys rotate");
    let signs = |kid: &str| format!("key=\"{kid}\",algorithm=\"EdDSA\",state=\"signing\"}} 1");
    // Published for ten seconds before it signs, or else the only one.
    let stolen = kid(&older.0);
    let sessions = || command(&gateways[0], "sessions list").lines().count() - 1;
    assert_eq!((status(there, &older.0), sessions()), (200, 1));
    command(&gateways[1], &format!("keys revoke {stolen}"));
    for gateway in &gateways {
        wait_until("it is refused", || status(gateway.address, &older.0) == 401);
        assert_eq!(post(gateway.address, "/refresh", &older.1).status, 401);
        // The other one may have ended the session before this one has read the folder.
        wait_until("it is not published", || !published(gateway).contains(&stolen));
        wait_until("the log says so", || gateway.log().contains("the key was taken away"));
    }
    wait_until("its session is over", || sessions() == 0);
    let (access, refresh) = tokens(here, "alice", PASSWORD);
    assert_ne!(kid(&access), stolen);
    for gateway in &gateways {
        assert_eq!(status(gateway.address, &access), 200);
        wait_until("it signs", || gateway.metrics().contains(&signs(&kid(&access))));
    }
    assert_eq!(post(there, "/refresh", &refresh).status, 200);
    assert!(!folder.path().join(format!("{stolen}.pem")).exists());
    // The one that signs now.
    command(&gateways[0], &format!("keys revoke {}", kid(&access)));
    wait_until("it is refused", || gateways.iter().all(|gateway| status(gateway.address, &access) == 401));
    let is_gone = |gateway: &Gateway| !published(gateway).contains(&kid(&access));
    wait_until("it is not published", || gateways.iter().all(is_gone));
    let (access, _) = tokens(there, "alice", PASSWORD);
    // A key that was not published before is known to the other one when that has read the folder.
    wait_until("the new key is known", || {
        gateways.iter().all(|gateway| status(gateway.address, &access) == 200)
    });
    let (code, _, complaint) = gateways[0].run_command(&["keys", "revoke", "no-such-key"], "");
    assert!(code == 1 && complaint.contains("keys list"), "{complaint}");
}

#[test]
fn a_download_ends_when_the_key_of_its_token_is_taken_away() {
    let app = TcpListener::bind("127.0.0.1:0").unwrap();
    let text = format!(
        "[upstreams.app]\nurls = [\"http://{}\"]\n[[routes]]\npath = \"/app\"\nupstream = \"app\"\n",
        app.local_addr().unwrap()
    );
    let gateway = Gateway::start(&text);
    let (access, _) = tokens(gateway.address, "alice", PASSWORD);
    let mut client = TcpStream::connect(gateway.address).unwrap();
    write!(client, "GET /app HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {access}\r\n\r\n").unwrap();
    let (mut socket, _) = app.accept().unwrap();
    let mut head = [0; 2048];
    assert!(socket.read(&mut head).unwrap() > 0);
    socket.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nhalf").unwrap();
    let mut begun = [0; 17];
    client.read_exact(&mut begun).unwrap();
    command(&gateway, &format!("keys revoke {}", kid(&access)));
    client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let mut rest = Vec::new();
    // Closed, or reset.
    let _ = client.read_to_end(&mut rest);
    wait_until("the log says why", || gateway.log().contains("session_revoked"));
}
