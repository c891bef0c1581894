//! Faults of a single Redis: down, slow, busy, full, empty or demoted.

use std::thread::sleep;
use std::time::{Duration, Instant};

use super::load::under_load;
use super::wire::Wire;
use super::{BUSY, app, config, gateways, instance, metric, on, readiness, rounds, until};
use crate::fixture::{Gateway, PASSWORD, RedisServer, Upstream, login, post, tokens};

const SECOND: Duration = Duration::from_secs(1);
/// Within which everything works again once Redis does.
const RECOVERY: Duration = Duration::from_secs(2);

/// A refusal does not wait for Redis, which is away for three seconds: it comes after the command's second. The most do so on
/// a busy machine as well.
const PROMPT: Duration = Duration::from_millis(2500);

/// Logins work at all gateways, and those of the load have had the time to.
fn recovers(gateways: &[Gateway]) {
    for gateway in gateways {
        until("it has recovered", RECOVERY, || {
            (login(gateway.address, "alice", PASSWORD).status == 200).then_some(())
        });
    }
    lasts(SECOND);
}

/// Something that lasts for a while.
fn lasts(time: Duration) {
    sleep(time);
}

#[test]
fn f01_a_gateway_starts_without_redis_and_finds_it_when_it_comes() {
    let (mut redis, upstream) = (RedisServer::prepare(&["--appendonly", "yes"]), Upstream::start());
    let gateway = instance(&on(&redis, &upstream));
    assert_eq!(readiness(&gateway), "degraded");
    let refused = login(gateway.address, "alice", PASSWORD);
    assert_eq!((refused.status, refused.code().as_str()), (503, "store_unavailable"));
    assert!(refused.field("retry-after").is_some(), "{refused:?}");
    redis.run();
    let (_, after) = until("a login works", RECOVERY, || {
        (login(gateway.address, "alice", PASSWORD).status == 200).then_some(())
    });
    until("it is ready", RECOVERY, || (readiness(&gateway) == "ready").then_some(()));
    println!("F-01: the first login {after:?} after Redis came");
}

#[test]
fn f01_a_gateway_that_must_have_redis_says_so_and_ends() {
    let upstream = Upstream::start();
    let redis = RedisServer::prepare(&[]);
    let gateway = instance(&on(&RedisServer::start(), &upstream));
    let text = on(&redis, &upstream).replace("[store.redis]", "[store.redis]\nrequired_at_start = true");
    std::fs::write(gateway.path("gateway.toml"), text).unwrap();
    let began = Instant::now();
    let (code, _, complaint) = Gateway::command(gateway.dir.path(), &["--config", "gateway.toml"], "");
    assert!(began.elapsed() < 5 * SECOND + BUSY, "{:?}", began.elapsed());
    assert_eq!(code, 1);
    assert!(complaint.contains(&redis.port.to_string()) && complaint.contains("refused"), "{complaint}");
}

#[test]
fn f02_redis_is_killed_and_comes_back() {
    for sync in ["everysec", "always"] {
        let mut redis = RedisServer::start_with(&["--appendonly", "yes", "--appendfsync", sync]);
        let upstream = Upstream::start();
        let gateways = gateways(2, &on(&redis, &upstream));
        for _ in 0..rounds(1) {
            let mut back = Instant::now();
            let history = under_load(&gateways, || {
                lasts(SECOND / 2);
                redis.kill();
                lasts(3 * SECOND);
                redis.run();
                back = Instant::now();
                recovers(&gateways);
            });
            let recovery = history.recovery_after(back);
            // With `everysec`, Redis answers before it has written while an fsync of a busy disk lasts.
            let summary =
                if sync == "always" { history.holds() } else { history.holds_but_for_lost_writes() };
            assert!(recovery < RECOVERY + BUSY, "{recovery:?}");
            assert!(
                summary.median_refusal < PROMPT && summary.longest_refusal < PROMPT + BUSY,
                "{summary:?}"
            );
            println!("F-02 ({sync}): recovered {recovery:?} after Redis was back; {summary:?}");
        }
    }
}

#[test]
fn f03_redis_hangs() {
    let (redis, upstream) = (RedisServer::start(), Upstream::start());
    let gateways = gateways(2, &on(&redis, &upstream));
    let clients = redis.info("connected_clients").parse::<usize>().unwrap();
    for _ in 0..rounds(1) {
        let mut back = Instant::now();
        let history = under_load(&gateways, || {
            lasts(SECOND / 2);
            redis.pause();
            lasts(3 * SECOND);
            redis.resume();
            back = Instant::now();
            recovers(&gateways);
        });
        let (summary, recovery) = (history.holds(), history.recovery_after(back));
        assert!(recovery < RECOVERY + BUSY, "{recovery:?}");
        assert!(summary.median_refusal < PROMPT && summary.longest_refusal < PROMPT + BUSY, "{summary:?}");
        println!("F-03: recovered {recovery:?} after Redis went on; {summary:?}");
    }
    until("no connections have piled up", 5 * SECOND, || {
        (redis.info("connected_clients").parse::<usize>().unwrap() <= clients).then_some(())
    });
}

#[test]
fn f03_the_way_to_redis_is_a_black_hole() {
    let (redis, upstream) = (RedisServer::start(), Upstream::start());
    let wire = Wire::to(redis.port);
    let gateways = gateways(1, &config(&upstream, &format!("url = \"{}\"", wire.url())));
    let mut back = Instant::now();
    let history = under_load(&gateways, || {
        lasts(SECOND / 2);
        wire.swallow();
        lasts(3 * SECOND);
        wire.restore();
        back = Instant::now();
        recovers(&gateways);
    });
    let (summary, recovery) = (history.holds(), history.recovery_after(back));
    assert!(recovery < RECOVERY + BUSY, "{recovery:?}");
    println!("F-03 (black hole): recovered {recovery:?} after the connection was restored; {summary:?}");
}

#[test]
fn f04_an_answer_that_was_lost_after_the_change_forks_nothing() {
    let (redis, upstream) = (RedisServer::start(), Upstream::start());
    let wire = Wire::to(redis.port);
    let gateway = instance(&config(&upstream, &format!("url = \"{}\"", wire.url())));
    let near = instance(&on(&redis, &upstream));
    for round in 0..rounds(3) {
        until("it is connected", RECOVERY, || (readiness(&gateway) == "ready").then_some(()));
        let (access, parent) = tokens(gateway.address, "alice", PASSWORD);
        wire.lose_answers_to_swaps();
        let lost = wire.lost();
        let refused = post(gateway.address, "/refresh", &parent);
        assert!(wire.lost() > lost, "in round {round} no answer was lost");
        wire.restore();
        assert_eq!(refused.code(), "store_unavailable");
        let child = |gateway: &Gateway| {
            let (reply, _) = until("it is answered", RECOVERY, || {
                Some(post(gateway.address, "/refresh", &parent)).filter(|reply| reply.status != 503)
            });
            assert_eq!(reply.status, 200, "{reply:?}");
            reply.json()["refresh_token"].as_str().unwrap().to_owned()
        };
        let same = child(&near);
        assert_eq!(child(&gateway), same, "in round {round}");
        // The same with a logout: it was not acknowledged, yet it took effect.
        wire.lose_answers_to_swaps();
        let lost = wire.lost();
        let refused = post(gateway.address, "/logout", &access);
        assert!(wire.lost() > lost, "in round {round} no answer to the logout was lost");
        wire.restore();
        assert_eq!(refused.status, 503);
        until("the session is over", RECOVERY, || (app(&near, &access).status == 401).then_some(()));
    }
}

#[test]
fn f04_a_lost_answer_does_not_count_a_guess_twice() {
    let (redis, upstream) = (RedisServer::start(), Upstream::start());
    let wire = Wire::to(redis.port);
    let config = config(&upstream, &format!("url = \"{}\"", wire.url()));
    // The first swap of a login is then the name's.
    let gateway = instance(&format!("{config}\n[throttle]\nmax_failures = 0\n"));
    until("it is connected", RECOVERY, || (readiness(&gateway) == "ready").then_some(()));
    wire.lose_answers_to_swaps();
    assert_eq!(login(gateway.address, "alice", "a wrong password").status, 503);
    assert!(wire.lost() > 0, "no answer was lost");
    wire.restore();
    until("it is connected again", RECOVERY, || (readiness(&gateway) == "ready").then_some(()));
    // The guess whose answer was lost was never looked at: it keeps one of the five waiting for some seconds, no more.
    let mut looked_at = 0;
    until("the name is locked", Duration::from_secs(30), || {
        let reply = login(gateway.address, "alice", "a wrong password");
        looked_at += usize::from(reply.status == 401);
        assert!(looked_at >= 4 || reply.status == 401, "after {looked_at} guesses: {reply:?}");
        (reply.code() == "account_locked").then_some(())
    });
    assert_eq!(looked_at, 5);
}

#[test]
fn f05_redis_loads_for_a_while() {
    // 10,000 keys at 200 µs each; otherwise it would look up from that only every 2 MiB.
    let slowly =
        ["--appendonly", "no", "--key-load-delay", "200", "--loading-process-events-interval-bytes", "1024"];
    let (mut redis, upstream) = (RedisServer::start_with(&slowly), Upstream::start());
    let gateways = gateways(1, &on(&redis, &upstream));
    redis.command(&["EVAL", "for i = 1, 10000 do redis.call('SET', 'filler:' .. i, i) end", "0"]);
    let mut back = Instant::now();
    let history = under_load(&gateways, || {
        lasts(SECOND / 2);
        redis.command(&["SAVE"]);
        redis.kill();
        redis.spawn();
        until("it loads", 5 * SECOND, || {
            let error = redis.ask::<String>(&["GET", "x"]).err()?;
            (error.code() == Some("LOADING")).then_some(())
        });
        until("it has loaded", 20 * SECOND, || redis.ask::<Option<String>>(&["GET", "x"]).ok());
        back = Instant::now();
        recovers(&gateways);
    });
    let recovery = history.recovery_after(back);
    let summary = history.holds_but_for_lost_writes();
    assert!(recovery < RECOVERY + BUSY, "{recovery:?}");
    println!("F-05 (LOADING): recovered {recovery:?} after it had loaded; {summary:?}");
}

#[test]
fn f05_redis_is_busy_with_a_script_of_somebody_else() {
    let (redis, upstream) = (RedisServer::start_with(&["--busy-reply-threshold", "50"]), Upstream::start());
    let gateways = gateways(1, &on(&redis, &upstream));
    let mut back = Instant::now();
    let history = under_load(&gateways, || {
        let url = redis.url();
        let endless = std::thread::spawn(move || {
            let mut connection = redis_client(&url);
            redis::cmd("EVAL").arg("while true do end").arg(0).exec(&mut connection)
        });
        until("it is busy", 5 * SECOND, || {
            let error = redis.ask::<String>(&["GET", "x"]).err()?;
            (error.code() == Some("BUSY")).then_some(())
        });
        lasts(2 * SECOND);
        assert!(!endless.is_finished(), "it is not for the gateway to kill what others run");
        redis.command(&["SCRIPT", "KILL"]);
        back = Instant::now();
        assert!(endless.join().unwrap().is_err());
        recovers(&gateways);
    });
    let (summary, recovery) = (history.holds(), history.recovery_after(back));
    assert!(recovery < RECOVERY + BUSY, "{recovery:?}");
    println!("F-05 (BUSY): recovered {recovery:?} after the script was killed; {summary:?}");
}

fn redis_client(url: &str) -> redis::Connection {
    redis::Client::open(url).unwrap().get_connection().unwrap()
}

#[test]
fn f06_redis_comes_back_empty() {
    let (mut redis, upstream) = (RedisServer::start_with(&["--appendonly", "no"]), Upstream::start());
    let gateway = instance(&on(&redis, &upstream));
    until("it is warned of", RECOVERY, || gateway.log().contains("set `appendonly yes`").then_some(()));
    let (access, refresh) = tokens(gateway.address, "alice", PASSWORD);
    let (ended, _) = tokens(gateway.address, "alice", PASSWORD);
    assert_eq!(post(gateway.address, "/logout", &ended).status, 204);
    redis.kill();
    redis.run();
    until("it is connected again", RECOVERY, || (readiness(&gateway) == "ready").then_some(()));
    assert_eq!(metric(&gateway, "auth_gateway_store_losses_total"), 1.0);
    until("it is reported", RECOVERY, || gateway.log().contains("has lost its data").then_some(()));
    assert_eq!(app(&gateway, &access).status, 200, "an access token is good until it expires");
    assert_eq!(app(&gateway, &ended).status, 401, "known revocations are kept");
    assert_eq!(post(gateway.address, "/refresh", &refresh).code(), "token_revoked");
    tokens(gateway.address, "alice", PASSWORD);
}

#[test]
fn f07_redis_is_demoted() {
    let (redis, other, upstream) = (RedisServer::start(), RedisServer::start(), Upstream::start());
    let gateways = gateways(1, &on(&redis, &upstream));
    let mut back = Instant::now();
    let history = under_load(&gateways, || {
        lasts(SECOND / 2);
        redis.command(&["CONFIG", "SET", "replica-serve-stale-data", "yes"]);
        // A replica of a server that is not there keeps what it has.
        redis.command(&["REPLICAOF", "127.0.0.1", "1"]);
        lasts(2 * SECOND);
        assert_eq!(readiness(&gateways[0]), "degraded");
        redis.command(&["REPLICAOF", "NO", "ONE"]);
        back = Instant::now();
        recovers(&gateways);
    });
    drop(other);
    let (summary, recovery) = (history.holds(), history.recovery_after(back));
    assert!(recovery < RECOVERY + BUSY && summary.refused > 0, "{recovery:?} {summary:?}");
    println!("F-07: recovered {recovery:?} after Redis was promoted; {summary:?}");
}

#[test]
fn f13_redis_is_emptied_while_it_runs() {
    let (redis, upstream) = (RedisServer::start(), Upstream::start());
    let gateway = instance(&on(&redis, &upstream));
    let (access, refresh) = tokens(gateway.address, "alice", PASSWORD);
    redis.command(&["FLUSHALL"]);
    let refused = post(gateway.address, "/refresh", &refresh);
    assert_eq!((refused.status, &*refused.code()), (401, "token_revoked"));
    assert_eq!(app(&gateway, &access).status, 200, "an access token is good until it expires");
    let (_, refresh) = tokens(gateway.address, "alice", PASSWORD);
    assert_eq!(post(gateway.address, "/refresh", &refresh).status, 200);
    until("the loss is noticed", 4 * RECOVERY, || {
        (metric(&gateway, "auth_gateway_store_losses_total") == 1.0).then_some(())
    });
    until("it is reported", RECOVERY, || gateway.log().contains("has lost its data").then_some(()));
}

#[test]
fn f15_a_redis_that_may_throw_records_away_is_warned_of_at_the_start() {
    let upstream = Upstream::start();
    let redis = RedisServer::start_with(&["--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru"]);
    let gateway = instance(&on(&redis, &upstream));
    until("it is warned of", RECOVERY, || {
        gateway.log().contains("set `maxmemory-policy noeviction`").then_some(())
    });
}

#[test]
fn f17_the_password_of_redis_is_changed_and_changed_back() {
    let (redis, upstream) = (RedisServer::start(), Upstream::start());
    let change = |password: &str| {
        redis.command(&["ACL", "SETUSER", "gateway", "on", "resetpass", password, "~*", "&*", "+@all"]);
        redis.command(&["CLIENT", "KILL", "USER", "gateway"]);
    };
    change(">hunter2hunter2");
    let user = "[store.redis]\nusername = \"gateway\"\npassword = \"hunter2hunter2\"";
    let gateway = instance(&on(&redis, &upstream).replace("[store.redis]", user));
    let (access, refresh) = tokens(gateway.address, "alice", PASSWORD);
    change(">another");
    for reply in [login(gateway.address, "alice", PASSWORD), post(gateway.address, "/refresh", &refresh)] {
        assert_eq!(reply.code(), "store_unavailable");
        assert!(reply.field("retry-after").is_some(), "{reply:?}");
    }
    assert_eq!(app(&gateway, &access).status, 200);
    until("the log says why", RECOVERY, || gateway.log().contains("WRONGPASS").then_some(()));
    change(">hunter2hunter2");
    until("it works again", RECOVERY, || {
        (post(gateway.address, "/refresh", &refresh).status == 200).then_some(())
    });
}

#[test]
fn f14_redis_is_full() {
    let (redis, upstream) = (RedisServer::start(), Upstream::start());
    let gateway = instance(&on(&redis, &upstream));
    let (access, refresh) = tokens(gateway.address, "alice", PASSWORD);
    redis.command(&["CONFIG", "SET", "maxmemory", "1"]);
    for reply in [
        login(gateway.address, "alice", PASSWORD),
        post(gateway.address, "/refresh", &refresh),
        post(gateway.address, "/logout", &access),
    ] {
        assert_eq!(reply.code(), "store_unavailable");
    }
    assert_eq!(app(&gateway, &access).status, 200, "a logout that failed has ended nothing");
    assert_eq!(readiness(&gateway), "degraded");
    redis.command(&["CONFIG", "SET", "maxmemory", "0"]);
    assert_eq!(post(gateway.address, "/refresh", &refresh).status, 200);
    until("it is ready", RECOVERY, || (readiness(&gateway) == "ready").then_some(()));
}

#[test]
fn f16_f18_scripts_and_connections_that_go_away_are_not_noticed() {
    let (redis, upstream) = (RedisServer::start(), Upstream::start());
    let gateways = gateways(2, &on(&redis, &upstream));
    let history = under_load(&gateways, || {
        for _ in 0..rounds(15) {
            redis.command(&["SCRIPT", "FLUSH"]);
            redis.command(&["CLIENT", "KILL", "TYPE", "pubsub"]);
            redis.command(&["CLIENT", "KILL", "TYPE", "normal"]);
            lasts(SECOND / 5);
        }
    });
    let summary = history.holds();
    assert_eq!(summary.refused, 0, "one retry is enough");
    println!("F-16, F-18: {summary:?}");
}
