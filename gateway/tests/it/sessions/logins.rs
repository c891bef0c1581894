//! Concurrent logins: right passwords are not rejected, and wrong ones never pass the limit.

use std::thread;

use super::{config, is_long};
use crate::fixture::{Gateway, PASSWORD, RedisServer, Reply, Upstream, login, until_not_busy, users_file};

/// So many logins at a time, each of the name that it is given the number for.
fn together(
    gateway: &Gateway,
    count: usize,
    name: impl Fn(usize) -> String + Sync,
    password: &str,
) -> Vec<Reply> {
    thread::scope(|scope| {
        let name = &name;
        let logins: Vec<_> = (0..count)
            .map(|number| scope.spawn(move || login(gateway.address, &name(number), password)))
            .collect();
        logins.into_iter().map(|login| login.join().unwrap()).collect()
    })
}

/// Every right login succeeds, or gets `Retry-After` of a second or two where the machine is slow.
fn all_are_let_in_or_get_retry_after(replies: &[Reply]) -> usize {
    for reply in replies.iter().filter(|reply| reply.status != 200) {
        assert!([429, 503].contains(&reply.status), "{reply:?}");
        let wait: u64 = reply.field("retry-after").unwrap().parse().unwrap();
        assert!((1..=2).contains(&wait), "{reply:?}");
    }
    replies.iter().filter(|reply| reply.status == 200).count()
}

#[test]
fn right_logins_of_one_name_at_a_time_are_all_let_in() {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&config(&upstream, ""));
    let rounds = if is_long() { 50 } else { 5 };
    let mut let_in = 0;
    for _ in 0..rounds {
        let replies = together(&gateway, 10, |_| "alice".to_owned(), PASSWORD);
        let_in += all_are_let_in_or_get_retry_after(&replies);
    }
    println!("{let_in} of {} right logins, ten of one name at a time, were let in at once", rounds * 10);
    assert!(let_in * 10 >= rounds * 9, "{let_in}");
    assert_eq!(login(gateway.address, "alice", PASSWORD).status, 200, "nobody is locked");
}

#[test]
fn right_logins_from_one_address_do_not_use_its_failures_up() {
    let upstream = Upstream::start();
    let names: Vec<String> = (0..20).map(|number| format!("user{number}")).collect();
    let users: Vec<(&str, &str, &str, &[&str])> =
        names.iter().map(|name| (name.as_str(), name.as_str(), PASSWORD, &[] as &[&str])).collect();
    let gateway =
        Gateway::start_with(&config(&upstream, "[throttle]\nmax_failures = 10"), &users_file(&users), &[]);
    for _ in 0..if is_long() { 20 } else { 3 } {
        let replies = together(&gateway, 40, |number| format!("user{}", number % 20), PASSWORD);
        let let_in = all_are_let_in_or_get_retry_after(&replies);
        println!("{let_in} of 40 right logins from one address were let in at once");
        assert!(let_in >= 10, "{let_in}");
    }
    assert_eq!(login(gateway.address, "user1", PASSWORD).status, 200);
}

#[test]
fn guesses_at_a_time_never_pass_the_limit() {
    let (redis, upstream) = (RedisServer::start(), Upstream::start());
    let redis = format!("[store]\nkind = \"redis\"\n[store.redis]\nurl = \"{}\"", redis.url());
    for store in ["[store]\nkind = \"memory\"", "", &redis] {
        let gateway = Gateway::start(&config(&upstream, store));
        let mut judged = 0;
        for _ in 0..3 {
            let replies = together(&gateway, 30, |_| "alice".to_owned(), "a wrong password");
            judged += replies.iter().filter(|reply| reply.status == 401).count();
            assert!(replies.iter().all(|reply| [401, 403, 503].contains(&reply.status)), "{replies:?}");
        }
        assert_eq!(judged, 5, "{store}");
        let locked = login(gateway.address, "alice", PASSWORD);
        assert_eq!((locked.status, locked.code().as_str()), (403, "account_locked"));
    }
}

/// The store fails while passwords are checked: no result was sent, so no attempt counts as a failure.
#[test]
fn logins_that_lost_their_store_do_not_lock_the_name() {
    let (redis, upstream) = (RedisServer::start(), Upstream::start());
    let more = format!("[store]\nkind = \"redis\"\n[store.redis]\nurl = \"{}\"", redis.url());
    let gateway = Gateway::start(&config(&upstream, &more));
    for _ in 0..6 {
        thread::scope(|scope| {
            let under_way = scope.spawn(|| login(gateway.address, "alice", PASSWORD));
            thread::sleep(std::time::Duration::from_millis(3));
            redis.pause();
            thread::sleep(std::time::Duration::from_millis(1_500));
            redis.resume();
            let reply = under_way.join().unwrap();
            assert!([200, 503].contains(&reply.status), "{reply:?}");
        });
    }
    let end = std::time::Instant::now() + std::time::Duration::from_secs(15);
    loop {
        let reply = login(gateway.address, "alice", PASSWORD);
        match reply.status {
            200 => break,
            503 => assert!(std::time::Instant::now() < end, "{reply:?}"),
            _ => panic!("{reply:?}"),
        }
        thread::sleep(std::time::Duration::from_millis(200));
    }
}

/// The probability that a wrong password takes longer for a name that exists than for one that does not: one
/// half if the time reveals nothing (the area under the ROC curve).
#[test]
fn the_time_of_a_login_does_not_reveal_whether_the_name_exists() {
    let upstream = Upstream::start();
    let more = "[lockout]\nmax_failures = 1000\n[throttle]\nmax_failures = 10000";
    let gateway = Gateway::start(&config(&upstream, more));
    let count = if is_long() { 600 } else { 60 };
    let time = |name: &str| {
        let begin = std::time::Instant::now();
        assert_eq!(login(gateway.address, name, "a wrong password").status, 401);
        begin.elapsed()
    };
    time("alice");
    let (known, unknown): (Vec<_>, Vec<_>) =
        (0..count).map(|number| (time("alice"), time(&format!("nobody{number}")))).unzip();
    let longer =
        known.iter().flat_map(|a| unknown.iter().map(move |b| a > b)).filter(|longer| *longer).count();
    let auc = longer as f64 / (count * count) as f64;
    println!("AUC of the times of {count} logins each: {auc:.3}");
    // Five standard errors.
    let bound = 5.0 * 0.41 / (count as f64).sqrt();
    assert!((auc - 0.5).abs() < bound, "{auc}");
}

/// Some passwords take longer than others, so that sessions are not opened in the order of the requests.
#[test]
fn parallel_logins_at_two_instances_never_pass_the_limit_of_sessions() {
    let (redis, upstream) = (RedisServer::start(), Upstream::start());
    let more = format!(
        "[sessions]\nmax_per_user = 3\nwhen_full = \"refuse\"\n[tokens]\nissuer = \"https://login.test\"\nalgorithm = \"HS256\"\n\
         secret = \"Wm8qT1xJz0vKc4RyN7uPb2eLh6sDf9gA\"\n[store]\nkind = \"redis\"\n[store.redis]\nurl = \"{}\"",
        redis.url()
    );
    let users = users_file(&[("1", "alice", PASSWORD, &["user"])]);
    let gateways = [(); 2].map(|()| Gateway::start_with(&config(&upstream, &more), &users, &[]));
    let replies: Vec<Reply> = thread::scope(|scope| {
        let logins = (0..12).map(|n| {
            let address = gateways[n % 2].address;
            scope.spawn(move || until_not_busy(|| login(address, "alice", PASSWORD)))
        });
        let logins: Vec<_> = logins.collect();
        logins.into_iter().map(|login| login.join().unwrap()).collect()
    });
    let opened = replies.iter().filter(|reply| reply.status == 200).count();
    let refused = replies.iter().filter(|reply| reply.status == 403 && reply.code() == "too_many_sessions");
    assert_eq!((opened, refused.count()), (3, 9), "{replies:?}");
}
