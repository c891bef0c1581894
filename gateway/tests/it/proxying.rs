//! Routes, identity and forwarding, as clients and upstreams see them.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::fixture::{
    Gateway, PASSWORD, Reply, Upstream, exchange, exchange_for, free_address, get, request, tokens,
    wait_until,
};

fn start(upstream: &Upstream, more: &str) -> Gateway {
    Gateway::start(&format!("[upstreams.app]\nurls = [\"http://{}\"]\n{more}", upstream.address))
}

/// A route to the upstream.
fn route(path: &str, more: &str) -> String {
    format!("[[routes]]\npath = \"{path}\"\nupstream = \"app\"\n{more}\n")
}

fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}

#[test]
fn the_longest_path_decides_and_nothing_passes_without_a_route() {
    let upstream = Upstream::start();
    let routes = [
        route("/open", "access = \"public\""),
        route("/open/closed", ""),
        route("/open/closed/admin", "roles = [\"admin\", \"boss\"]"),
        route("/some", "access = \"optional\""),
        route("/write", "access = \"public\"\nmethods = [\"POST\", \"PURGE\"]"),
        route("/Caseless", "ignore_case = true"),
        route("/hosted", "access = \"public\"\nhosts = [\"app.example\"]"),
    ];
    let gateway = start(&upstream, &routes.concat());
    let (alice, _) = tokens(gateway.address, "alice", PASSWORD);
    let (root, _) = tokens(gateway.address, "root", PASSWORD);
    let ask = |method: &str, path: &str, token: Option<&str>| -> Reply {
        let value = token.map(bearer);
        let fields: Vec<(&str, &str)> = value.iter().map(|v| ("Authorization", v.as_str())).collect();
        request(gateway.address, method, path, &fields, b"").unwrap()
    };
    for (method, path, token, status, code) in [
        ("GET", "/open", None, 200, ""),
        ("GET", "/open/x", Some("a.b.c"), 200, ""),
        ("GET", "/opened", None, 404, "not_found"),
        ("GET", "/open/closed", None, 401, "missing_token"),
        ("GET", "/open/closed;x=1/y", None, 401, "missing_token"),
        ("GET", "/open;x/y", None, 404, "not_found"),
        ("GET", "/open/closed/x", Some(alice.as_str()), 200, ""),
        ("GET", "/open/clos%65d/x", None, 401, "missing_token"),
        ("GET", "/open/closed/admin", Some(alice.as_str()), 403, "insufficient_scope"),
        ("GET", "/open/closed/admin", Some(root.as_str()), 200, ""),
        ("GET", "/some", None, 200, ""),
        ("GET", "/some", Some("a.b.c"), 401, "invalid_token"),
        ("POST", "/write", None, 200, ""),
        ("PURGE", "/write", None, 200, ""),
        ("GET", "/write", None, 405, "method_not_allowed"),
        ("PURGE", "/open", None, 405, "method_not_allowed"),
        ("TRACE", "/open", None, 405, "method_not_allowed"),
        ("GET", "/hosted", None, 404, "not_found"),
        ("GET", "/cASELESS/x", None, 401, "missing_token"),
        ("GET", "/caseless%2fx", None, 400, "ambiguous_target"),
        ("GET", "/caselessx", None, 404, "not_found"),
        ("GET", "/OPEN", None, 404, "not_found"),
        ("GET", "/open%2Fclosed", None, 400, "ambiguous_target"),
        ("GET", "/open/a%2Fb", None, 400, "ambiguous_target"),
        ("GET", "/open/../open/closed", None, 400, "ambiguous_target"),
        ("GET", "/", None, 404, "not_found"),
    ] {
        let reply = ask(method, path, token);
        let got = if reply.status == 200 { String::new() } else { reply.code() };
        assert_eq!((reply.status, got.as_str()), (status, code), "{method} {path}");
    }
    assert_eq!(ask("GET", "/write", None).field("allow"), Some("POST, PURGE"));
    let hosted = b"GET /hosted HTTP/1.1\r\nHost: App.Example.:8080\r\nConnection: close\r\n\r\n";
    assert_eq!(exchange(gateway.address, hosted).replies[0].status, 200);
}

#[test]
fn the_upstream_sees_who_it_is_and_nothing_that_a_client_forged() {
    let upstream = Upstream::start();
    let routes =
        [route("/api", ""), route("/open", "access = \"public\""), route("/token", "forward_token = true")];
    let gateway = start(&upstream, &routes.concat());
    let (alice, _) = tokens(gateway.address, "alice", PASSWORD);
    let forged = [
        ("Authorization", bearer(&alice)),
        ("X-Auth-User", "root".into()),
        ("x_auth_roles", "admin".into()),
        ("X-Auth-Session", "x".into()),
        ("X-Forwarded-For", "1.2.3.4".into()),
        ("X-Real-IP", "1.2.3.4".into()),
        ("Forwarded", "for=1.2.3.4".into()),
        ("X-Request-Id", "mine".into()),
        ("X-Original-URL", "/admin".into()),
        ("Proxy", "http://evil".into()),
        ("X-Custom", "kept".into()),
        ("Cookie", "a=b".into()),
    ];
    let fields: Vec<(&str, &str)> = forged.iter().map(|(n, v)| (*n, v.as_str())).collect();
    let reply = get(gateway.address, "/api/x?y=%2e%2e/", &fields).unwrap();
    assert_eq!(reply.status, 200);
    let seen = upstream.last();
    assert_eq!(seen.target, "/api/x?y=%2e%2e/");
    let one = |name: &str| match seen.values(name)[..] {
        [value] => value.to_owned(),
        ref other => panic!("{name}: {other:?}"),
    };
    assert_eq!(
        (one("x-auth-user"), one("x-auth-subject"), one("x-auth-roles")),
        ("alice".into(), "1".into(), "user".into())
    );
    assert_eq!((one("x-forwarded-for"), one("x-forwarded-proto")), ("127.0.0.1".into(), "http".into()));
    assert_eq!(one("x-forwarded-host"), gateway.address.to_string());
    assert_eq!(one("cdn-loop"), "auth-gateway");
    assert!(seen.values("via").is_empty(), "nginx would compress nothing");
    assert_eq!((one("x-custom"), one("cookie")), ("kept".into(), "a=b".into()));
    assert_eq!(reply.field("x-request-id"), Some(one("x-request-id").as_str()), "one id on both sides");
    let text = String::from_utf8_lossy(&seen.raw).to_lowercase();
    for gone in
        ["root", "admin", "1.2.3.4", "mine", "evil", "authorization", "x_auth", "x-real-ip", "connection"]
    {
        assert!(!text.contains(gone), "{gone} in {text}");
    }

    get(gateway.address, "/open/x", &fields).unwrap();
    assert!(!String::from_utf8_lossy(&upstream.last().raw).to_lowercase().contains("x-auth"));
    get(gateway.address, "/token", &fields).unwrap();
    assert_eq!(upstream.last().values("authorization"), [bearer(&alice)]);
}

#[test]
fn a_trusted_proxy_is_believed_about_where_a_request_came_from() {
    let upstream = Upstream::start();
    let more = format!("[server]\ntrusted_proxies = [\"127.0.0.1\"]\n{}", route("/", "access = \"public\""));
    let gateway = start(&upstream, &more);
    let fields = [
        ("X-Forwarded-For", "evil, 203.0.113.9"),
        ("X-Forwarded-Proto", "https"),
        ("X-Request-Id", "edge-1"),
    ];
    let reply = get(gateway.address, "/", &fields).unwrap();
    assert_eq!(reply.field("x-request-id"), Some("edge-1"));
    let seen = upstream.last();
    assert_eq!(seen.values("x-forwarded-for"), ["203.0.113.9, 127.0.0.1"]);
    assert_eq!(seen.values("x-forwarded-proto"), ["https"]);
    wait_until("the access line is written", || gateway.log().contains("\"client\":\"203.0.113.9\""));
}

#[test]
fn a_prefix_can_be_stripped_or_replaced_and_encoded_slashes_allowed() {
    let upstream = Upstream::start();
    let routes = [
        route("/api/v1", "access = \"public\"\nstrip_prefix = true"),
        route("/old", "access = \"public\"\nrewrite_prefix = \"/v2/new\""),
        route("/raw", "access = \"public\"\nencoded_slashes = true"),
    ];
    let gateway = start(&upstream, &routes.concat());
    for (asked, seen) in [
        ("/api/v1/x?y", "/x?y"),
        ("/api/v1", "/"),
        ("/api/v1?y", "/?y"),
        ("/ap%69/v1/x", "/x"),
        ("/old/x%20y?z", "/v2/new/x%20y?z"),
        ("/old?z", "/v2/new?z"),
        ("/old/", "/v2/new/"),
        ("/%6fld", "/v2/new"),
        ("/raw/a%2Fb", "/raw/a%2Fb"),
    ] {
        assert_eq!(get(gateway.address, asked, &[]).unwrap().status, 200, "{asked}");
        assert_eq!(upstream.last().target, seen, "{asked}");
    }
}

#[test]
fn large_bodies_stream_both_ways() {
    let upstream = Upstream::start();
    let gateway = start(&upstream, &route("/", "access = \"public\""));
    let body: Vec<u8> = (0..5_000_000_u32).map(|i| (i * 7 % 251) as u8).collect();
    for target in ["/mirror", "/mirror/chunked"] {
        let reply = request(gateway.address, "POST", target, &[], &body).unwrap();
        assert!(reply.body == body, "{target}: {} of {} bytes", reply.body.len(), body.len());

        let mut chunked =
            format!("POST {target} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n").into_bytes();
        for piece in body.chunks(70_000) {
            chunked.extend(format!("{:x};ext=1\r\n", piece.len()).into_bytes());
            chunked.extend_from_slice(piece);
            chunked.extend_from_slice(b"\r\n");
        }
        chunked.extend_from_slice(b"0\r\nX-Auth-User: root\r\n\r\n");
        let reply = exchange(gateway.address, &chunked).replies.remove(0);
        assert!(reply.body == body, "{target}: {} of {} bytes", reply.body.len(), body.len());
        assert_eq!(upstream.last().values("transfer-encoding"), ["chunked"]);
    }
    assert!(upstream.violations().is_empty(), "{:?}", upstream.violations());
}

#[test]
fn connections_on_both_sides_carry_many_requests() {
    let upstream = Upstream::start();
    let gateway = start(&upstream, &format!("[server]\nworkers = 1\n{}", route("/", "access = \"public\"")));
    let request = b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n\
        POST /b HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhiDELETE /c HTTP/1.1\r\nHost: a\r\n\r\nHEAD /d HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    // A response to HEAD declares a length and has no body, so it is read from the raw bytes here.
    let mut socket = TcpStream::connect(gateway.address).unwrap();
    socket.write_all(request).unwrap();
    let mut received = String::new();
    socket.read_to_string(&mut received).unwrap();
    assert_eq!(received.matches("HTTP/1.1 200 OK").count(), 4, "{received}");
    let seen: Vec<_> = upstream.requests().iter().map(|r| format!("{} {}", r.method, r.target)).collect();
    assert_eq!(seen, ["GET /a", "POST /b", "DELETE /c", "HEAD /d"]);
    assert_eq!(upstream.connections(), 1);
    assert!(!received.contains("X-Hop") && !received.contains("Keep-Alive"), "hop-by-hop fields end here");
    assert!(!received.contains("X-Request-Id: upstream"));
}

#[test]
fn a_client_of_http_1_0_is_answered_in_a_way_it_understands() {
    let upstream = Upstream::start();
    let gateway = start(&upstream, &route("/", "access = \"public\""));
    let mut socket = TcpStream::connect(gateway.address).unwrap();
    socket.write_all(b"GET /chunked HTTP/1.0\r\nHost: a\r\n\r\n").unwrap();
    let mut received = String::new();
    socket.read_to_string(&mut received).unwrap();
    assert!(
        received.starts_with("HTTP/1.1 200 OK\r\n") && !received.contains("Transfer-Encoding"),
        "{received}"
    );
    assert!(received.ends_with('}'), "{received}");
    assert!(String::from_utf8_lossy(&upstream.last().raw).starts_with("GET /chunked HTTP/1.1\r\n"));
}

#[test]
fn a_100_continue_is_sent_only_to_admitted_requests() {
    let upstream = Upstream::start();
    let gateway = start(&upstream, &[route("/", "access = \"public\""), route("/api", "")].concat());
    let ask = |path: &str| {
        let text = format!(
            "POST {path} HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n[WAIT 100]hi"
        );
        exchange(gateway.address, text.as_bytes())
    };
    let good = ask("/mirror");
    assert_eq!((good.interim, good.replies[0].text()), (vec![100], "hi".to_owned()));
    let refused = ask("/api");
    assert_eq!((refused.interim, refused.replies[0].status, refused.closed), (vec![], 401, true));
    let odd = b"POST / HTTP/1.1\r\nHost: a\r\nExpect: tea\r\nContent-Length: 0\r\n\r\n";
    assert_eq!(exchange(gateway.address, odd).replies[0].status, 417);
}

#[test]
fn upstream_failures_are_distinguished() {
    let upstream = Upstream::start();
    let closed = free_address();
    let rude = TcpListener::bind("127.0.0.1:0").unwrap();
    let rude_address = rude.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut socket in rude.incoming().flatten() {
            let mut request = [0; 4096];
            let n = socket.read(&mut request).unwrap_or(0);
            let target =
                String::from_utf8_lossy(&request[..n]).split(' ').nth(1).unwrap_or_default().to_owned();
            let answer: &[u8] = match target.as_str() {
                "/rude/html" => b"<html>hello</html>\r\n\r\n",
                "/rude/both" => b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
                "/rude/cut" => b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf",
                "/rude/cut-chunk" => b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n64\r\nhalf",
                "/rude/extra" => b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nstray",
                "/rude/early" => b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
                "/rude/switch" => b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
                _ => b"",
            };
            let _ = socket.write_all(answer);
        }
    });
    let more = format!(
        "[upstreams.slow]\nurls = [\"http://{}\"]\nresponse_timeout = \"300ms\"\n[upstreams.closed]\nurls = [\"http://{closed}\"]\n\
         [upstreams.rude]\nurls = [\"http://{rude_address}\"]\n\
         [[routes]]\npath = \"/slow\"\nupstream = \"slow\"\naccess = \"public\"\n\
         [[routes]]\npath = \"/closed\"\nupstream = \"closed\"\naccess = \"public\"\n\
         [[routes]]\npath = \"/rude\"\nupstream = \"rude\"\naccess = \"public\"\n{}",
        upstream.address,
        route("/", "access = \"public\"")
    );
    let gateway = start(&upstream, &more);
    for (path, status, code) in [
        ("/closed", 502, "bad_gateway"),
        ("/slow", 504, "gateway_timeout"),
        ("/rude/silent", 502, "bad_gateway"),
        ("/rude/html", 502, "bad_gateway"),
        ("/rude/both", 502, "bad_gateway"),
        ("/rude/switch", 502, "bad_gateway"),
    ] {
        let reply = get(gateway.address, path, &[]).unwrap();
        assert_eq!((reply.status, reply.code().as_str()), (status, code), "{path}");
    }
    for path in ["/rude/cut", "/rude/cut-chunk"] {
        let text = format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
        let cut = exchange(gateway.address, text.as_bytes());
        assert!(cut.replies.is_empty() && cut.closed, "a cut answer must not look whole: {cut:?}");
    }
    for _ in 0..3 {
        assert_eq!(
            get(gateway.address, "/rude/extra", &[]).unwrap().text(),
            "ok",
            "no stray answer is passed on"
        );
        assert_eq!(get(gateway.address, "/rude/early", &[]).unwrap().text(), "ok");
    }
}

/// An upstream that sends a whole response as the body of what has none, so many milliseconds late.
fn wrongly_sends_bodies(delay: u64) -> (SocketAddr, Arc<AtomicUsize>) {
    const STRAY: &str = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nstray";
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&connections);
    std::thread::spawn(move || {
        for mut socket in listener.incoming().flatten() {
            counted.fetch_add(1, Ordering::Relaxed);
            std::thread::spawn(move || -> std::io::Result<()> {
                loop {
                    let mut request = [0; 4096];
                    let n = socket.read(&mut request)?;
                    if n == 0 {
                        return Ok(());
                    }
                    let request = String::from_utf8_lossy(&request[..n]).into_owned();
                    let head = match request.split(' ').nth(1) {
                        _ if request.starts_with("HEAD") => "200 OK\r\nContent-Length: 60",
                        Some("/204") => "204 No Content",
                        Some("/304") => "304 Not Modified",
                        _ => {
                            socket.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")?;
                            continue;
                        }
                    };
                    socket.write_all(format!("HTTP/1.1 {head}\r\n\r\n").as_bytes())?;
                    std::thread::sleep(Duration::from_millis(delay));
                    socket.write_all(STRAY.as_bytes())?;
                }
            });
        }
    });
    (address, connections)
}

#[test]
fn a_body_behind_what_has_none_is_never_the_response_to_the_next_request() {
    for (first, delay) in [
        ("HEAD /", 0),
        ("HEAD /", 2),
        ("HEAD /", 60),
        ("GET /204", 0),
        ("GET /204", 2),
        ("GET /304", 0),
        ("GET /304", 2),
    ] {
        let (address, _) = wrongly_sends_bodies(delay);
        let gateway = Gateway::start(&format!(
            "[server]\nworkers = 1\n[upstreams.app]\nurls = [\"http://{address}\"]\n{}",
            route("/", "access = \"public\"")
        ));
        // A late body is a matter of one connection and one moment: later requests would only measure the load of the machine.
        for _ in 0..if delay == 0 { 5 } else { 1 } {
            // Both arrive together: the second is sent as soon as the first has its response.
            let both = format!(
                "{first} HTTP/1.1\r\nHost: a\r\n\r\nGET /next HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
            );
            let mut socket = TcpStream::connect(gateway.address).unwrap();
            socket.write_all(both.as_bytes()).unwrap();
            let mut received = String::new();
            socket.read_to_string(&mut received).unwrap();
            assert!(
                received.ends_with("\r\n\r\nok") && !received.contains("stray"),
                "{first} {delay}: {received}"
            );
        }
    }
}

#[test]
fn responses_without_a_body_cost_no_connection_of_a_full_upstream_for_long() {
    let (address, connections) = wrongly_sends_bodies(0);
    let gateway = Gateway::start(&format!(
        "[server]\nworkers = 1\n[upstreams.app]\nurls = [\"http://{address}\"]\nmax_connections = 1\n{}",
        route("/", "access = \"public\"")
    ));
    for target in ["/304", "/next", "/204", "/next", "/next", "/next"] {
        let reply = get(gateway.address, target, &[]).unwrap();
        assert!(matches!(reply.status, 200 | 204 | 304), "{target}: {reply:?}");
    }
    let opened = connections.load(Ordering::Relaxed);
    assert_eq!(opened, 3, "one for each response without a body, and the last serves all others");
}

#[test]
fn a_pooled_connection_that_died_is_replaced_without_a_failure() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut socket in listener.incoming().flatten() {
            // Answers once and closes a moment later, without having said so.
            let _ = socket.read(&mut [0; 4096]);
            let _ = socket.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        }
    });
    let gateway = Gateway::start(&format!(
        "[server]\nworkers = 1\n[upstreams.app]\nurls = [\"http://{address}\"]\n{}",
        route("/", "access = \"public\"")
    ));
    for _ in 0..50 {
        assert_eq!(get(gateway.address, "/", &[]).unwrap().status, 200);
        // A request that cannot be sent twice asks the kernel whether its connection is alive.
        std::thread::sleep(Duration::from_millis(2));
        assert_eq!(request(gateway.address, "POST", "/", &[], b"x").unwrap().status, 200);
    }
}

#[test]
fn slow_clients_are_not_waited_for() {
    let upstream = Upstream::start();
    let limits = "[limits]\nfirst_byte_timeout = \"300ms\"\nheader_timeout = \"300ms\"\nbody_timeout = \"300ms\"\nidle_timeout = \"300ms\"\nlogin_body_timeout = \"300ms\"\n";
    let gateway = start(&upstream, &format!("{limits}{}", route("/", "access = \"public\"")));
    let statuses = |bytes: &[u8]| {
        let started = Instant::now();
        let transcript = exchange_for(gateway.address, bytes, Duration::from_secs(10));
        assert!(transcript.closed && started.elapsed() < Duration::from_secs(15), "{transcript:?}");
        transcript.replies.iter().map(|r| r.status).collect::<Vec<_>>()
    };
    assert_eq!(statuses(b""), [] as [u16; 0]);
    assert_eq!(statuses(b"GET / HTTP/1.1\r\nHost:"), [408]);
    assert_eq!(statuses(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nab"), [408]);
    let login =
        b"POST /login HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 50\r\n\r\n{";
    assert_eq!(statuses(login), [408]);
    assert_eq!(statuses(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"), [200]);
}

#[test]
fn identities_never_bleed_over_shared_connections() {
    let upstream = Upstream::start();
    let gateway = start(&upstream, &[route("/api", ""), route("/open", "access = \"public\"")].concat());
    let (alice, _) = tokens(gateway.address, "alice", PASSWORD);
    let (bob, _) = tokens(gateway.address, "bob", PASSWORD);
    let mut request = Vec::new();
    for i in 0..60 {
        let (path, token) = [("/api", Some(&alice)), ("/api", Some(&bob)), ("/open", None)][i % 3];
        let authorization = token.map(|t| format!("Authorization: {}\r\n", bearer(t))).unwrap_or_default();
        let nonce = ["alice", "bob", "nobody"][i % 3];
        request.extend(
            format!("GET {path} HTTP/1.1\r\nHost: a\r\nX-Nonce: {nonce}\r\n{authorization}\r\n").into_bytes(),
        );
    }
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let (request, address) = (request.clone(), gateway.address);
            std::thread::spawn(move || exchange(address, &request).replies.len())
        })
        .collect();
    assert!(threads.into_iter().all(|t| t.join().unwrap() == 60));
    for seen in upstream.requests().iter().filter(|r| !r.values("x-nonce").is_empty()) {
        let user = seen.values("x-auth-user").first().copied().unwrap_or("nobody");
        assert_eq!(seen.values("x-nonce"), [user]);
    }
}

#[test]
fn a_page_of_an_allowed_origin_can_read_every_answer_and_no_other_can() {
    let upstream = Upstream::start();
    let more = format!("[cors]\nallowed_origins = [\"http://localhost:5173\"]\n{}", route("/api", ""));
    let gateway = start(&upstream, &more);
    let allowed = ("Origin", "http://localhost:5173");
    for path in ["/api", "/nothing", "/login"] {
        let reply = get(gateway.address, path, &[allowed]).unwrap();
        assert_eq!(reply.field("access-control-allow-origin"), Some(allowed.1), "{path} {}", reply.status);
        assert_eq!(reply.field("vary"), Some("Origin"));
        let other = get(gateway.address, path, &[("Origin", "http://localhost:5174")]).unwrap();
        assert_eq!(other.field("access-control-allow-origin"), None);
    }
    let preflight = [
        allowed,
        ("Access-Control-Request-Method", "GET"),
        ("Access-Control-Request-Headers", "authorization"),
    ];
    let reply = request(gateway.address, "OPTIONS", "/api", &preflight, b"").unwrap();
    assert_eq!(reply.status, 204);
    assert!(reply.field("access-control-allow-headers").unwrap().contains("Authorization"));
    assert!(upstream.requests().is_empty());
}

#[test]
fn files_are_served_with_care() {
    let upstream = Upstream::start();
    let gateway = start(&upstream, "[[routes]]\npath = \"/\"\nstatic = \"config\"\naccess = \"public\"\n");
    let folder = gateway.path("config");
    std::fs::write(folder.join("index.html"), "<p>hello").unwrap();
    std::fs::write(folder.join(".secret"), "x").unwrap();
    std::os::unix::fs::symlink(gateway.path("gateway.toml"), folder.join("link.toml")).unwrap();
    let page = get(gateway.address, "/", &[]).unwrap();
    assert_eq!((page.status, page.text().as_str()), (200, "<p>hello"));
    assert_eq!(page.field("content-type"), Some("text/html; charset=utf-8"));
    for field in
        ["content-security-policy", "x-content-type-options", "referrer-policy", "cross-origin-opener-policy"]
    {
        assert!(page.field(field).is_some(), "{field}");
    }
    assert_eq!(page.field("cache-control"), Some("no-cache"));
    let etag = page.field("etag").unwrap();
    assert_eq!(get(gateway.address, "/index.html", &[("If-None-Match", etag)]).unwrap().status, 304);
    for path in ["/.secret", "/link.toml", "/nothing", "/index.html/", "/node_modules/x"] {
        assert_eq!(get(gateway.address, path, &[]).unwrap().status, 404, "{path}");
    }
    assert_eq!(request(gateway.address, "POST", "/index.html", &[], b"").unwrap().status, 405);
}

#[test]
fn files_come_in_parts_compressed_and_with_the_policy_of_their_route() {
    let upstream = Upstream::start();
    let routes = "[[routes]]\npath = \"/\"\nstatic = \"config\"\naccess = \"public\"\n\
        [[routes]]\npath = \"/own\"\nstatic = \"config\"\naccess = \"public\"\n\
        content_security_policy = \"default-src 'none'\"\n\
        [[routes]]\npath = \"/bare\"\nstatic = \"config\"\naccess = \"public\"\ncontent_security_policy = \"off\"\n";
    let gateway = start(&upstream, routes);
    let folder = gateway.path("config");
    let script = "let x = 1;\n".repeat(1000);
    std::fs::create_dir_all(folder.join("docs")).unwrap();
    std::fs::create_dir(folder.join(".well-known")).unwrap();
    for (name, content) in [
        ("app.js", script.as_str()),
        ("pre.css", "plain"),
        ("pre.css.br", "coded"),
        ("docs/index.html", "docs"),
        (".well-known/security.txt", "Contact"),
    ] {
        std::fs::write(folder.join(name), content).unwrap();
    }
    let ask = |path: &str, fields: &[(&str, &str)]| get(gateway.address, path, fields).unwrap();

    let part = ask("/app.js", &[("Range", "bytes=4-8"), ("Accept-Encoding", "gzip")]);
    assert_eq!((part.status, part.text().as_str()), (206, "x = 1"));
    assert_eq!(part.field("content-range"), Some("bytes 4-8/11000"));
    let none = ask("/app.js", &[("Range", "bytes=11000-")]);
    assert_eq!((none.status, none.field("content-range")), (416, Some("bytes */11000")));
    let date = part.field("last-modified").unwrap();
    assert_eq!(ask("/app.js", &[("If-Modified-Since", date)]).status, 304);
    assert_eq!(ask("/app.js", &[("If-Match", "\"x\"")]).status, 412);

    let gzip = ask("/app.js", &[("Accept-Encoding", "gzip")]);
    assert_eq!((gzip.field("content-encoding"), gzip.field("vary")), (Some("gzip"), Some("Accept-Encoding")));
    assert_eq!(gzip.field("content-length"), Some(gzip.body.len().to_string().as_str()));
    let mut plain = String::new();
    flate2::read::GzDecoder::new(&gzip.body[..]).read_to_string(&mut plain).unwrap();
    assert_eq!(plain, script);
    assert_eq!(ask("/pre.css", &[("Accept-Encoding", "br, gzip")]).text(), "coded");
    assert_eq!(ask("/pre.css", &[]).text(), "plain");
    let head = b"HEAD /app.js HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    let transcript = exchange(gateway.address, head);
    assert!(
        String::from_utf8_lossy(&transcript.rest).to_lowercase().contains("content-length: 11000\r\n"),
        "{transcript:?}"
    );

    let docs = ask("/docs?a=b", &[]);
    assert_eq!((docs.status, docs.field("location")), (308, Some("/docs/?a=b")));
    assert_eq!(ask("/docs/", &[]).text(), "docs");
    assert_eq!(ask("/own", &[]).status, 404, "without an index.html it leads nowhere");
    assert_eq!(ask("/.well-known/security.txt", &[]).text(), "Contact");

    let default = ask("/app.js", &[]).field("content-security-policy").unwrap().to_owned();
    assert!(default.contains("style-src 'self' 'unsafe-inline'"), "{default}");
    assert_eq!(ask("/own/app.js", &[]).field("content-security-policy"), Some("default-src 'none'"));
    let bare = ask("/bare/app.js", &[]);
    assert_eq!((bare.field("content-security-policy"), bare.status), (None, 200));
}

#[test]
fn a_fifo_in_a_folder_blocks_nothing() {
    let upstream = Upstream::start();
    let routes =
        "[[routes]]\npath = \"/\"\nstatic = \"config\"\naccess = \"public\"\nindex_fallback = true\n";
    let gateway = start(&upstream, routes);
    let folder = gateway.path("config");
    std::fs::write(folder.join("a.txt"), "a").unwrap();
    for fifo in ["fifo", "a.txt.gz", "index.html"] {
        assert!(std::process::Command::new("mkfifo").arg(folder.join(fifo)).status().unwrap().success());
    }
    // More than a worker has threads for files.
    for _ in 0..10 {
        for path in ["/fifo", "/index.html", "/", "/page"] {
            let fields = [("Accept", "text/html"), ("Accept-Encoding", "gzip")];
            assert_eq!(get(gateway.address, path, &fields).unwrap().status, 404, "{path}");
        }
    }
    assert_eq!(get(gateway.address, "/a.txt", &[("Accept-Encoding", "gzip")]).unwrap().text(), "a");
}
