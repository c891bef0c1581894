//! F-29: rolling restart of two gateways under load. No request fails that had reached a gateway.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::rounds;
use crate::fixture::{Connection, Cut, Gateway, PASSWORD, Upstream, tokens, wait_until};

const CONFIG: &str = "[tokens]\nissuer = \"http://both.test\"\naccess_ttl = \"1h\"\nrefresh_ttl = \"2h\"\nalgorithm = \"HS256\"\n\
                      secret = \"pM3kz1v8Qw7rT5yX2bN9cL4dF6gH0jKs\"\n[store]\nkind = \"memory\"\n[log]\naccess = false\n";
const DRAIN: Duration = Duration::from_secs(30);

/// What clients do with one connection, and how many answers they got.
type Visit = fn(&mut Connection, &str) -> (usize, Result<(), Cut>);

/// One request after the other.
fn in_turn(connection: &mut Connection, token: &str) -> (usize, Result<(), Cut>) {
    for answered in 0..50 {
        match get(connection, token, 1).and_then(|()| finish(connection)) {
            Ok(false) => {}
            Ok(true) => return (answered + 1, Ok(())),
            // Between two requests a gateway may close; this one it has not seen.
            Err(Cut::Before) if answered > 0 => return (answered, Ok(())),
            Err(cut) => return (answered, Err(cut)),
        }
    }
    (50, Ok(()))
}

/// Several at once; those behind the answer that says `close` were never taken.
fn pipelined(connection: &mut Connection, token: &str) -> (usize, Result<(), Cut>) {
    if let Err(cut) = get(connection, token, 8) {
        return (0, Err(cut));
    }
    for answered in 0..8 {
        match finish(connection) {
            Ok(false) => {}
            Ok(true) => return (answered + 1, Ok(())),
            Err(cut) => return (answered, Err(cut)),
        }
    }
    (8, Ok(()))
}

/// An upload that takes its time.
fn upload(connection: &mut Connection, token: &str) -> (usize, Result<(), Cut>) {
    let head = format!(
        "POST /protected/mirror HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\nTransfer-Encoding: chunked\r\n\r\n"
    );
    let mut sent = connection.send(head.as_bytes());
    for _ in 0..20 {
        std::thread::sleep(Duration::from_millis(5));
        sent = sent.and_then(|()| connection.send(b"5\r\nhello\r\n"));
    }
    let answered = sent.and_then(|()| connection.send(b"0\r\n\r\n")).and_then(|()| connection.reply());
    match answered {
        Ok(reply) => {
            assert_eq!((reply.status, reply.text()), (200, "hello".repeat(20)));
            (1, Ok(()))
        }
        Err(cut) => (0, Err(cut)),
    }
}

/// An answer that takes its time.
fn slow(connection: &mut Connection, token: &str) -> (usize, Result<(), Cut>) {
    let ask = format!("GET /protected/slow HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\n\r\n");
    match connection.send(ask.as_bytes()).and_then(|()| finish(connection)) {
        Ok(_) => (1, Ok(())),
        Err(cut) => (0, Err(cut)),
    }
}

fn get(connection: &mut Connection, token: &str, times: usize) -> Result<(), Cut> {
    let ask = format!("GET /protected HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\n\r\n");
    connection.send(ask.repeat(times).as_bytes())
}

/// Reads a response and returns whether it is the connection's last.
fn finish(connection: &mut Connection) -> Result<bool, Cut> {
    let reply = connection.reply()?;
    assert_eq!(reply.status, 200, "{reply:?}");
    Ok(reply.field("connection") == Some("close"))
}

#[derive(Default)]
struct Counts {
    answered: AtomicUsize,
    /// Connections that were not accepted: the client goes to the other gateway.
    turned_away: AtomicUsize,
    /// Connections that were accepted, or seemed so, and closed before their first answer began.
    dropped: AtomicUsize,
}

/// Sends requests to the two in turn until stopped. A truncated response fails the test.
fn keep_visiting(addresses: [SocketAddr; 2], token: &str, visit: Visit, stop: &AtomicBool, counts: &Counts) {
    for turn in 0.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let Ok(mut connection) = Connection::open(addresses[turn % 2]) else {
            counts.turned_away.fetch_add(1, Ordering::Relaxed);
            std::thread::sleep(Duration::from_millis(1));
            continue;
        };
        let (answered, end) = visit(&mut connection, token);
        counts.answered.fetch_add(answered, Ordering::Relaxed);
        match end {
            Ok(()) => {}
            Err(Cut::Before) => drop(counts.dropped.fetch_add(1, Ordering::Relaxed)),
            Err(Cut::Within) => panic!("an answer was cut"),
        }
    }
}

#[test]
fn a_rolling_restart_fails_no_request() {
    let upstream = Upstream::start();
    let routes = format!(
        "[upstreams.app]\nurls = [\"http://{}\"]\n[[routes]]\npath = \"/protected\"\nupstream = \"app\"\n",
        upstream.address
    );
    let mut gateways = [(); 2].map(|()| Gateway::start(&format!("{CONFIG}{routes}")));
    let addresses = [gateways[0].address, gateways[1].address];
    let (token, _) = tokens(addresses[0], "alice", PASSWORD);
    let (stop, counts) = (Arc::new(AtomicBool::new(false)), Arc::new(Counts::default()));
    let visits: [Visit; 6] = [in_turn, in_turn, pipelined, upload, upload, slow];
    let clients = visits.map(|visit| {
        let (token, stop, counts) = (token.clone(), Arc::clone(&stop), Arc::clone(&counts));
        std::thread::spawn(move || keep_visiting(addresses, &token, visit, &stop, &counts))
    });
    let rounds = rounds(4, 100);
    let (mut longest, started) = (Duration::ZERO, Instant::now());
    for round in 0..rounds {
        let before = counts.answered.load(Ordering::Relaxed);
        wait_until("there is traffic", || counts.answered.load(Ordering::Relaxed) > before + 200);
        let gateway = &mut gateways[round % 2];
        let asked = Instant::now();
        gateway.terminate();
        assert_eq!(gateway.wait().code(), Some(0));
        longest = longest.max(asked.elapsed());
        gateway.run();
        upstream.clear();
    }
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        client.join().unwrap();
    }
    let count = |counter: &AtomicUsize| counter.load(Ordering::Relaxed);
    println!(
        "{rounds} stops: {} answers in {:?}, none cut; {} connections turned away, {} dropped; the longest stop took {longest:?}",
        count(&counts.answered),
        started.elapsed(),
        count(&counts.turned_away),
        count(&counts.dropped),
    );
    assert!(longest < DRAIN);
    assert_eq!(count(&counts.dropped), 0, "requests that had reached a gateway");
}
