//! The gateway refreshes sessions of browsers by itself: once for parallel requests, through outages, and until they end.

use std::collections::HashSet;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use super::{Browser, HTML, config, location};
use crate::fixture::{Gateway, PASSWORD, RedisServer, Reply, Upstream, claims, get, users_file, wait_until};

const SHORT: &str = "[tokens]\naccess_ttl = \"1s\"\n";

/// Waits until the access token of a browser has expired.
fn expire(browser: &Browser) {
    let end = claims(browser.access())["exp"].as_u64().unwrap();
    let now = || std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    wait_until("the token has expired", || now() >= end);
}

/// The refresh token that a response sets.
fn refresh_cookie(reply: &Reply) -> Option<String> {
    let cookie =
        reply.values("set-cookie").into_iter().find(|cookie| cookie.starts_with("auth_gateway_refresh="))?;
    Some(cookie.split(';').next().unwrap().split_once('=').unwrap().1.to_owned())
}

#[test]
fn an_expired_access_token_is_replaced_on_the_way_and_the_response_is_not_cached() {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&config(&upstream, SHORT));
    let mut browser = Browser::signed_in(&gateway, "alice");
    let (access, refresh) = (browser.access().to_owned(), browser.refresh().to_owned());
    expire(&browser);
    let reply = browser.load("/picture.png");
    assert_eq!(reply.status, 200);
    assert_eq!(reply.field("cache-control"), Some("no-store"));
    assert_eq!(reply.field("vary"), Some("Cookie"));
    assert!(browser.access() != access && browser.refresh() != refresh);
    let seen = upstream.last();
    assert_eq!((seen.values("x-auth-user"), seen.values("cookie").len()), (vec!["alice"], 0));
    // A refusal carries them as well: the role may be missing, but the session goes on.
    expire(&browser);
    let refused = browser.open("/admin");
    assert_eq!((refused.status, refused.values("set-cookie").len()), (403, 2));
    // The access cookie alone may have been lost.
    browser.cookies.remove("auth_gateway_access");
    assert_eq!(browser.open("/x").status, 200);
}

#[test]
fn twenty_requests_at_the_moment_of_expiry_give_one_successor_on_two_instances() {
    let (redis, upstream) = (RedisServer::start(), Upstream::start());
    let common = "[server]\nworkers = 2\n[tokens]\naccess_ttl = \"2s\"\nissuer = \"https://login.test\"\nalgorithm = \"HS256\"\nsecret = \"Wm8qT1xJz0vKc4RyN7uPb2eLh6sDf9gA\"\n";
    let store = format!("[store]\nkind = \"redis\"\n[store.redis]\nurl = \"{}\"\n", redis.url());
    let config = config(&upstream, common).replace("[store]\nkind = \"memory\"\n", &store);
    let users = users_file(&[("1", "alice", PASSWORD, &["user"])]);
    let gateways = [Gateway::start_with(&config, &users, &[]), Gateway::start_with(&config, &users, &[])];
    let mut browser = Browser::signed_in(&gateways[0], "alice");
    for _ in 0..2 {
        expire(&browser);
        let cookie = browser.cookie_field();
        let replies: Vec<Reply> = thread::scope(|scope| {
            let load = |n: usize| {
                let (address, cookie) = (gateways[n % 2].address, &cookie);
                scope.spawn(move || get(address, &format!("/{n}.png"), &[("Cookie", cookie)]).unwrap())
            };
            let threads: Vec<_> = (0..20).map(load).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let successors: HashSet<String> = replies
            .iter()
            .map(|reply| {
                assert_eq!(reply.status, 200, "{reply:?}");
                refresh_cookie(reply).unwrap()
            })
            .collect();
        assert_eq!(successors.len(), 1);
        browser.keep(&replies[0]);
    }
}

#[test]
fn a_session_that_is_over_leads_to_the_sign_in_page_which_says_so() {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&config(&upstream, "[tokens]\naccess_ttl = \"1s\"\nrefresh_ttl = \"2s\"\n"));
    let mut browser = Browser::signed_in(&gateway, "alice");
    let cookies = browser.cookies.clone();
    thread::sleep(Duration::from_millis(2_100));
    let image = browser.load("/x.png");
    assert_eq!((image.status, &*image.code()), (401, "token_expired"));
    assert!(
        image.values("set-cookie").is_empty(),
        "a late answer must not take a new sign-in's cookies away"
    );
    let page = browser.open("/optional");
    assert_eq!(page.status, 200, "who needs no session is not kept out by an old one");
    browser.cookies = cookies.clone();
    let reply = browser.open("/deep");
    assert_eq!(location(&reply), "/login?return=%2Fdeep");
    assert!(browser.cookies.is_empty(), "{reply:?}");
    browser.cookies = cookies;
    assert!(browser.open("/login?return=%2Fdeep").text().contains("Your session has ended."));
}

#[test]
fn an_outage_of_the_store_is_503_and_takes_no_session_away() {
    let (mut redis, upstream) = (RedisServer::start(), Upstream::start());
    let store = format!("[store]\nkind = \"redis\"\n[store.redis]\nurl = \"{}\"\n", redis.url());
    let config = config(&upstream, SHORT).replace("[store]\nkind = \"memory\"\n", &store);
    let gateway = Gateway::start(&config);
    let mut browser = Browser::signed_in(&gateway, "alice");
    expire(&browser);
    redis.kill();
    let api = browser.load("/x");
    assert_eq!((api.status, &*api.code()), (503, "store_unavailable"), "{api:?}");
    assert!(api.field("retry-after").is_some() && api.values("set-cookie").is_empty());
    let page = browser.open("/deep");
    assert_eq!((page.status, page.field("location")), (503, None));
    assert!(
        page.text().contains("Your session is kept.") && page.text().contains("href=\"/deep\""),
        "{page:?}"
    );
    assert!(page.field("retry-after").is_some() && page.values("set-cookie").is_empty());
    let form = browser.open("/login");
    assert_eq!(form.status, 503, "{form:?}");
}

#[test]
fn sessions_outlive_a_restart() {
    let upstream = Upstream::start();
    let config =
        config(&upstream, "").replace("kind = \"memory\"", "kind = \"embedded\"\npath = \"state.redb\"");
    let mut gateway = Gateway::start(&config);
    let mut browser = Browser::signed_in(&gateway, "alice");
    gateway.terminate();
    gateway.wait();
    gateway.run();
    assert_eq!(browser.open("/x").status, 200);
    browser.cookies.remove("auth_gateway_access");
    assert_eq!(browser.open("/x").status, 200);
}

/// An upstream that responds when the test lets it.
fn slow() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    (listener, address)
}

fn accept(listener: &TcpListener) -> TcpStream {
    let (mut socket, _) = listener.accept().unwrap();
    let mut head = Vec::new();
    let mut buffer = [0; 4096];
    while !head.windows(4).any(|w| w == b"\r\n\r\n") {
        let n = socket.read(&mut buffer).unwrap();
        assert!(n > 0);
        head.extend_from_slice(&buffer[..n]);
    }
    socket
}

fn answer(mut socket: TcpStream) {
    socket.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").unwrap();
}

/// Begins a request with these cookies.
fn begin(address: SocketAddr, path: &'static str, cookies: &str) -> thread::JoinHandle<Reply> {
    let cookies = cookies.to_owned();
    thread::spawn(move || get(address, path, &[("Cookie", &cookies)]).unwrap())
}

/// A gateway before a slow upstream, with a grace that is much shorter than a response; `strict` so that a dead token shows.
fn before(address: &str) -> Gateway {
    Gateway::start(&format!(
        "[tokens]\naccess_ttl = \"1s\"\nrotation = \"strict\"\nreuse_grace = \"600ms\"\n[browser]\nenabled = true\n\
         [store]\nkind = \"memory\"\n[upstreams.app]\nurls = [\"http://{address}\"]\n[[routes]]\npath = \"/app\"\nupstream = \"app\"\n"
    ))
}

#[test]
fn the_old_cookies_work_while_the_response_with_the_new_ones_is_under_way() {
    let (listener, address) = slow();
    let gateway = before(&address);
    let mut browser = Browser::signed_in(&gateway, "alice");
    expire(&browser);
    let (at, cookie) = (gateway.address, browser.cookie_field());
    let upload = begin(at, "/app/slow", &cookie);
    let held = accept(&listener);
    // Longer than the grace: without more the token that was presented would be dead.
    let begun = Instant::now();
    wait_until("the grace is over", || begun.elapsed() > Duration::from_millis(1500));
    let second = begin(at, "/app/other", &cookie);
    answer(accept(&listener));
    let second = second.join().unwrap();
    assert_eq!(second.status, 200, "{second:?}");
    answer(held);
    let first = upload.join().unwrap();
    assert_eq!((first.status, refresh_cookie(&first)), (200, refresh_cookie(&second)), "one successor");
    // Once the response has left, the token dies as ever.
    browser.keep(&first);
    let begun = Instant::now();
    wait_until("the grace is over", || begun.elapsed() > Duration::from_millis(1500));
    let replay = get(at, "/app", &[("Cookie", &cookie)]).unwrap();
    assert_eq!((replay.status, &*replay.code()), (401, "token_reused"));
}

#[test]
fn a_response_that_never_left_leaves_the_old_cookies_good() {
    let (listener, address) = slow();
    let gateway = before(&address);
    let mut browser = Browser::signed_in(&gateway, "alice");
    expire(&browser);
    let mut client = TcpStream::connect(gateway.address).unwrap();
    let head = format!(
        "GET /app HTTP/1.1\r\nHost: {}\r\nCookie: {}\r\n\r\n",
        gateway.address,
        browser.cookie_field()
    );
    client.write_all(head.as_bytes()).unwrap();
    let held = accept(&listener);
    drop(client);
    let begun = Instant::now();
    wait_until("the grace is over", || begun.elapsed() > Duration::from_millis(1800));
    drop(held);
    let again = begin(gateway.address, "/app", &browser.cookie_field());
    answer(accept(&listener));
    let again = again.join().unwrap();
    assert_eq!(again.status, 200, "{again:?}");
    browser.keep(&again);
}

#[test]
fn a_late_response_does_not_take_newer_cookies_away() {
    let (listener, address) = slow();
    let gateway = before(&address);
    let mut browser = Browser::signed_in(&gateway, "alice");
    expire(&browser);
    let (at, cookie) = (gateway.address, browser.cookie_field());
    let late = begin(at, "/app/late", &cookie);
    let held = accept(&listener);
    let ask = |cookie: &str| {
        let asking = begin(at, "/app", cookie);
        answer(accept(&listener));
        asking.join().unwrap()
    };
    browser.keep(&ask(&cookie));
    expire(&browser);
    // The successor is used, and has one of its own now.
    browser.keep(&ask(&browser.cookie_field()));
    answer(held);
    let late = late.join().unwrap();
    assert_eq!((late.status, late.values("set-cookie").len()), (200, 0), "{late:?}");
}

#[test]
fn streams_end_with_the_session_of_the_cookies() {
    let (listener, address) = slow();
    let gateway = before(&address);
    let mut browser = Browser::signed_in(&gateway, "alice");
    let mut client = TcpStream::connect(gateway.address).unwrap();
    client.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let head = format!(
        "GET /app HTTP/1.1\r\nHost: {}\r\nCookie: {}\r\n\r\n",
        gateway.address,
        browser.cookie_field()
    );
    client.write_all(head.as_bytes()).unwrap();
    let mut held = accept(&listener);
    held.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n").unwrap();
    let mut buffer = [0; 4096];
    assert!(client.read(&mut buffer).unwrap() > 0);
    let reply = browser.send("POST", "/logout", &[("Accept", HTML), ("Sec-Fetch-Site", "same-origin")], b"");
    assert_eq!(reply.status, 303);
    let left = Instant::now();
    while matches!(client.read(&mut buffer), Ok(1..)) {}
    assert!(left.elapsed() < Duration::from_secs(10), "{:?}", left.elapsed());
}
