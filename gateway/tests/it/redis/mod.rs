//! Gateways that share a Redis: shared state, and outages of Redis.
//!
//! `AUTH_GATEWAY_LONG=1` runs the faults more often.

mod cluster;
mod faults;
mod load;
mod revocation;
mod sharing;
mod transport;
mod wire;

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use crate::fixture::{Gateway, PASSWORD, RedisServer, Reply, Upstream, get, users_file};

/// How often something is played: so often, or in the long form a multiple of that.
fn rounds(short: usize) -> usize {
    if std::env::var_os("AUTH_GATEWAY_LONG").is_some() { short * 20 } else { short }
}

/// A gateway's configuration: every instance signs with the same key, and everything at `/app` needs a token.
fn config(upstream: &Upstream, store: &str) -> String {
    format!(
        "[tokens]\nissuer = \"https://login.test\"\nalgorithm = \"HS256\"\nsecret = \"Wm8qT1xJz0vKc4RyN7uPb2eLh6sDf9gA\"\naccess_ttl = \"9m\"\n\
         [store]\nkind = \"redis\"\n[store.redis]\n{store}\n\
         [upstreams.app]\nurls = [\"http://{}\"]\n[[routes]]\npath = \"/app\"\nupstream = \"app\"\n",
        upstream.address
    )
}

/// The same with one server.
fn on(server: &RedisServer, upstream: &Upstream) -> String {
    config(upstream, &format!("url = \"{}\"", server.url()))
}

/// A gateway. All have one users file: of two hashes of a password, the salts differ, and so the accounts would.
fn instance(config: &str) -> Gateway {
    static USERS: LazyLock<String> = LazyLock::new(|| {
        users_file(&[("1", "alice", PASSWORD, &["user"]), ("2", "bob", PASSWORD, &["user"])])
    });
    Gateway::start_with(config, &USERS, &[])
}

/// So many gateways of one configuration.
fn gateways(count: usize, config: &str) -> Vec<Gateway> {
    (0..count).map(|_| instance(config)).collect()
}

/// Asks for a page that needs a token.
fn app(gateway: &Gateway, access: &str) -> Reply {
    get(gateway.address, "/app", &[("Authorization", &format!("Bearer {access}"))]).unwrap()
}

/// What readiness says.
fn readiness(gateway: &Gateway) -> String {
    let reply = get(gateway.admin, "/readyz", &[]).unwrap();
    assert_eq!(reply.status, 200, "a store that is away is no reason to take the gateway out: {reply:?}");
    reply.json()["status"].as_str().unwrap().to_owned()
}

/// A value of the metrics.
fn metric(gateway: &Gateway, name: &str) -> f64 {
    let page = gateway.metrics();
    let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("{name} is not in\n{page}")).parse().unwrap()
}

/// What a busy machine may add to a time that is promised.
const BUSY: Duration = Duration::from_secs(8);

/// Repeats `attempt` until it returns something, and returns the time that took; panics after `timeout`, and what a busy machine
/// may add.
fn until<T>(what: &str, timeout: Duration, mut attempt: impl FnMut() -> Option<T>) -> (T, Duration) {
    let begin = Instant::now();
    loop {
        if let Some(result) = attempt() {
            return (result, begin.elapsed());
        }
        assert!(begin.elapsed() < timeout + BUSY, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
