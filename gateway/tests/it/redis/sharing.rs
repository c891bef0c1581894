//! State that gateways share: sessions, locks, and revocations.

use std::collections::HashSet;
use std::thread;
use std::time::{Duration, Instant};

use super::{app, gateways, instance, metric, on, rounds, until};
use crate::fixture::{Gateway, PASSWORD, RedisServer, Upstream, login, post, tokens};

/// Does something at several gateways at the same time.
fn at_once<T: Send>(gateways: &[Gateway], times: usize, work: impl Fn(&Gateway) -> T + Sync) -> Vec<T> {
    thread::scope(|scope| {
        let work = &work;
        let threads: Vec<_> =
            (0..times).flat_map(|_| gateways).map(|gateway| scope.spawn(move || work(gateway))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

#[test]
fn a_token_that_is_refreshed_at_four_gateways_at_once_gets_one_successor() {
    let (redis, upstream) = (RedisServer::start(), Upstream::start());
    let gateways = gateways(4, &on(&redis, &upstream));
    let (_, mut token) = tokens(gateways[0].address, "alice", PASSWORD);
    let mut races = 0;
    for round in 0..rounds(15) {
        let replies = at_once(&gateways, 4, |gateway| post(gateway.address, "/refresh", &token));
        let successors: HashSet<String> = replies
            .iter()
            .map(|reply| {
                assert_eq!(reply.status, 200, "in round {round}: {reply:?}");
                reply.json()["refresh_token"].as_str().unwrap().to_owned()
            })
            .collect();
        assert_eq!(successors.len(), 1, "in round {round}");
        races += replies.len();
        token = successors.into_iter().next().unwrap();
    }
    println!("{races} refreshes raced in {} rounds, none forked", rounds(15));
}

#[test]
fn guesses_at_four_gateways_at_once_never_pass_the_limit() {
    let (redis, upstream) = (RedisServer::start(), Upstream::start());
    let gateways = gateways(4, &on(&redis, &upstream));
    let hashes =
        || gateways.iter().map(|gateway| metric(gateway, "auth_gateway_password_hashes_total")).sum::<f64>();
    let mut guesses = 0;
    for round in 0..rounds(3) {
        let before = hashes();
        let name = format!("nobody-{round}");
        let replies = at_once(&gateways, 6, |gateway| login(gateway.address, &name, "a wrong password"));
        let of = |status: u16| replies.iter().filter(|reply| reply.status == status).count();
        guesses += replies.len();
        // A machine at its limit answers 503 before it counts or looks at a guess.
        let statuses = (of(401), of(403), of(503));
        assert_eq!(of(401) + of(403) + of(503), replies.len(), "in round {round}: {replies:?}");
        assert!(of(401) <= 5 && of(401) + of(503) >= 5, "in round {round}: {statuses:?}");
        assert!(hashes() - before <= 5.0, "no more than the limit were even looked at");
    }
    println!("{guesses} guesses, at most 5 let through in each of {} rounds", rounds(3));
}

#[test]
fn a_logout_takes_effect_at_every_gateway_within_a_second() {
    let (redis, upstream) = (RedisServer::start(), Upstream::start());
    let gateways = gateways(4, &on(&redis, &upstream));
    let mut latencies = Vec::new();
    for round in 0..rounds(8) {
        let (access, _) = tokens(gateways[round % 4].address, "alice", PASSWORD);
        for gateway in &gateways {
            assert_eq!(app(gateway, &access).status, 200);
        }
        assert_eq!(post(gateways[(round + 1) % 4].address, "/logout", &access).status, 204);
        let ended = Instant::now();
        for gateway in &gateways {
            until("the token is refused", Duration::from_secs(1), || {
                (app(gateway, &access).status == 401).then_some(())
            });
        }
        latencies.push(ended.elapsed());
    }
    latencies.sort_unstable();
    assert!(latencies[latencies.len() / 2] < Duration::from_secs(1), "{latencies:?}");
    println!(
        "a logout took effect at all four gateways after {:?} (median), {:?} (longest of {})",
        latencies[latencies.len() / 2],
        latencies[latencies.len() - 1],
        latencies.len()
    );
}

#[test]
fn a_logout_everywhere_and_a_stolen_token_end_sessions_at_every_gateway() {
    let (redis, upstream) = (RedisServer::start(), Upstream::start());
    let config = on(&redis, &upstream).replace("access_ttl", "reuse_grace = \"0s\"\naccess_ttl");
    let gateways = gateways(2, &config);
    let refused_everywhere = |access: &str| {
        for gateway in &gateways {
            until("the token is refused", Duration::from_secs(1), || {
                (app(gateway, access).status == 401).then_some(())
            });
        }
    };
    let (mine, also_mine) =
        (tokens(gateways[0].address, "alice", PASSWORD), tokens(gateways[1].address, "alice", PASSWORD));
    let other = tokens(gateways[0].address, "bob", PASSWORD);
    assert_eq!(post(gateways[1].address, "/logout-all", &mine.0).status, 204);
    refused_everywhere(&mine.0);
    refused_everywhere(&also_mine.0);
    assert_eq!(app(&gateways[1], &other.0).status, 200);

    let (access, first) = tokens(gateways[0].address, "alice", PASSWORD);
    let second =
        post(gateways[0].address, "/refresh", &first).json()["refresh_token"].as_str().unwrap().to_owned();
    assert_eq!(post(gateways[1].address, "/refresh", &second).status, 200);
    assert_eq!(post(gateways[1].address, "/refresh", &first).code(), "token_reused");
    refused_everywhere(&access);
    assert_eq!(post(gateways[0].address, "/refresh", &second).code(), "token_revoked");
}

#[test]
fn an_end_outlives_the_gateway_that_made_it() {
    let (redis, upstream) = (RedisServer::start(), Upstream::start());
    let mut gateway = instance(&on(&redis, &upstream));
    let (access, _) = tokens(gateway.address, "alice", PASSWORD);
    assert_eq!(post(gateway.address, "/logout", &access).status, 204);
    gateway.kill();
    gateway.run();
    assert_eq!(app(&gateway, &access).status, 401);
}

#[test]
fn gateways_with_different_prefixes_know_nothing_of_each_other() {
    let (redis, upstream) = (RedisServer::start(), Upstream::start());
    let one = instance(&on(&redis, &upstream));
    let other =
        instance(&on(&redis, &upstream).replace("[store.redis]", "[store.redis]\nkey_prefix = \"other\""));
    let (access, refresh) = tokens(one.address, "alice", PASSWORD);
    assert_eq!(post(other.address, "/refresh", &refresh).code(), "token_revoked");
    assert_eq!(post(one.address, "/logout", &access).status, 204);
    let names: Vec<String> = redis.ask(&["KEYS", "other:*:session/*"]).unwrap();
    assert_eq!(names, [""; 0]);
}

#[test]
fn what_a_newer_version_wrote_is_neither_read_nor_written_over() {
    let (redis, upstream) = (RedisServer::start(), Upstream::start());
    let gateway = instance(&on(&redis, &upstream));
    let (access, refresh) = tokens(gateway.address, "alice", PASSWORD);
    let names: Vec<String> = redis.ask(&["KEYS", "*:session/*"]).unwrap();
    let [name] = &names[..] else { panic!("{names:?}") };
    let newer = "00000000000000072{\"something\":\"new\"}";
    redis.command(&["SET", name, newer]);
    for target in ["/refresh", "/logout"] {
        assert_eq!(post(gateway.address, target, &refresh).code(), "store_unavailable");
    }
    assert_eq!(redis.ask::<String>(&["GET", name]).unwrap(), newer);
    assert_eq!(app(&gateway, &access).status, 200);
    let logged = || gateway.log().contains("a newer version of this program wrote").then_some(());
    until("the log says what to do", Duration::from_secs(2), logged);
    tokens(gateway.address, "alice", PASSWORD);
}
