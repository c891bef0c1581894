//! Repeated key rotation while four gateways share the keys: no valid token is rejected, whichever gateway
//! issued it and whenever each of them reloads its keys.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::good_reloads;
use crate::fixture::{Connection, Gateway, PASSWORD, get, post, tokens, wait_until};

const GATEWAYS: usize = 4;
/// A lifetime that outlasts several keys, and how much of it is used: a token may be on its way for a while.
const LIFETIME: Duration = Duration::from_secs(10);
const USED: Duration = Duration::from_secs(8);

fn config(keys: &str) -> String {
    format!(
        "[log]\naccess = false\n[reload]\nwatch = false\n[store]\nkind = \"memory\"\n\
         [tokens]\nissuer = \"http://gateways\"\naccess_ttl = \"{}s\"\nkeys_dir = \"{keys}\"\n\
         [[routes]]\npath = \"/app\"\nrespond = {{ status = 200, body = \"here\", content_type = \"text/plain\" }}\n",
        LIFETIME.as_secs()
    )
}

/// Tokens with the time of their issue, the oldest first.
type Purse = Arc<Mutex<VecDeque<(Instant, String)>>>;

/// Uses all valid tokens, at one gateway after the other.
fn keep_asking(gateways: [SocketAddr; GATEWAYS], purse: &Purse, stop: &AtomicBool, answered: &AtomicUsize) {
    while !stop.load(Ordering::Relaxed) {
        for gateway in gateways {
            let mut connection = Connection::open(gateway).unwrap();
            let valid: Vec<_> = {
                let mut purse = purse.lock().unwrap();
                purse.retain(|(issued, _)| issued.elapsed() < USED);
                // The newest, and some of all ages.
                purse.iter().rev().take(3).chain(purse.iter().step_by(7)).cloned().collect()
            };
            for (issued, token) in valid {
                let ask = format!("GET /app HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\n\r\n");
                connection.send(ask.as_bytes()).unwrap();
                let reply = connection.reply().unwrap();
                if issued.elapsed() < USED {
                    assert_eq!(reply.status, 200, "{:?} old: {reply:?}", issued.elapsed());
                }
                answered.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

#[test]
fn no_valid_token_is_refused_while_keys_change_and_gateways_read_them_at_different_times() {
    let keys = tempfile::tempdir().unwrap();
    let text = config(keys.path().to_str().unwrap());
    let gateways = [(); GATEWAYS].map(|()| Gateway::start(&text));
    let addresses = std::array::from_fn(|index| gateways[index].address);
    let purse = Purse::default();
    let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    // Each gateway issues one token after the other.
    let issuers = addresses.map(|address| {
        let (purse, stop) = (Arc::clone(&purse), Arc::clone(&stop));
        std::thread::spawn(move || {
            let (_, mut refresh) = tokens(address, "alice", PASSWORD);
            while !stop.load(Ordering::Relaxed) {
                let reply = post(address, "/refresh", &refresh);
                assert_eq!(reply.status, 200, "{reply:?}");
                let token = |name: &str| reply.json()[name].as_str().unwrap().to_owned();
                refresh = token("refresh_token");
                purse.lock().unwrap().push_back((Instant::now(), token("access_token")));
                std::thread::sleep(Duration::from_millis(20));
            }
        })
    });
    let clients = [(); 3].map(|()| {
        let (purse, stop, answered) = (Arc::clone(&purse), Arc::clone(&stop), Arc::clone(&answered));
        std::thread::spawn(move || keep_asking(addresses, &purse, &stop, &answered))
    });
    let rotations = if std::env::var_os("AUTH_GATEWAY_LONG").is_some() { 60 } else { 6 };
    let started = Instant::now();
    let command = |words: &[&str]| {
        let arguments = [&["--config", "gateway.toml", "keys"], words].concat();
        let (code, _, said) = Gateway::command(gateways[0].dir.path(), &arguments, "");
        assert_eq!(code, 0, "{said}");
    };
    let read_by = |index: usize| {
        let gateway: &Gateway = &gateways[index];
        let before = good_reloads(gateway);
        gateway.signal("HUP");
        wait_until("the keys are read", || good_reloads(gateway) > before);
    };
    for rotation in 0..rotations {
        // Published everywhere before it signs anywhere.
        command(&["generate"]);
        (0..GATEWAYS).for_each(read_by);
        command(&["rotate", "--now"]);
        for index in 0..GATEWAYS {
            read_by((rotation + index) % GATEWAYS);
            std::thread::sleep(Duration::from_millis(50));
        }
        let next = started + Duration::from_secs(rotation as u64 + 1);
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    wait_until("a hundred tokens were shown", || answered.load(Ordering::Relaxed) >= 100);
    stop.store(true, Ordering::Relaxed);
    issuers.into_iter().chain(clients).for_each(|thread| thread.join().unwrap());
    let jwks = get(addresses[0], "/.well-known/jwks.json", &[]).unwrap().json();
    println!(
        "{rotations} new keys at {GATEWAYS} gateways in {:?}: {} valid tokens shown, none refused; {} keys published at the end",
        started.elapsed(),
        answered.load(Ordering::Relaxed),
        jwks["keys"].as_array().unwrap().len(),
    );
}
