use std::io::Write;
use std::net::TcpListener;

use super::*;
use crate::config::test_support::settings;

fn pool(urls: &[String], more: &str, workers: usize) -> Rc<UpstreamPool> {
    let text = format!(
        "[users]\nfile = \"Cargo.toml\"\n[upstreams.a]\nurls = {urls:?}\n{more}\n[[routes]]\npath = \"/\"\nupstream = \"a\"\n"
    );
    let upstream = Upstream::new("a", settings(text).upstreams["a"].clone()).unwrap();
    Rc::new(UpstreamPool::new(Arc::new(upstream), workers))
}

fn url(listener: &TcpListener) -> String {
    format!("http://{}", listener.local_addr().unwrap())
}

const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

#[test]
fn a_connection_is_over_when_the_gateway_or_its_server_says_so() {
    for (age, keep_alive, idle_timeout, over) in [
        (0, None, 1000, false),
        (999, None, 1000, false),
        (1000, None, 1000, true),
        (400, Some(500), 1000, false),
        (500, Some(500), 1000, true),
        (1000, Some(5000), 1000, true),
        (0, Some(0), 1000, true),
    ] {
        let found = is_over(millis(age), keep_alive.map(millis), millis(idle_timeout));
        assert_eq!(found, over, "{age} {keep_alive:?} {idle_timeout}");
    }
}

#[test]
fn workers_share_a_limit_and_none_of_them_gets_nothing() {
    for (limit, workers, each) in [(10, 2, 5), (10, 3, 4), (1, 8, 1), (0, 8, 0), (7, 0, 7), (7, 1, 7)] {
        assert_eq!(share(limit, workers), each, "{limit} {workers}");
    }
    let pool = pool(&["http://127.0.0.1:9".to_owned()], "max_connections = 5\nmax_pending = 3", 2);
    assert_eq!((pool.max_connections(), pool.max_pending), (Some(3), 2));
}

#[tokio::test]
async fn a_pooled_connection_is_used_again_where_that_is_safe() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let pool = pool(&[url(&listener)], "idle_timeout = \"10s\"", 1);
    let server = pool.choose(&[]).unwrap();
    type Change = fn(&mut UpstreamConnection, &mut std::net::TcpStream);
    let nothing: Change = |_, _| {};
    let bodiless: Change = |connection, _| connection.is_bodiless = true;
    let announced: Change = |connection, _| connection.keep_alive = Some(millis(100));
    let stray: Change = |_, app| app.write_all(b"x").unwrap();
    let closed: Change = |_, app| app.shutdown(std::net::Shutdown::Both).unwrap();
    for (name, change, policy, age, reused) in [
        ("as usual", nothing, ReusePolicy::Any, 0, true),
        ("at the end of its time", nothing, ReusePolicy::Any, 9_999, true),
        ("too old", nothing, ReusePolicy::Any, 10_000, false),
        ("known to be alive", nothing, ReusePolicy::KnownIdle, 0, true),
        ("a new one is asked for", nothing, ReusePolicy::New, 0, false),
        ("the server keeps it for 100 ms", announced, ReusePolicy::Any, 99, true),
        ("longer than the server keeps it", announced, ReusePolicy::Any, 100, false),
        ("just after a 204", bodiless, ReusePolicy::Any, 0, false),
        ("a while after a 204", bodiless, ReusePolicy::Any, 60, true),
        ("unsolicited bytes", stray, ReusePolicy::KnownIdle, 0, false),
        ("the server has closed it", closed, ReusePolicy::KnownIdle, 0, false),
    ] {
        server.idle.borrow_mut().clear();
        let now = Instant::now();
        let mut first = pool.lease_from(Rc::clone(&server), ReusePolicy::Any, now).await.unwrap();
        assert!(!first.reused, "{name}");
        let (mut app, _) = listener.accept().unwrap();
        change(&mut first.connection, &mut app);
        // What the app did has arrived.
        tokio::time::sleep(millis(20)).await;
        pool.release(first.connection, &server, now);
        let second = pool.lease_from(Rc::clone(&server), policy, now + millis(age)).await.unwrap();
        assert_eq!(second.reused, reused, "{name}");
        if !second.reused {
            drop(listener.accept().unwrap());
        }
    }
    assert_eq!(server.requests.get(), 0, "every permit was given back");
}

#[tokio::test]
async fn a_full_server_lets_as_many_wait_as_are_allowed() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let more = "max_connections = 1\nmax_pending = 1\npending_timeout = \"200ms\"";
    let pool = pool(&[url(&listener)], more, 1);
    let server = pool.choose(&[]).unwrap();
    let lease = || pool.lease_from(Rc::clone(&server), ReusePolicy::Any, Instant::now());
    let held = lease().await.unwrap();
    let (waited, refused) = tokio::join!(lease(), lease());
    assert!(
        matches!((&waited, &refused), (Err(LeaseError::Full), Err(LeaseError::Full))),
        "the place stays taken"
    );
    let (next, ()) = tokio::join!(lease(), async {
        pool.release(held.connection, &server, Instant::now());
        drop(held.place);
    });
    assert!(next.unwrap().reused, "who waits gets what is released");
}

#[test]
fn a_server_is_chosen_that_is_healthy_and_was_not_tried() {
    let listeners = [(); 3].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    let urls: Vec<String> = listeners.iter().map(url).collect();
    let pool = pool(&urls, "", 1);
    let mut tried = Vec::new();
    while let Some(server) = pool.choose(&tried) {
        assert!(!tried.iter().any(|known| Rc::ptr_eq(known, &server)));
        tried.push(server);
    }
    assert_eq!(tried.len(), 3);
    for _ in 0..100 {
        pool.failed(&tried[0]);
        pool.failed(&tried[1]);
    }
    for _ in 0..20 {
        assert!(Rc::ptr_eq(&pool.choose(&[]).unwrap(), &tried[2]), "the others are ejected");
    }
    assert!(pool.choose(&tried[2..]).is_none());
    assert!(!pool.is_only(&tried[2]));
}

#[test]
fn the_only_server_is_chosen_once_even_where_it_fails() {
    let pool = pool(&["http://127.0.0.1:9".to_owned()], "", 1);
    let only = pool.choose(&[]).unwrap();
    (0..100).for_each(|_| pool.failed(&only));
    assert!(pool.choose(&[]).is_some() && pool.is_only(&only));
    assert!(pool.choose(&[only]).is_none());
}
