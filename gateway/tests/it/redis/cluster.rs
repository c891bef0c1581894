//! Sentinel failovers, and a cluster that loses masters.

use std::thread::sleep;
use std::time::{Duration, Instant};

use super::load::under_load;
use super::{BUSY, app, config, gateways, instance, readiness, rounds, until};
use crate::fixture::{Gateway, PASSWORD, RedisCluster, RedisWithSentinels, Upstream, login, post, tokens};

const SECOND: Duration = Duration::from_secs(1);

fn list(urls: &[String]) -> String {
    format!("{urls:?}")
}

#[test]
fn f08_sentinels_fail_over() {
    let (mut group, upstream) = (RedisWithSentinels::start(), Upstream::start());
    let gateways = gateways(2, &config(&upstream, &format!("sentinels = {}", list(&group.urls()))));
    for round in 0..rounds(1) {
        // By request.
        let before = group.master_port();
        let mut agreed = Instant::now();
        let history = under_load(&gateways, || {
            sleep(SECOND / 2);
            group.sentinels[0].command(&["SENTINEL", "FAILOVER", "mymaster"]);
            until("there is another master", 20 * SECOND, || (group.master_port() != before).then_some(()));
            agreed = Instant::now();
            sleep(3 * SECOND);
        });
        let recovery = history.recovery_after(agreed);
        let summary = history.holds_but_for_lost_writes();
        assert!(summary.sessions_lost <= gateways.len(), "{summary:?}");
        println!(
            "F-08 (by request, {round}): recovered {recovery:?} after the Sentinels agreed; {summary:?}"
        );
        assert!(recovery < 2 * SECOND + BUSY, "{recovery:?}");
        until("the old master follows", 20 * SECOND, || group.server(before).follows().then_some(()));

        // By the master's death.
        let before = group.master_port();
        let mut agreed = Instant::now();
        let history = under_load(&gateways, || {
            sleep(SECOND / 2);
            group.server(before).kill();
            until("there is another master", 30 * SECOND, || (group.master_port() != before).then_some(()));
            agreed = Instant::now();
            sleep(3 * SECOND);
        });
        let recovery = history.recovery_after(agreed);
        let summary = history.holds_but_for_lost_writes();
        assert!(summary.sessions_lost <= gateways.len(), "{summary:?}");
        println!("F-08 (by death, {round}): recovered {recovery:?} after the Sentinels agreed; {summary:?}");
        assert!(recovery < 2 * SECOND + BUSY, "{recovery:?}");
        group.server(before).run();
        until("the dead master follows", 30 * SECOND, || group.server(before).follows().then_some(()));
    }
}

#[test]
fn f12_where_a_master_of_a_cluster_is_away_only_its_sessions_are() {
    let (mut cluster, upstream) = (RedisCluster::start(), Upstream::start());
    // Slots without a master must not affect the others.
    for node in &cluster.nodes {
        node.command(&["CONFIG", "SET", "cluster-require-full-coverage", "no"]);
    }
    let lockout = "[lockout]\nmax_failures = 2\n";
    let gateway =
        instance(&format!("{lockout}{}", config(&upstream, &format!("cluster = {}", list(&cluster.urls())))));
    let sessions: Vec<(String, String)> =
        (0..24).map(|_| tokens(gateway.address, "alice", PASSWORD)).collect();
    let refreshed = |gateway: &Gateway| {
        let replies = sessions.iter().map(|(_, refresh)| post(gateway.address, "/refresh", refresh));
        let good = replies.filter(|reply| {
            assert!([200, 503].contains(&reply.status), "{}", reply.text());
            reply.status == 200
        });
        good.count()
    };
    assert_eq!(refreshed(&gateway), sessions.len());
    cluster.nodes[0].kill();
    until("it is noticed", 5 * SECOND, || (readiness(&gateway) == "degraded").then_some(()));
    until("the others are served", 10 * SECOND, || {
        let good = refreshed(&gateway);
        (0 < good && good < sessions.len()).then_some(())
    });
    assert!(sessions.iter().all(|(access, _)| app(&gateway, access).status == 200));
    // One new session in three belongs to an unavailable master; a right password must not lock a name for
    // that.
    let logins = (0..20).flat_map(|_| ["alice", "bob"]).map(|name| login(gateway.address, name, PASSWORD));
    let statuses: Vec<u16> = logins.map(|reply| reply.status).collect();
    assert!(statuses.iter().all(|status| [200, 503].contains(status)), "{statuses:?}");
    assert!(statuses.contains(&200) && statuses.contains(&503), "{statuses:?}");

    // The majority is lost.
    cluster.nodes[1].kill();
    until("nothing is served", 10 * SECOND, || (refreshed(&gateway) == 0).then_some(()));
    assert!(sessions.iter().all(|(access, _)| app(&gateway, access).status == 200));

    cluster.nodes[0].run();
    cluster.nodes[1].run();
    until("the cluster is whole", 20 * SECOND, || cluster.is_whole().then_some(()));
    let (_, after) =
        until("everything is served", 2 * SECOND, || (refreshed(&gateway) == sessions.len()).then_some(()));
    println!("F-12: everything was served {after:?} after the cluster was whole");
    until("it is reported", 2 * SECOND, || (readiness(&gateway) == "ready").then_some(()));
}

#[test]
fn f11_slots_move_under_load() {
    let (cluster, upstream) = (RedisCluster::start(), Upstream::start());
    let gateways = gateways(2, &config(&upstream, &format!("cluster = {}", list(&cluster.urls()[..1]))));
    let ids: Vec<String> = cluster.nodes.iter().map(|node| node.ask(&["CLUSTER", "MYID"]).unwrap()).collect();
    let history = under_load(&gateways, || {
        // All shards of the first master go to the second, key by key.
        for shard in 0..64 {
            let slot: u16 =
                cluster.nodes[0].ask(&["CLUSTER", "KEYSLOT", &format!("{{{shard:02}}}")]).unwrap();
            if slot > 5460 {
                continue;
            }
            let slot = slot.to_string();
            cluster.nodes[1].command(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &ids[0]]);
            cluster.nodes[0].command(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &ids[1]]);
            loop {
                let keys: Vec<String> =
                    cluster.nodes[0].ask(&["CLUSTER", "GETKEYSINSLOT", &slot, "10"]).unwrap();
                if keys.is_empty() {
                    break;
                }
                let port = cluster.nodes[1].port.to_string();
                let mut command = vec!["MIGRATE", "127.0.0.1", &port, "", "0", "5000", "KEYS"];
                command.extend(keys.iter().map(String::as_str));
                cluster.nodes[0].command(&command);
            }
            for node in [1, 0, 2] {
                cluster.nodes[node].command(&["CLUSTER", "SETSLOT", &slot, "NODE", &ids[1]]);
            }
        }
        sleep(2 * SECOND);
    });
    let summary = history.holds();
    assert_eq!(summary.refused, 0, "{summary:?}");
    println!("F-11: {summary:?}");
}

#[test]
fn f12_a_replica_takes_over_from_a_master_of_a_cluster() {
    let (mut cluster, upstream) = (RedisCluster::start_with_replicas(1), Upstream::start());
    let gateways = gateways(2, &config(&upstream, &format!("cluster = {}", list(&cluster.urls()))));
    for round in 0..rounds(1) {
        // The replica of the one that dies, and the other way round the next time.
        let (dies, takes_over) = if round % 2 == 0 { (0, 3) } else { (3, 0) };
        let mut promoted = Instant::now();
        let history = under_load(&gateways, || {
            sleep(SECOND / 2);
            cluster.nodes[dies].kill();
            until("the replica takes over", 20 * SECOND, || {
                let role: Vec<redis::Value> = cluster.nodes[takes_over].ask(&["ROLE"]).ok()?;
                (role.first() == Some(&redis::Value::BulkString(b"master".to_vec()))).then_some(())
            });
            promoted = Instant::now();
            sleep(3 * SECOND);
        });
        let recovery = history.recovery_after(promoted);
        let summary = history.holds_but_for_lost_writes();
        assert!(summary.sessions_lost <= gateways.len(), "{summary:?}");
        println!("F-12 (replica, {round}): recovered {recovery:?} after it had taken over; {summary:?}");
        assert!(recovery < 2 * SECOND + BUSY, "{recovery:?}");
        until("everything is served", 2 * SECOND, || {
            gateways.iter().all(|g| readiness(g) == "ready").then_some(())
        });
        cluster.nodes[dies].run();
        until("it follows", 20 * SECOND, || cluster.nodes[dies].follows().then_some(()));
    }
}
