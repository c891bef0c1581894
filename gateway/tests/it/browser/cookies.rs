//! The cookies themselves: how they are set, and that no upstream gets or sets them.

use std::io::{Read, Write};
use std::net::TcpListener;

use http::Request;

use super::{Browser, HTML, config, start};
use crate::fixture::http2::{ask, connect_tls, http2};
use crate::fixture::{Certificates, Gateway, PASSWORD, Upstream, exchange, get, request};

#[test]
fn a_session_is_two_cookies_that_scripts_cannot_read() {
    let upstream = Upstream::start();
    let gateway = start(&upstream);
    let mut browser = Browser::new(&gateway);
    let reply = browser.sign_in("alice", PASSWORD, "/lab");
    assert_eq!((reply.status, reply.field("location")), (303, Some("/lab")));
    assert_eq!(reply.field("cache-control"), Some("no-store"));
    let cookies = reply.values("set-cookie");
    assert_eq!(cookies.len(), 2, "{cookies:?}");
    for cookie in cookies {
        let (_, attributes) = cookie.split_once(';').unwrap();
        assert_eq!(attributes, " Path=/; HttpOnly; SameSite=Lax");
    }
    let page = browser.open("/lab");
    assert_eq!(page.status, 200);
    assert!(
        page.values("set-cookie").is_empty() && page.field("cache-control").is_none(),
        "nothing new, nothing said"
    );
    let seen = upstream.last();
    assert_eq!(seen.values("x-auth-user"), ["alice"]);
    assert!(seen.values("cookie").is_empty(), "{seen:?}");
    // The same session as a Bearer client's.
    let bearer = format!("Bearer {}", browser.access());
    assert_eq!(get(gateway.address, "/lab", &[("Authorization", &bearer)]).unwrap().status, 200);
}

#[test]
fn behind_a_trusted_front_with_tls_they_are_bound_to_the_host() {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&config(&upstream, "[server]\ntrusted_proxies = [\"127.0.0.0/8\"]\n"));
    let front = [("X-Forwarded-Proto", "https"), ("X-Forwarded-Host", "app.example")];
    let form = [
        ("Content-Type", "application/x-www-form-urlencoded"),
        ("Origin", "https://app.example"),
        front[0],
        front[1],
    ];
    let body =
        format!("username=alice&password={PASSWORD}&return=https%3A%2F%2Fapp.example%2Fx").replace(' ', "+");
    let reply = request(gateway.address, "POST", "/login", &form, body.as_bytes()).unwrap();
    assert_eq!((reply.status, reply.field("location")), (303, Some("/x")), "{reply:?}");
    let cookies = reply.values("set-cookie");
    assert!(
        cookies
            .iter()
            .all(|cookie| cookie.starts_with("__Host-auth_gateway_") && cookie.contains("; Secure"))
    );
    let cookie =
        cookies.iter().map(|cookie| cookie.split(';').next().unwrap()).collect::<Vec<_>>().join("; ");
    assert_eq!(get(gateway.address, "/x", &[("Cookie", &cookie), front[0], front[1]]).unwrap().status, 200);
    // The same cookie under a name that any sibling host or plain page could set is none.
    let tossed = cookie.replace("__Host-", "");
    assert_eq!(get(gateway.address, "/x", &[("Cookie", &tossed), front[0], front[1]]).unwrap().status, 401);
    let both = format!("{tossed}; {cookie}");
    assert_eq!(get(gateway.address, "/x", &[("Cookie", &both), front[0], front[1]]).unwrap().status, 200);
    assert!(upstream.last().values("cookie").is_empty());
    // Plain pages of the same host do not pass for its own.
    let plain = [("Cookie", &*cookie), front[0], front[1], ("Origin", "http://app.example")];
    assert_eq!(request(gateway.address, "POST", "/x", &plain, b"").unwrap().code(), "csrf_rejected");
}

#[test]
fn a_domain_and_remember_me_are_said_in_the_cookies() {
    let upstream = Upstream::start();
    let keys = "enabled = true\ndomain = \"gw.test\"\nremember_me = \"ask\"\ncookie_name = \"mine\"";
    let gateway = Gateway::start(&config(&upstream, "").replace("enabled = true", keys));
    let form = [("Content-Type", "application/x-www-form-urlencoded"), ("Sec-Fetch-Site", "same-origin")];
    let body = format!("username=alice&password={PASSWORD}&remember=1").replace(' ', "+");
    let reply = request(gateway.address, "POST", "/login", &form, body.as_bytes()).unwrap();
    let cookies = reply.values("set-cookie");
    assert_eq!(cookies.len(), 3, "{cookies:?}");
    for cookie in &cookies {
        assert!(cookie.starts_with("mine_domain_") && cookie.contains("; Domain=gw.test"), "{cookie}");
        let age: u64 = cookie.split("Max-Age=").nth(1).unwrap().parse().unwrap();
        assert!((590..=600).contains(&age), "{cookie}");
    }
    let page = get(gateway.address, "/login", &[("Accept", HTML)]).unwrap().text();
    assert!(page.contains("name=\"remember\"") && page.contains("Keep me signed in"), "{page}");
    let body = body.replace("&remember=1", "");
    let reply = request(gateway.address, "POST", "/login", &form, body.as_bytes()).unwrap();
    assert!(reply.values("set-cookie").iter().all(|cookie| !cookie.contains("Max-Age")), "{reply:?}");
}

#[test]
fn the_apps_cookies_arrive_byte_for_byte_and_the_gateways_never() {
    let upstream = Upstream::start();
    let gateway = start(&upstream);
    let browser = Browser::signed_in(&gateway, "alice");
    let (access, refresh) = (browser.access(), browser.refresh());
    let big = format!("big={}", "x".repeat(3900));
    let many = (0..60).map(|n| format!("c{n}={n}")).collect::<Vec<_>>().join("; ");
    for (sent, arrives) in [
        (vec![format!("auth_gateway_access={access}")], vec![]),
        (
            vec![format!(
                "a=1; auth_gateway_access={access}; b=\"2 3\";c;  d = 4 ; auth_gateway_refresh={refresh}"
            )],
            vec!["a=1; b=\"2 3\";c;  d = 4".to_owned()],
        ),
        (
            vec![
                "z=1; a=2".to_owned(),
                format!("auth_gateway_access={access}"),
                "a=3; auth_gateway_remember=1".to_owned(),
            ],
            vec!["z=1; a=2".to_owned(), "a=3".to_owned()],
        ),
        (vec![format!("{big}; auth_gateway_access={access}")], vec![big.clone()]),
        (vec![format!("auth_gateway_access={access}; {many}")], vec![many.clone()]),
        (
            vec![format!(
                "auth_gateway_access={access}; __Host-auth_gateway_access=x; __Secure-auth_gateway_domain_refresh=y; k=v"
            )],
            vec!["k=v".to_owned()],
        ),
    ] {
        let fields: Vec<(&str, &str)> = sent.iter().map(|value| ("Cookie", value.as_str())).collect();
        assert_eq!(get(gateway.address, "/x", &fields).unwrap().status, 200, "{sent:?}");
        assert_eq!(upstream.last().values("cookie"), arrives, "{sent:?}");
        // On public routes, too, where no identity is looked for.
        assert_eq!(get(gateway.address, "/open", &fields).unwrap().status, 200);
        assert_eq!(upstream.last().values("cookie"), arrives, "{sent:?}");
    }
    // What is none of the gateway's goes as it came.
    let alien = "auth_gateway=1; xauth_gateway_access=2; =3; ; e";
    assert_eq!(get(gateway.address, "/open", &[("Cookie", alien)]).unwrap().status, 200);
    assert_eq!(upstream.last().values("cookie"), [alien]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn over_tls_and_http2_crumbs_are_put_together_without_them() {
    let (certificates, upstream) = (Certificates::make(), Upstream::start());
    let file = |name: &str| certificates.file(name);
    let tls = format!(
        "[server.tls]\ncertificates = [{{ certificate_file = {:?}, private_key_file = {:?} }}]\n",
        file("server.pem"),
        file("server.key")
    );
    let gateway = Gateway::start(&config(&upstream, &tls));
    let socket = connect_tls(&certificates, gateway.address, "127.0.0.1", &["h2"]).await.unwrap();
    let client = http2(socket).await;
    let url = |path: &str| format!("https://{}{path}", gateway.address);
    let sign_in = Request::post(url("/login"))
        .header("content-type", "application/x-www-form-urlencoded")
        .header("sec-fetch-site", "same-origin")
        .body(())
        .unwrap();
    let body = format!("username=alice&password={PASSWORD}&return=/a").replace(' ', "+");
    let reply = ask(&client, sign_in, body.as_bytes()).await.unwrap();
    assert_eq!((reply.status.as_u16(), reply.field("location")), (303, "/a"));
    let mut request = Request::get(url("/a")).header("cookie", "one=1");
    for cookie in reply.fields.get_all("set-cookie") {
        let cookie = cookie.to_str().unwrap();
        assert!(
            cookie.starts_with("__Host-") && cookie.contains("; Secure") && !cookie.contains("Domain"),
            "{cookie}"
        );
        request = request.header("cookie", cookie.split(';').next().unwrap());
    }
    let reply = ask(&client, request.header("cookie", "two=2").body(()).unwrap(), b"").await.unwrap();
    assert_eq!(reply.status, 200);
    assert_eq!(upstream.last().values("cookie"), ["one=1; two=2"]);
    assert_eq!(upstream.last().values("x-auth-user"), ["alice"]);
    let page = Request::get(url("/deep")).header("sec-fetch-mode", "navigate").body(()).unwrap();
    let reply = ask(&client, page, b"").await.unwrap();
    assert_eq!((reply.status.as_u16(), reply.field("location")), (303, "/login?return=%2Fdeep"));
}

#[test]
fn an_upstream_cannot_set_the_sessions_cookies() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut socket in listener.incoming().flatten() {
            let mut buffer = [0; 4096];
            let _ = socket.read(&mut buffer);
            let _ = socket.write_all(
                b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\nSet-Cookie: app=1; Path=/\r\n\
                  Set-Cookie: auth_gateway_access=evil; Path=/\r\nSet-Cookie: =auth_gateway_refresh=evil\r\n\
                  Set-Cookie: __Host-auth_gateway_access=evil; Secure; Path=/\r\nset-cookie: b=auth_gateway_access=2\r\n\r\n",
            );
        }
    });
    let gateway = Gateway::start(&format!(
        "[browser]\nenabled = true\n[upstreams.app]\nurls = [\"http://{address}\"]\n[[routes]]\npath = \"/x\"\nupstream = \"app\"\naccess = \"public\"\n"
    ));
    let reply = get(gateway.address, "/x", &[]).unwrap();
    assert_eq!(reply.values("set-cookie"), ["app=1; Path=/", "b=auth_gateway_access=2"]);
}

#[test]
fn two_sessions_at_once_are_none() {
    let upstream = Upstream::start();
    let gateway = start(&upstream);
    let (alice, mallory) = (Browser::signed_in(&gateway, "alice"), Browser::signed_in(&gateway, "bob"));
    // A sibling host has set a cookie of the same name for the whole domain; which is whose cannot be seen.
    for cookie in [
        format!("{}; {}", mallory.cookie_field(), alice.cookie_field()),
        format!("{}; {}", alice.cookie_field(), mallory.cookie_field()),
        format!("auth_gateway_refresh={}; {}", mallory.refresh(), alice.cookie_field()),
    ] {
        let api = get(gateway.address, "/x", &[("Cookie", &cookie)]).unwrap();
        assert_eq!((api.status, &*api.code()), (401, "missing_token"));
        assert!(api.values("set-cookie").is_empty(), "whose would be taken away?");
        let page = get(gateway.address, "/login", &[("Cookie", &cookie), ("Accept", HTML)]).unwrap();
        assert!(page.text().contains("two different sessions"), "{}", page.text());
        assert!(page.values("set-cookie").is_empty());
    }
    assert!(upstream.requests().is_empty());
}

#[test]
fn several_cookie_fields_of_one_request_count_together() {
    let upstream = Upstream::start();
    let gateway = start(&upstream);
    let browser = Browser::signed_in(&gateway, "alice");
    let head = format!(
        "GET /x HTTP/1.1\r\nHost: {}\r\nCookie: a=1\r\nAccept: */*\r\ncookie: auth_gateway_access={}\r\nCOOKIE: b=2\r\n\r\n",
        gateway.address,
        browser.access()
    );
    let transcript = exchange(gateway.address, head.as_bytes());
    assert_eq!(transcript.replies[0].status, 200);
    assert_eq!(upstream.last().values("cookie"), ["a=1", "b=2"]);
}
