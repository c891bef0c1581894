//! Gateways on a Redis with many revocations.

use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::{app, config, is_long};
use crate::fixture::{
    Gateway, PASSWORD, RedisServer, Upstream, get, login, post, tokens, users_file, wait_until,
};

/// Writes so many revocations down in the layout's words, spread over the shards.
fn fill(redis: &RedisServer, count: usize) {
    let till = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as u64
        + 3_600_000;
    let client = ::redis::Client::open(redis.url()).unwrap();
    let mut connection = client.get_connection().unwrap();
    let mut number = 0_u128;
    while (number as usize) < count {
        let mut batch = ::redis::pipe();
        for _ in 0..2_000.min(count - number as usize) {
            let id = URL_SAFE_NO_PAD.encode(number.to_le_bytes());
            let key = format!("auth-gateway:{{{:02}}}:revocations", number % 64);
            batch.cmd("XADD").arg(key).arg("*").arg(id).arg(till).ignore();
            number += 1;
        }
        batch.query::<()>(&mut connection).unwrap();
    }
}

/// The idle traffic of a gateway and a Redis in that time, in bytes.
fn idle_traffic(redis: &RedisServer, time: Duration) -> u64 {
    let sent = || redis.info("total_net_output_bytes").parse::<u64>().unwrap();
    let before = sent();
    std::thread::sleep(time);
    sent() - before
}

/// How many ended sessions a gateway knows of.
fn known(gateway: &Gateway) -> usize {
    let page = gateway.metrics();
    let line = page.lines().find_map(|line| line.strip_prefix("auth_gateway_revoked_sessions "));
    line.unwrap().parse::<f64>().unwrap() as usize
}

#[test]
fn many_ended_sessions_in_redis_neither_slow_a_start_nor_cost_traffic() {
    let upstream = Upstream::start();
    let users = users_file(&[("1", "alice", PASSWORD, &["user"])]);
    let idle = Duration::from_secs(if is_long() { 20 } else { 6 });
    let counts: &[usize] = if is_long() { &[0, 10_000, 100_000, 1_000_000] } else { &[0, 100_000] };
    let (mut traffic, mut start_without) = (Vec::new(), None);
    for &count in counts {
        let redis = RedisServer::start_with(&["--appendonly", "no", "--save", ""]);
        let more = format!(
            "[tokens]\nissuer = \"https://login.test\"\nalgorithm = \"HS256\"\n\
             secret = \"Wm8qT1xJz0vKc4RyN7uPb2eLh6sDf9gA\"\naccess_ttl = \"1h\"\nrefresh_ttl = \"2h\"\n\
             [store]\nkind = \"redis\"\n[store.redis]\nrequired_at_start = true\ncommand_timeout = \"2s\"\nurl = \"{}\"",
            redis.url()
        );
        let config = config(&upstream, &more);
        let first = Gateway::start_with(&config, &users, &[]);
        let (ended, _) = tokens(first.address, "alice", PASSWORD);
        assert_eq!(post(first.address, "/logout", &ended).status, 204);
        fill(&redis, count);
        let began = Instant::now();
        let second = Gateway::start_with(&config, &users, &[]);
        let (access, refresh) = tokens(second.address, "alice", PASSWORD);
        let serves_after = began.elapsed();
        assert_eq!(app(&second, &ended).status, 401);
        for gateway in [&first, &second] {
            wait_until("it knows them all", || known(gateway) == count + 1);
            assert_eq!(login(gateway.address, "alice", PASSWORD).status, 200);
            assert_eq!(get(gateway.admin, "/readyz", &[]).unwrap().json()["status"], "ready");
        }
        assert_eq!(post(second.address, "/refresh", &refresh).status, 200);
        assert_eq!(post(second.address, "/logout", &access).status, 204);
        let bytes = idle_traffic(&redis, idle);
        println!(
            "{count} ended sessions: a start serves after {serves_after:?}; idle, Redis sends {} bytes/s to two gateways",
            bytes / idle.as_secs()
        );
        // More than without any. An unoptimised build reads some 70,000 a second on a busy machine of two cores; a release
        // build, a million in a few seconds (gateway/benches/README.md).
        let base = *start_without.get_or_insert(serves_after);
        let limit = base + Duration::from_millis(1_000 + count as u64 / 50);
        assert!(serves_after < limit, "{count}: {serves_after:?}, and {base:?} without any");
        for gateway in [&first, &second] {
            let losses = gateway.log().matches("the connection to Redis is lost").count();
            assert_eq!(losses, 0, "{}", gateway.log());
        }
        traffic.push(bytes);
    }
    assert!(
        traffic.iter().all(|bytes| *bytes < traffic[0] * 3 / 2 + 10_000),
        "idle traffic grows: {traffic:?}"
    );
}

#[test]
fn what_an_earlier_version_remembered_is_taken_over() {
    let (redis, upstream) = (RedisServer::start(), Upstream::start());
    let more = format!(
        "[tokens]\naccess_ttl = \"1h\"\nrefresh_ttl = \"2h\"\n[store]\nkind = \"redis\"\n[store.redis]\nurl = \"{}\"",
        redis.url()
    );
    let mut gateway = Gateway::start(&config(&upstream, &more));
    let (ended, _) = tokens(gateway.address, "alice", PASSWORD);
    assert_eq!(post(gateway.address, "/logout", &ended).status, 204);
    gateway.kill();
    // As layout 1 had it: a sorted set, and a mark of that layout.
    for shard in 0..64 {
        let key = |name: &str| format!("auth-gateway:{{{shard:02}}}:{name}");
        let log: Vec<(String, (String, String))> =
            redis.ask(&["XRANGE", &key("revocations"), "-", "+"]).unwrap();
        for (_, (session, till)) in log {
            redis.command(&["ZADD", &key("revoked"), &till, &session]);
        }
        redis.command(&["DEL", &key("revocations")]);
        let mark: String = redis.ask(&["GET", &key("mark")]).unwrap();
        redis.command(&["SET", &key("mark"), &mark.replacen("2 ", "1 ", 1)]);
    }
    gateway.run();
    assert_eq!(app(&gateway, &ended).status, 401);
    let old: usize = redis.ask(&["EXISTS", "auth-gateway:{00}:revoked"]).unwrap();
    assert_eq!(old, 0);
}
