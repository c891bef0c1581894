//! Sessions in cookies on routes that refuse tokens that are bound to no key: only those of the sign-in page count there.

use http::Request;

use super::{Browser, config, location};
use crate::fixture::http2::{ask, http2};
use crate::fixture::{Gateway, HTML, PASSWORD, Upstream, claims, get, post, tokens, wait_until};

/// `/strict` and `/guest` refuse unbound tokens, the others do not.
fn start(upstream: &Upstream, tokens: &str) -> Gateway {
    let routes = "[[routes]]\npath = \"/strict\"\nupstream = \"app\"\ndpop = \"required\"\nupgrade = [\"websocket\"]\n\
                  [[routes]]\npath = \"/guest\"\nupstream = \"app\"\ndpop = \"required\"\naccess = \"optional\"\n";
    let common = format!("[server]\nh2c = true\n[tokens]\ndpop = \"optional\"\n{tokens}\n");
    Gateway::start(&config(upstream, &common).replace("[warnings]", &format!("{routes}[warnings]")))
}

fn cookies(access: &str, refresh: &str) -> [String; 3] {
    let (access, refresh) =
        (format!("auth_gateway_access={access}"), format!("auth_gateway_refresh={refresh}"));
    [format!("{access}; {refresh}"), access, refresh]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_clients_token_counts_as_a_cookie_no_more_than_as_a_bearer_token() {
    let upstream = Upstream::start();
    let gateway = start(&upstream, "");
    let connection = http2(tokio::net::TcpStream::connect(gateway.address).await.unwrap()).await;
    let (access, refresh) = tokens(gateway.address, "alice", PASSWORD);
    for cookie in cookies(&access, &refresh) {
        let code = |path: &str, more: &[(&str, &str)]| {
            let reply = get(gateway.address, path, &[&[("Cookie", &*cookie)], more].concat()).unwrap();
            (reply.status, if reply.status == 401 { reply.code() } else { String::new() })
        };
        assert_eq!(code("/strict", &[]), (401, "invalid_token".into()), "{cookie}");
        let websocket = [
            ("Connection", "Upgrade"),
            ("Upgrade", "websocket"),
            ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
            ("Sec-WebSocket-Version", "13"),
            ("Sec-Fetch-Site", "same-origin"),
        ];
        assert_eq!(code("/strict/ws", &websocket).0, 401, "{cookie}");
        let request = Request::get("http://gw.test/strict").header("cookie", &cookie).body(()).unwrap();
        let reply = ask(&connection, request, b"").await.unwrap();
        assert_eq!(
            (reply.status.as_u16(), reply.json()["code"].as_str()),
            (401, Some("invalid_token")),
            "{cookie}"
        );
        assert_eq!(code("/guest", &[]).0, 200, "{cookie}");
        assert!(upstream.last().values("x-auth-user").is_empty(), "no identity, to a route that needs none");
    }
    // The refresh token was not used up by that, and what its use gives a client is a client's as well.
    let (access, refresh) = post(gateway.address, "/refresh", &refresh).tokens();
    assert!(gateway.metrics().contains("auth_gateway_refreshes_total{outcome=\"rotated\"} 1"));
    let [both, ..] = cookies(&access, &refresh);
    assert_eq!(get(gateway.address, "/strict", &[("Cookie", &both)]).unwrap().status, 401);
    assert_eq!(get(gateway.address, "/app", &[("Cookie", &both)]).unwrap().status, 200, "other routes go on");
}

#[test]
fn a_person_whose_cookies_do_not_count_signs_in_once() {
    let upstream = Upstream::start();
    let gateway = start(&upstream, "");
    let mut browser = Browser::new(&gateway);
    let (access, refresh) = tokens(gateway.address, "alice", PASSWORD);
    browser.cookies.insert("auth_gateway_access".into(), access);
    browser.cookies.insert("auth_gateway_refresh".into(), refresh);
    let led = browser.open("/strict/page");
    assert_eq!(location(&led), "/login?return=%2Fstrict%2Fpage");
    assert!(browser.cookies.is_empty(), "or the sign-in page would say that somebody is signed in");
    let page = browser.open("/login?return=%2Fstrict%2Fpage");
    assert!(page.status == 200 && page.text().contains("name=\"password\""), "{page:?}");
    let signed_in = browser.sign_in("alice", PASSWORD, "/strict/page");
    assert_eq!(location(&signed_in), "/strict/page");
    assert_eq!(browser.open("/strict/page").status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_session_of_the_sign_in_page_counts_also_after_the_gateway_has_refreshed_it() {
    let upstream = Upstream::start();
    let gateway = start(&upstream, "access_ttl = \"1s\"");
    let mut browser = Browser::signed_in(&gateway, "alice");
    let connection = http2(tokio::net::TcpStream::connect(gateway.address).await.unwrap()).await;
    for _ in 0..2 {
        let access = browser.access().to_owned();
        assert_eq!(claims(&access)["cookie_session"], true);
        assert_eq!(claims(browser.refresh())["cookie_session"], true);
        let cookies = browser.cookie_field();
        let request = Request::get("http://gw.test/strict").header("cookie", &cookies).body(()).unwrap();
        assert_eq!(ask(&connection, request, b"").await.unwrap().status, 200);
        wait_until("it was refreshed", || {
            assert_eq!(browser.open("/strict").status, 200);
            browser.access() != access
        });
    }
    // What a client makes of the cookie's token is a client's.
    let (access, refresh) = post(gateway.address, "/refresh", browser.refresh()).tokens();
    assert!(claims(&access)["cookie_session"].is_null());
    for cookie in cookies(&access, &refresh) {
        assert_eq!(
            get(gateway.address, "/strict", &[("Cookie", &cookie), ("Accept", HTML)]).unwrap().status,
            303
        );
    }
}
