//! Signing in and out on the gateway's pages.

use std::fs;

use super::{Browser, HTML, config, location, start};
use crate::fixture::{Gateway, PASSWORD, Upstream, get, login, request, tokens, wait_until};

#[test]
fn a_deep_link_leads_to_the_sign_in_page_and_back() {
    let upstream = Upstream::start();
    let gateway = start(&upstream);
    let mut browser = Browser::new(&gateway);
    let sign_in = location(&browser.open("/lab/tree?path=a%20b")).to_owned();
    let page = browser.open(&sign_in);
    assert_eq!((page.status, page.field("content-type")), (200, Some("text/html; charset=utf-8")));
    assert_eq!(page.field("cache-control"), Some("no-store"));
    assert_eq!(page.field("x-frame-options"), Some("DENY"));
    let policy = page.field("content-security-policy").unwrap();
    assert!(
        policy.starts_with("default-src 'none';") && policy.contains("frame-ancestors 'none'"),
        "{policy}"
    );
    let html = page.text();
    for part in [
        "<form method=\"post\" action=\"\"",
        "autocomplete=\"username\"",
        "autocomplete=\"current-password\"",
        "name=\"return\" value=\"/lab/tree?path=a%20b\"",
        "<html lang=\"en\">",
    ] {
        assert!(html.contains(part), "{part} is not in {html}");
    }
    assert!(!html.contains("<script"));
    assert_eq!(location(&browser.sign_in("alice", PASSWORD, "/lab/tree?path=a%20b")), "/lab/tree?path=a%20b");
    assert_eq!(browser.open("/lab/tree?path=a%20b").status, 200);
    assert_eq!(upstream.last().target, "/lab/tree?path=a%20b");
    // Whoever is signed in sees that, and no form.
    let page = browser.open(&sign_in).text();
    assert!(
        page.contains("You are signed in as alice.") && page.contains("href=\"/lab/tree?path=a%20b\""),
        "{page}"
    );
    assert!(!page.contains("name=\"password\"") && page.contains("Sign out"), "{page}");
}

#[test]
fn who_comes_back_from_the_sign_in_page_without_cookies_reads_why() {
    let upstream = Upstream::start();
    let gateway = start(&upstream);
    let own = format!("http://{}", gateway.address);
    let shown = |target: &str, referrer: &str, cookie: &str| {
        let fields = [("Accept", HTML), ("Referer", referrer), ("Cookie", cookie)];
        let page = get(gateway.address, target, &fields).unwrap();
        assert_eq!(page.status, 200, "{page:?}");
        page.text().contains("does not keep the cookies")
    };
    let sign_in = "/login?return=%2Fx";
    for referrer in [format!("{own}/login"), format!("{own}/login?return=%2Fx")] {
        assert!(shown(sign_in, &referrer, "app=1"), "{referrer}");
    }
    for (target, referrer, cookie) in [
        (sign_in, "", ""),
        (sign_in, &*format!("{own}/x"), ""),
        (sign_in, &format!("{own}/login/other"), ""),
        (sign_in, &format!("{own}/logins"), ""),
        (sign_in, "http://other.test/login", ""),
        (sign_in, &format!("{own}/logout"), ""),
        ("/login?switch=1&return=%2Fx", &format!("{own}/login"), ""),
        (sign_in, &format!("{own}/login"), "auth_gateway_access=x"),
    ] {
        assert!(!shown(target, referrer, cookie), "{target} {referrer} {cookie}");
    }
}

#[test]
fn return_addresses_that_lead_elsewhere_are_dropped() {
    let upstream = Upstream::start();
    let keys = "enabled = true\nreturn_hosts = [\"other.test\"]\nhome = \"/start\"";
    let gateway = Gateway::start(&config(&upstream, "").replace("enabled = true", keys));
    let own = gateway.address;
    for (address, expected) in [
        ("/a?b=c", "/a?b=c".to_owned()),
        (&format!("http://{own}/a"), "/a".to_owned()),
        ("http://other.test/a", "http://other.test/a".to_owned()),
        ("//evil.test", "/start".to_owned()),
        ("/\\evil.test", "/start".to_owned()),
        ("https:evil.test", "/start".to_owned()),
        ("https://evil.test", "/start".to_owned()),
        (&format!("http://{own}@evil.test/"), "/start".to_owned()),
        ("/\t/evil.test", "/start".to_owned()),
        ("/a\r\nSet-Cookie: x=1", "/start".to_owned()),
        ("javascript:alert(1)", "/start".to_owned()),
        ("/login?return=/login", "/start".to_owned()),
        ("/logout", "/start".to_owned()),
        ("", "/start".to_owned()),
    ] {
        let mut browser = Browser::new(&gateway);
        let reply = browser.sign_in("alice", PASSWORD, address);
        assert_eq!(location(&reply), expected, "{address:?}");
        assert_eq!(reply.values("set-cookie").len(), 2, "{address:?}");
    }
}

#[test]
fn every_failure_is_said_on_the_page_with_its_status() {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&config(&upstream, "[lockout]\nmax_failures = 2\nduration = \"14m\"\n"));
    let mut browser = Browser::new(&gateway);
    let empty = browser.sign_in("alice", "", "/x");
    assert_eq!(empty.status, 400);
    assert!(empty.text().contains("Both username and password are required."), "{}", empty.text());
    assert!(empty.text().contains("value=\"alice\"") && empty.text().contains("value=\"/x\""));
    for _ in 0..2 {
        let wrong = browser.sign_in("al<i>ce", "wrong", "/x");
        assert_eq!(wrong.status, 401);
        let page = wrong.text();
        assert!(page.contains("Invalid username or password.") && page.contains("role=\"alert\""), "{page}");
        assert!(page.contains("value=\"al&lt;i&gt;ce\"") && !page.contains("wrong"), "{page}");
    }
    let locked = browser.sign_in("al<i>ce", PASSWORD, "/x");
    assert_eq!(locked.status, 403);
    assert!(
        locked.text().contains("temporarily locked. Please try again in 14 minutes (at "),
        "{}",
        locked.text()
    );
    assert!((830..=840).contains(&locked.field("retry-after").unwrap().parse::<u64>().unwrap()));
    let german =
        browser.send("GET", "/login", &[("Accept", HTML), ("Accept-Language", "de-AT,en;q=0.5")], b"");
    assert!(german.text().contains("Benutzername") && german.field("content-language") == Some("de"));
    assert!(browser.cookies.is_empty());
    // Programs get what they always got.
    assert_eq!(login(gateway.address, "bob", "wrong").code(), "invalid_credentials");
}

#[test]
fn a_form_of_another_site_cannot_sign_a_visitor_in() {
    let upstream = Upstream::start();
    let gateway = start(&upstream);
    let body = format!("username=bob&password={PASSWORD}").replace(' ', "+");
    let kind = ("Content-Type", "application/x-www-form-urlencoded");
    for fields in [
        &[kind][..],
        &[kind, ("Origin", "https://evil.test")],
        &[kind, ("Origin", "null")],
        &[kind, ("Sec-Fetch-Site", "cross-site"), ("Sec-Fetch-Mode", "navigate")],
        &[kind, ("Sec-Fetch-Site", "same-site")],
    ] {
        let reply = request(gateway.address, "POST", "/login", fields, body.as_bytes()).unwrap();
        assert_eq!(reply.status, 403, "{fields:?}");
        assert!(
            reply.values("set-cookie").is_empty() && !gateway.log().contains("login success"),
            "{fields:?}"
        );
    }
    // Neither as a form that a browser sends without asking, nor with a field twice.
    for (kind, body) in
        [("text/plain", "{\"username\":\"bob\",\"password\":\"x\"}"), ("multipart/form-data; boundary=x", "")]
    {
        let fields = [("Content-Type", kind), ("Sec-Fetch-Site", "same-origin")];
        assert_eq!(request(gateway.address, "POST", "/login", &fields, body.as_bytes()).unwrap().status, 415);
    }
    let fields = [kind, ("Sec-Fetch-Site", "same-origin")];
    let twice =
        request(gateway.address, "POST", "/login", &fields, b"username=a&username=b&password=c").unwrap();
    assert_eq!(twice.code(), "bad_request");
}

#[test]
fn a_sign_in_begins_a_new_session_and_ends_the_one_that_came_along() {
    let upstream = Upstream::start();
    let gateway = start(&upstream);
    let planted = Browser::signed_in(&gateway, "bob");
    let mut browser = Browser { cookies: planted.cookies.clone(), ..Browser::new(&gateway) };
    assert_eq!(browser.sign_in("alice", PASSWORD, "/").status, 303);
    assert_ne!(browser.refresh(), planted.refresh());
    browser.open("/x");
    assert_eq!(upstream.last().values("x-auth-user"), ["alice"]);
    let mut planted = planted;
    let ended = planted.load("/x");
    assert_eq!((ended.status, &*ended.code()), (401, "token_revoked"));
}

#[test]
fn signing_out_takes_a_form_of_the_host_and_ends_the_session_everywhere() {
    let upstream = Upstream::start();
    let gateway = start(&upstream);
    let mut browser = Browser::signed_in(&gateway, "alice");
    let stolen = browser.cookie_field();
    let page = browser.open("/logout");
    assert!(
        page.text().contains("signed in as alice") && page.text().contains("action=\"/logout\""),
        "{page:?}"
    );
    assert_eq!(browser.open("/x").status, 200, "looking at the page ends nothing");
    let evil = browser.send("POST", "/logout", &[("Origin", "https://evil.test")], b"");
    assert_eq!((evil.status, &*evil.code()), (403, "csrf_rejected"));
    let out = browser.submit("/logout", "");
    assert_eq!(location(&out), "/logout");
    assert_eq!(out.field("clear-site-data"), Some("\"cache\""));
    assert!(browser.cookies.is_empty(), "{:?}", browser.cookies);
    assert!(browser.open("/logout").text().contains("You are signed out"));
    let reply = get(gateway.address, "/x", &[("Cookie", &stolen)]).unwrap();
    assert_eq!((reply.status, &*reply.code()), (401, "token_revoked"));
    // A script of the app's gets 204, and a program with a token what it always got.
    let mut browser = Browser::signed_in(&gateway, "alice");
    let fields = [("Sec-Fetch-Site", "same-origin"), ("Sec-Fetch-Mode", "cors")];
    assert_eq!(browser.send("POST", "/logout", &fields, b"").status, 204);
    assert!(browser.cookies.is_empty());
    let (access, _) = tokens(gateway.address, "alice", PASSWORD);
    let bearer = [("Authorization", &*format!("Bearer {access}"))];
    assert_eq!(request(gateway.address, "POST", "/logout", &bearer, b"").unwrap().status, 204);
}

#[test]
fn signing_out_everywhere_ends_the_users_other_sessions() {
    let upstream = Upstream::start();
    let gateway = start(&upstream);
    let (mut here, mut there) =
        (Browser::signed_in(&gateway, "alice"), Browser::signed_in(&gateway, "alice"));
    assert_eq!(location(&here.submit("/logout-all", "")), "/logout");
    wait_until("the other session is over", || there.load("/x").status == 401);
}

/// An access cookie that no longer counts may be left from another user.
#[test]
fn signing_out_everywhere_is_for_the_user_whom_the_session_names() {
    let upstream = Upstream::start();
    let gateway = start(&upstream);
    let [mut left, mut alice, mut here, mut there] =
        ["alice", "alice", "bob", "bob"].map(|user| Browser::signed_in(&gateway, user));
    let stale = left.access().to_owned();
    left.submit("/logout", "");
    here.cookies.insert("auth_gateway_access".into(), stale);
    assert_eq!(location(&here.submit("/logout-all", "")), "/logout");
    wait_until("the user's other session is over", || there.load("/x").status == 401);
    assert_eq!(alice.load("/x").status, 200);
}

#[test]
fn an_operators_folder_brands_the_pages_and_a_mistake_in_it_stops_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
    file("branding.toml", "title = \"Lab & Co\"\nlogo = \"logo.svg\"\n[colors]\naccent = \"#aa0000\"");
    file("logo.svg", "<svg xmlns=\"http://www.w3.org/2000/svg\"/>");
    file("texts.en.toml", "sign_in = \"Let me in\"");
    let upstream = Upstream::start();
    let keys = format!("enabled = true\nbranding_dir = {:?}", dir.path());
    let config = config(&upstream, "").replace("enabled = true", &keys);
    let gateway = Gateway::start(&config);
    let page = get(gateway.address, "/login", &[]).unwrap().text();
    for part in ["Lab &amp; Co", "Let me in", "--accent:#aa0000", "src=\"data:image/svg+xml;base64,"] {
        assert!(page.contains(part), "{part} is not in {page}");
    }
    let args = ["check", "--config", "gateway.toml"];
    // A language that lacks texts: an update of the gateway may need more of them.
    file("texts.fr.toml", "sign_in = \"Se connecter\"");
    let (code, _, warnings) = Gateway::command(gateway.dir.path(), &args, "");
    assert_eq!(code, 0, "{warnings}");
    assert!(warnings.contains("the language fr has no text for account_locked"), "{warnings}");
    assert!(warnings.contains("missing-texts") && warnings.contains("branding_dir ="), "{warnings}");
    let french = Gateway::start(&config);
    let page = get(french.address, "/login", &[("Accept-Language", "fr")]).unwrap().text();
    assert!(page.contains("Se connecter") && page.contains("Username"), "{page}");
    wait_until("it is logged", || french.log().contains("the language fr has no text for"));
    assert_eq!(french.log().matches("the language fr has no text for").count(), 1, "{}", french.log());
    file("texts.en.toml", "sing_in = \"x\"");
    let (code, _, errors) = Gateway::command(gateway.dir.path(), &args, "");
    assert_eq!(code, 78, "{errors}");
    assert!(errors.contains("texts.en.toml") && errors.contains("there is no text `sing_in`"), "{errors}");
    assert!(errors.contains("branding_dir ="), "the place is shown: {errors}");
}

#[test]
fn the_example_configuration_passes_check_and_serves() {
    let example =
        fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../config/examples/browser.toml")).unwrap();
    let gateway = Gateway::start(&example);
    let (code, routes, warnings) =
        Gateway::command(gateway.dir.path(), &["check", "--config", "gateway.toml"], "");
    assert_eq!((code, warnings.contains("warning")), (0, false), "{routes}{warnings}");
    let mut browser = Browser::new(&gateway);
    assert_eq!(location(&browser.open("/lab")), "/auth/login?return=%2Flab");
    assert!(browser.open("/auth/login").text().contains("Keep me signed in"));
    assert_eq!(browser.open("/api/kernels").code(), "missing_token");
}
