//! Who is led to the sign-in page, who gets 401, and which pages may send what.

use super::{Browser, HTML, config, location, start};
use crate::fixture::{Gateway, PASSWORD, Upstream, get, request, tokens, websocket};

#[test]
fn a_person_who_opens_a_page_is_led_to_the_sign_in_page_and_everything_else_gets_401() {
    let upstream = Upstream::start();
    let gateway = start(&upstream);
    let to_sign_in = |fields: &[(&str, &str)], method: &str, target: &str| {
        let reply = request(gateway.address, method, target, fields, b"").unwrap();
        match reply.status {
            303 => {
                assert_eq!(reply.field("cache-control"), Some("no-store"));
                Some(reply.field("location").unwrap().to_owned())
            }
            _ => {
                assert_eq!((reply.status, reply.code().as_str()), (401, "missing_token"), "{reply:?}");
                assert_eq!(reply.field("www-authenticate"), Some("Bearer"));
                None
            }
        }
    };
    let deep = Some("/login?return=%2Flab%2Fa%2520b%3Fx%3D1%26y%3D%252F".to_owned());
    for fields in [
        &[("Accept", HTML)][..],
        &[("Sec-Fetch-Mode", "navigate"), ("Sec-Fetch-Dest", "document")],
        &[("Sec-Fetch-Mode", "navigate"), ("Sec-Fetch-Dest", "iframe"), ("Accept", "*/*")],
    ] {
        assert_eq!(to_sign_in(fields, "GET", "/lab/a%20b?x=1&y=%2F"), deep, "{fields:?}");
        assert_eq!(to_sign_in(fields, "HEAD", "/lab/a%20b?x=1&y=%2F"), deep, "{fields:?}");
    }
    for fields in [
        &[][..],
        &[("Accept", "*/*")],
        &[("Accept", "application/json, text/plain, */*")],
        &[("Accept", "text/event-stream")],
        &[("Accept", HTML), ("Sec-Fetch-Mode", "cors")],
        &[("Accept", HTML), ("Sec-Fetch-Mode", "no-cors"), ("Sec-Fetch-Dest", "image")],
        &[("Sec-Fetch-Mode", "navigate"), ("Sec-Purpose", "prefetch")],
        &[("Sec-Fetch-Mode", "same-origin"), ("Service-Worker", "script"), ("Accept", HTML)],
        &[("Sec-Fetch-Mode", "websocket"), ("Upgrade", "websocket"), ("Connection", "Upgrade")],
        &[("Accept", HTML), ("X-Requested-With", "XMLHttpRequest")],
    ] {
        assert_eq!(to_sign_in(fields, "GET", "/lab"), None, "{fields:?}");
    }
    let grpc = [("Content-Type", "application/grpc"), ("TE", "trailers"), ("Accept", HTML)];
    assert_eq!(to_sign_in(&grpc, "POST", "/svc/Method"), None);
    // What the route says.
    assert_eq!(to_sign_in(&[("Accept", HTML)], "GET", "/api"), None);
    assert!(to_sign_in(&[("Accept", "*/*")], "GET", "/always").is_some());
    assert_eq!(to_sign_in(&[("Accept", "*/*")], "POST", "/always"), None);
    assert!(upstream.requests().is_empty());
}

#[test]
fn the_double_submit_of_flask_jwt_extended_is_neither_needed_nor_enough() {
    let upstream = Upstream::start();
    let gateway = start(&upstream);
    let mut browser = Browser::signed_in(&gateway, "alice");
    let double = ("X-CSRF-TOKEN", "undefined");
    let sent = browser.send("POST", "/save", &[double, ("Sec-Fetch-Site", "same-origin")], b"note=1");
    assert_eq!(sent.status, 200, "{sent:?}");
    assert_eq!(upstream.last().values("x-csrf-token"), ["undefined"]);
    let forged = browser.send("POST", "/save", &[double], b"note=1");
    assert_eq!((forged.status, forged.code().as_str()), (403, "csrf_rejected"));
}

#[test]
fn a_program_with_a_bad_token_gets_401_whatever_it_accepts() {
    let upstream = Upstream::start();
    let gateway = start(&upstream);
    let fields = [("Authorization", "Bearer x"), ("Accept", HTML)];
    let reply = get(gateway.address, "/", &fields).unwrap();
    assert_eq!((reply.status, reply.code().as_str()), (401, "invalid_token"));
    // What a browser sends along for an app that has once asked for it is no token.
    for (accept, status) in [(HTML, 303), ("*/*", 401)] {
        let fields = [("Authorization", "Basic YTpi"), ("Accept", accept)];
        assert_eq!(get(gateway.address, "/", &fields).unwrap().status, status, "{accept}");
    }
    // And one with a good token needs no cookie and no page.
    let (access, _) = tokens(gateway.address, "alice", PASSWORD);
    let bearer = format!("Bearer {access}");
    let fields =
        [("Authorization", &*bearer), ("Origin", "https://evil.example"), ("Sec-Fetch-Site", "cross-site")];
    assert_eq!(request(gateway.address, "POST", "/x", &fields, b"").unwrap().status, 200);
    assert!(upstream.last().values("authorization").is_empty());
}

#[test]
fn a_form_that_met_the_end_of_its_session_comes_back_as_a_page_that_says_so() {
    let upstream = Upstream::start();
    let gateway = start(&upstream);
    let mut browser = Browser::new(&gateway);
    let reply = browser.submit("/save", "a=1");
    assert_eq!(reply.status, 401);
    assert_eq!(reply.field("content-type"), Some("text/html; charset=utf-8"));
    assert!(reply.text().contains("What you sent was not processed"), "{}", reply.text());
    // Back to where the form was, not to where it was sent.
    assert!(reply.text().contains("/login?return=%2Fform%3Fx"), "{}", reply.text());
    assert!(upstream.requests().is_empty());
}

#[test]
fn pages_of_others_cannot_change_anything_with_the_cookies() {
    let upstream = Upstream::start();
    let config = config(&upstream, "")
        .replace("enabled = true", "enabled = true\ntrusted_origins = [\"https://portal.example\"]");
    let gateway = Gateway::start(&config);
    let mut browser = Browser::signed_in(&gateway, "alice");
    let own = format!("http://{}", gateway.address);
    for (method, fields, passes) in [
        ("POST", &[("Origin", own.as_str())][..], true),
        ("POST", &[("Sec-Fetch-Site", "same-origin")], true),
        ("POST", &[("Origin", "https://portal.example"), ("Sec-Fetch-Site", "cross-site")], true),
        ("GET", &[("Sec-Fetch-Site", "cross-site")], true),
        ("GET", &[("Origin", "https://evil.example")], true),
        ("OPTIONS", &[("Origin", "https://evil.example")], true),
        ("POST", &[], false),
        ("POST", &[("Origin", "https://evil.example")], false),
        ("POST", &[("Origin", "null")], false),
        ("POST", &[("Origin", own.as_str()), ("Origin", "https://evil.example")], false),
        ("POST", &[("Sec-Fetch-Site", "same-site")], false),
        ("POST", &[("Sec-Fetch-Site", "none")], false),
        ("POST", &[("Sec-Fetch-Site", "same-origin"), ("Sec-Fetch-Site", "same-origin")], false),
        ("PUT", &[("Origin", "https://evil.example")], false),
        ("PATCH", &[], false),
        ("DELETE", &[("Referer", own.as_str())], false),
    ] {
        upstream.clear();
        let reply = browser.send(method, "/x", fields, b"");
        match passes {
            true => assert_eq!((reply.status, upstream.requests().len()), (200, 1), "{method} {fields:?}"),
            false => {
                assert_eq!((reply.status, &*reply.code()), (403, "csrf_rejected"), "{method} {fields:?}");
                assert!(upstream.requests().is_empty());
            }
        }
    }
    let page = browser.send("POST", "/x", &[("Accept", HTML), ("Origin", "https://evil.example")], b"");
    assert!(page.status == 403 && page.text().contains("The request came from another site"), "{page:?}");
    // Without the cookies there is nothing to protect.
    let fields = [("Origin", "https://evil.example")];
    assert_eq!(request(gateway.address, "POST", "/open", &fields, b"").unwrap().status, 200);
    assert_eq!(request(gateway.address, "POST", "/optional", &fields, b"").unwrap().status, 200);
    assert_eq!(browser.send("POST", "/optional", &fields, b"").code(), "csrf_rejected");
}

#[test]
fn a_websocket_opens_with_the_cookies_for_pages_of_the_host_only() {
    let upstream = Upstream::start();
    let config = config(&upstream, "")
        .replace("enabled = true", "enabled = true\ntrusted_origins = [\"https://portal.example\"]");
    let gateway = Gateway::start(&config);
    let browser = Browser::signed_in(&gateway, "alice");
    let cookie = format!("Cookie: {}; app=1\r\n", browser.cookie_field());
    for (fields, status) in [
        (format!("Origin: http://{}\r\n", gateway.address), "HTTP/1.1 101"),
        ("Sec-Fetch-Site: same-origin\r\n".to_owned(), "HTTP/1.1 101"),
        ("Origin: https://portal.example\r\n".to_owned(), "HTTP/1.1 101"),
        ("Origin: https://evil.example\r\n".to_owned(), "HTTP/1.1 403"),
        ("Sec-Fetch-Site: cross-site\r\n".to_owned(), "HTTP/1.1 403"),
        (String::new(), "HTTP/1.1 403"),
    ] {
        assert_eq!(websocket(gateway.address, &format!("{cookie}{fields}")), status, "{fields}");
    }
    let last = upstream.last();
    assert_eq!(last.values("x-auth-user"), ["alice"]);
    assert_eq!(last.values("cookie"), ["app=1"]);
    assert_eq!(
        websocket(gateway.address, &format!("Origin: http://{}\r\n", gateway.address)),
        "HTTP/1.1 401"
    );
}

#[test]
fn authorization_is_the_apps_where_the_cookies_say_who_it_is_and_a_gateways_token_never_leaks() {
    let upstream = Upstream::start();
    let gateway = start(&upstream);
    let mut browser = Browser::signed_in(&gateway, "alice");
    for value in ["Basic eA==", "token abc", "Bearer an-apps-own.token", "Bearer"] {
        let reply = browser.send("GET", "/x", &[("Authorization", value)], b"");
        assert_eq!(reply.status, 200, "{value}: {reply:?}");
        let last = upstream.last();
        assert_eq!((last.values("authorization"), last.values("x-auth-user")), (vec![value], vec!["alice"]));
    }
    // A token of the gateway's own says who it is, and stays here.
    let (access, refresh) = tokens(gateway.address, "root", PASSWORD);
    let bearer = format!("Bearer {access}");
    let fields = [("Authorization", &*bearer), ("Origin", "https://evil.example")];
    assert_eq!(browser.send("POST", "/x", &fields, b"").status, 200);
    let last = upstream.last();
    assert_eq!((last.values("authorization"), last.values("x-auth-user")), (vec![], vec!["root"]));
    let refresh = format!("Bearer {refresh}");
    let refused = browser.send("GET", "/x", &[("Authorization", &refresh)], b"");
    assert_eq!((refused.status, &*refused.code()), (401, "wrong_token_type"));
}

#[test]
fn a_missing_role_is_a_page_that_names_it_and_offers_another_account() {
    let upstream = Upstream::start();
    let gateway = start(&upstream);
    let mut browser = Browser::signed_in(&gateway, "alice");
    let reply = browser.open("/admin/users?x=1");
    assert_eq!(reply.status, 403);
    let page = reply.text();
    for part in [
        "This page needs the role admin.",
        "You are signed in as alice.",
        "href=\"/login?switch=1&amp;return=%2Fadmin%2Fusers%3Fx%3D1\"",
        "Use another account",
    ] {
        assert!(page.contains(part), "{part} is not in {page}");
    }
    let api = browser.load("/admin");
    assert_eq!((api.status, &*api.code()), (403, "insufficient_scope"));
    // The other account's session takes the place of the first.
    let form = browser.open("/login?switch=1&return=%2Fadmin%2Fusers%3Fx%3D1").text();
    assert!(form.contains("name=\"password\"") && form.contains("signed in as alice"), "{form}");
    assert_eq!(location(&browser.sign_in("root", PASSWORD, "/admin/users?x=1")), "/admin/users?x=1");
    assert_eq!(browser.open("/admin/users?x=1").status, 200);
}

#[test]
fn without_browser_nothing_of_it_is_there() {
    let upstream = Upstream::start();
    let config = config(&upstream, "").replace("enabled = true", "enabled = false");
    let config: String = config
        .lines()
        .filter(|line| !line.starts_with("unauthenticated"))
        .map(|line| format!("{line}\n"))
        .collect();
    let gateway = Gateway::start(&config);
    let reply = get(gateway.address, "/", &[("Accept", HTML)]).unwrap();
    assert_eq!((reply.status, &*reply.code()), (401, "missing_token"));
    let (access, _) = tokens(gateway.address, "alice", PASSWORD);
    let cookie = format!("auth_gateway_access={access}; a=1");
    assert_eq!(get(gateway.address, "/", &[("Cookie", &cookie)]).unwrap().status, 401);
    assert_eq!(get(gateway.address, "/open", &[("Cookie", &cookie)]).unwrap().status, 200);
    assert_eq!(upstream.last().values("cookie"), [&*cookie]);
    let form = [("Content-Type", "application/x-www-form-urlencoded")];
    assert_eq!(
        request(gateway.address, "POST", "/login", &form, b"username=a").unwrap().code(),
        "unsupported_media_type"
    );
}

#[test]
fn a_prefix_that_a_trusted_proxy_takes_off_stands_before_every_address_for_people() {
    let upstream = Upstream::start();
    let trusted = "[server]\ntrusted_proxies = [\"127.0.0.1\"]";
    let gateway = Gateway::start(&config(&upstream, trusted));
    let mut browser = Browser::new(&gateway);
    let below = |prefix: &'static str| [("Accept", HTML), ("X-Forwarded-Prefix", prefix)];
    let page = browser.send("GET", "/lab?x=1", &below("/shop/eu/"), b"");
    assert_eq!(location(&page), "/shop/eu/login?return=%2Fshop%2Feu%2Flab%3Fx%3D1");
    let page = browser.send("GET", "/login?return=%2Fshop%2Feu%2Flab", &below("/shop/eu"), b"").text();
    assert!(page.contains("action=\"\"") && page.contains("value=\"/shop/eu/lab\""), "{page}");
    let home = browser.send("GET", "/login?return=%2Fshop%2Feu%2Flogin", &below("/shop/eu"), b"").text();
    assert!(home.contains("value=\"/shop/eu/\""), "never back to the sign-in page itself: {home}");
    let origin = format!("http://{}", gateway.address);
    let form = format!("username=alice&password={}&return=%2Fshop%2Feu%2Flab", PASSWORD.replace(' ', "+"));
    let fields = [("Origin", &*origin), ("Content-Type", "application/x-www-form-urlencoded")];
    let fields = [&below("/shop/eu")[..], &fields].concat();
    assert_eq!(location(&browser.send("POST", "/login", &fields, form.as_bytes())), "/shop/eu/lab");
    let page = browser.send("GET", "/logout", &below("/shop/eu"), b"").text();
    assert!(
        page.contains("action=\"/shop/eu/logout\"") && page.contains("/shop/eu/login?switch=1"),
        "{page}"
    );
    assert_eq!(location(&browser.send("POST", "/logout", &fields, b"")), "/shop/eu/logout");
    // What is no prefix changes nothing.
    for prefix in
        ["//evil.example", "/\\evil.example", "https://evil.example", "/..//evil", "evil", "/a b", ""]
    {
        let page = browser.send("GET", "/lab", &below(prefix), b"");
        assert_eq!(location(&page), "/login?return=%2Flab", "{prefix}");
    }
    let untrusted = start(&upstream);
    let page = Browser::new(&untrusted).send("GET", "/lab", &below("/shop"), b"");
    assert_eq!(location(&page), "/login?return=%2Flab");
}

#[test]
fn a_browsers_session_lists_and_ends_sessions_as_a_token_does() {
    let upstream = Upstream::start();
    let gateway = start(&upstream);
    let (mut browser, other) = (Browser::signed_in(&gateway, "alice"), Browser::signed_in(&gateway, "alice"));
    let listed = browser.load("/sessions");
    assert_eq!(listed.status, 200, "{listed:?}");
    let sessions = listed.json()["sessions"].as_array().unwrap().clone();
    assert_eq!((sessions.len(), sessions.iter().filter(|s| s["current"] == true).count()), (2, 1));
    let sid = sessions.iter().find(|s| s["current"] == false).unwrap()["sid"].as_str().unwrap().to_owned();
    let target = format!("/sessions/{sid}");
    let foreign = browser.send("DELETE", &target, &[("Origin", "https://evil.example")], b"");
    assert_eq!((foreign.status, &*foreign.code()), (403, "csrf_rejected"));
    let origin = format!("http://{}", gateway.address);
    assert_eq!(browser.send("DELETE", &target, &[("Origin", &origin)], b"").status, 204);
    let ended = get(gateway.address, "/x", &[("Cookie", &other.cookie_field())]).unwrap();
    assert_eq!((ended.status, &*ended.code()), (401, "token_revoked"));
    // The session is refreshed here, too; without one there is a challenge.
    browser.cookies.retain(|name, _| name.ends_with("_refresh"));
    let refreshed = browser.load("/sessions");
    assert_eq!((refreshed.status, browser.cookies.len()), (200, 2));
    let anonymous = get(gateway.address, "/sessions", &[]).unwrap();
    assert_eq!((anonymous.status, anonymous.field("www-authenticate")), (401, Some("Bearer")));
}
