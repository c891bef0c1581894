//! The page on which people make and revoke their tokens.

use super::{bearer, config, with};
use crate::fixture::{Browser, Gateway, HTML, Reply, Upstream, request};

/// Sends a form from a page of `site`.
fn send(browser: &mut Browser, target: &str, body: &str, site: &str) -> Reply {
    let fields = [
        ("Content-Type", "application/x-www-form-urlencoded"),
        ("Sec-Fetch-Mode", "navigate"),
        ("Sec-Fetch-Site", site),
        ("Accept", HTML),
    ];
    browser.send("POST", target, &fields, body.as_bytes())
}

#[test]
fn a_person_makes_a_token_on_a_page_sees_it_once_and_revokes_it() {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&config(&upstream, "[browser]\nenabled = true"));
    let led = Browser::new(&gateway).open("/tokens");
    assert_eq!((led.status, led.field("location")), (303, Some("/login?return=%2Ftokens")));
    let mut alice = Browser::signed_in(&gateway, "alice");
    let reply = alice.open("/tokens");
    let page = reply.text();
    assert!(
        reply.status == 200 && page.contains("signed in as alice") && page.contains("name=\"days\""),
        "{page}"
    );
    assert!(!page.contains("<script") && alice.open("/logout").text().contains("href=\"/tokens\""));

    let reply = send(&mut alice, "/tokens", "name=%3Cb%3Ebackup&days=30", "same-origin");
    let page = reply.text();
    assert_eq!(reply.status, 200, "{page}");
    let token = page.split_once("value=\"agp_").unwrap().1.split('"').next().unwrap();
    let token = format!("agp_{token}");
    assert!(page.contains("&lt;b&gt;backup") && page.contains("last used never"), "{page}");
    assert_eq!(with(&gateway, "/app", &bearer(&token)).status, 200);
    assert!(!alice.open("/tokens").text().contains(&token), "shown once");

    // Limits: one route, and no role.
    let body = "name=limited&days=7&limit_roles=1&routes=%2Fapp%2C+%2Fdav";
    let limited = send(&mut alice, "/tokens", body, "same-origin").text().to_owned();
    assert!(limited.contains("Addresses: /app, /dav") && limited.contains("Roles: –"), "{limited}");
    let whole = "name=whole&days=7&limit_roles=1&role=user&routes=";
    assert!(!send(&mut alice, "/tokens", whole, "same-origin").text().contains("Roles: user"));
    for wrong in ["name=x&days=7&routes=%2Fnowhere", "name=x&days=7&limit_roles=1&role=admin"] {
        assert_eq!(send(&mut alice, "/tokens", wrong, "same-origin").status, 400, "{wrong}");
    }

    let id = &token[4..26];
    assert_eq!(send(&mut alice, "/tokens", &format!("revoke={id}"), "cross-site").status, 403);
    assert_eq!(send(&mut alice, "/tokens", "name=x&days=30", "cross-site").status, 403);
    assert_eq!(with(&gateway, "/app", &bearer(&token)).status, 200);
    for _ in 0..2 {
        assert_eq!(send(&mut alice, "/tokens", &format!("revoke={id}"), "same-origin").status, 303);
    }
    assert_eq!(with(&gateway, "/app", &bearer(&token)).code(), "token_revoked");
    for wrong in ["name=&days=30", "days=30", "name=x&days=soon"] {
        let reply = send(&mut alice, "/tokens", wrong, "same-origin");
        assert_eq!(reply.status, 400, "{wrong}: {}", reply.text());
    }
    // A script of the page uses JSON with the same cookies.
    let cookies = alice.cookie_field();
    let fields =
        [("Cookie", &*cookies), ("Sec-Fetch-Site", "same-origin"), ("Content-Type", "application/json")];
    let made = request(gateway.address, "POST", "/tokens", &fields, br#"{"name":"by script"}"#).unwrap();
    assert_eq!(made.status, 201, "{}", made.text());
    let foreign = [fields[0], ("Sec-Fetch-Site", "cross-site"), fields[2]];
    let refused = request(gateway.address, "POST", "/tokens", &foreign, br#"{"name":"by script"}"#).unwrap();
    assert_eq!(refused.code(), "csrf_rejected");
}

#[test]
fn where_the_operator_makes_tokens_people_see_and_revoke_theirs_only() {
    let upstream = Upstream::start();
    let more = "[browser]\nenabled = true\n";
    let text =
        config(&upstream, more).replace("[personal_tokens]\n", "[personal_tokens]\nself_service = false\n");
    let gateway = Gateway::start(&text);
    let (code, token, why) = gateway.run_command(&["tokens", "create", "alice", "--name", "nightly"], "");
    assert_eq!(code, 0, "{why}");
    let mut alice = Browser::signed_in(&gateway, "alice");
    let page = alice.open("/tokens").text();
    assert!(page.contains("nightly") && !page.contains("name=\"days\""), "{page}");
    assert_eq!(send(&mut alice, "/tokens", "name=x&days=30", "same-origin").status, 403);
    assert_eq!(send(&mut alice, "/tokens", &format!("revoke={}", &token[4..26]), "same-origin").status, 303);
    assert_eq!(with(&gateway, "/app", &bearer(token.trim_end())).code(), "token_revoked");
}
