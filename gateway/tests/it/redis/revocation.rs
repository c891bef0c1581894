//! Access tokens while no revocations arrive from Redis: `bounded` and `strict`.

use std::time::Duration;

use super::{BUSY, app, instance, metric, on, readiness, until};
use crate::fixture::{PASSWORD, RedisServer, Upstream, get, login, post, tokens};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn bounded_uses_the_last_known_revocations_and_reports_their_age() {
    let (redis, upstream) = (RedisServer::start(), Upstream::start());
    let gateway = instance(&on(&redis, &upstream));
    let (access, _) = tokens(gateway.address, "alice", PASSWORD);
    let (ended, _) = tokens(gateway.address, "alice", PASSWORD);
    assert_eq!(post(gateway.address, "/logout", &ended).status, 204);
    redis.pause();
    until("it is reported", 3 * SECOND, || (readiness(&gateway) == "degraded").then_some(()));
    until("the age grows", 3 * SECOND, || {
        assert_eq!(app(&gateway, &access).status, 200);
        assert_eq!(app(&gateway, &ended).status, 401, "known revocations are kept");
        (metric(&gateway, "auth_gateway_revocations_age_seconds") > 1.5).then_some(())
    });
    assert_eq!(metric(&gateway, "auth_gateway_store_up"), 0.0);
    redis.resume();
    until("it is ready again", 2 * SECOND, || (readiness(&gateway) == "ready").then_some(()));
    until("they are read again", 2 * SECOND, || {
        (metric(&gateway, "auth_gateway_revocations_age_seconds") < 1.0).then_some(())
    });
}

#[test]
fn bounded_with_a_limit_stops_there() {
    let (redis, upstream) = (RedisServer::start(), Upstream::start());
    let gateway =
        instance(&(on(&redis, &upstream).replace("[store.redis]", "[store.redis]\nmax_staleness = \"2s\"")));
    let (access, _) = tokens(gateway.address, "alice", PASSWORD);
    redis.pause();
    let (refused, after) =
        until("it stops", 4 * SECOND, || Some(app(&gateway, &access)).filter(|r| r.status != 200));
    assert_eq!(refused.code(), "store_unavailable");
    assert!(after > SECOND, "after {after:?} it was too early");
    redis.resume();
    until("it goes on", 2 * SECOND, || (app(&gateway, &access).status == 200).then_some(()));
}

#[test]
fn strict_rejects_tokens_without_fresh_revocations() {
    let (redis, upstream) = (RedisServer::start(), Upstream::start());
    let gateway =
        instance(&on(&redis, &upstream).replace("[store.redis]", "[store.redis]\nrevocation = \"strict\""));
    let (access, _) = tokens(gateway.address, "alice", PASSWORD);
    assert_eq!(app(&gateway, &access).status, 200);
    redis.pause();
    let (refused, after) =
        until("it stops", 2 * SECOND, || Some(app(&gateway, &access)).filter(|r| r.status != 200));
    assert_eq!((refused.status, refused.code().as_str()), (503, "store_unavailable"));
    assert!(refused.field("retry-after").is_some());
    assert!(after < SECOND + SECOND / 4 + BUSY, "after {after:?} it was too late");
    assert_eq!(get(gateway.address, "/app", &[]).unwrap().status, 401, "no token is still no token");
    let ready = get(gateway.admin, "/readyz", &[]).unwrap().json();
    assert_eq!(ready["revocations"], "unknown", "{ready}");
    redis.resume();
    let (_, after) = until("it goes on", 2 * SECOND, || (app(&gateway, &access).status == 200).then_some(()));
    println!("strict goes on {after:?} after Redis does");
}

#[test]
fn what_was_ended_while_a_gateway_could_not_listen_is_read_when_it_can() {
    let (redis, upstream) = (RedisServer::start(), Upstream::start());
    let wire = super::wire::Wire::to(redis.port);
    let near = instance(&on(&redis, &upstream));
    let cut_off = instance(&on(&redis, &upstream).replace(&redis.url(), &wire.url()));
    let (access, _) = tokens(near.address, "alice", PASSWORD);
    assert_eq!(app(&cut_off, &access).status, 200);
    wire.swallow();
    until("it is noticed", 3 * SECOND, || (readiness(&cut_off) == "degraded").then_some(()));
    assert_eq!(post(near.address, "/logout", &access).status, 204);
    assert_eq!(app(&cut_off, &access).status, 200, "it cannot know");
    assert_eq!(login(cut_off.address, "alice", PASSWORD).status, 503);
    wire.restore();
    let (_, after) =
        until("it has caught up", 2 * SECOND, || (app(&cut_off, &access).status == 401).then_some(()));
    println!("a gateway that was cut off caught up {after:?} after the connection was restored");
}
