//! One sign-in host for hosts that share no domain.

use std::collections::BTreeMap;

use super::{HTML, config, location};
use crate::fixture::{Gateway, PASSWORD, Reply, Upstream, exchange, keep_cookies, wait_until};

/// A browser that goes to several hosts of one gateway, with cookies for each.
#[derive(Default, Clone)]
struct Hosts {
    cookies: BTreeMap<String, BTreeMap<String, String>>,
}

impl Hosts {
    fn send(&mut self, gateway: &Gateway, method: &str, url: &str, body: &str) -> Reply {
        let rest = url.strip_prefix("http://").unwrap();
        let (host, path) = rest.split_at(rest.find('/').unwrap());
        let jar = self.cookies.entry(host.to_owned()).or_default();
        let pairs: Vec<String> = jar.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nAccept: {HTML}\r\nOrigin: http://{host}\r\n\
             Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\nCookie: {}\r\n\r\n{body}",
            body.len(),
            pairs.join("; ")
        );
        let reply = exchange(gateway.address, head.as_bytes()).replies.remove(0);
        keep_cookies(jar, &reply);
        reply
    }

    fn open(&mut self, gateway: &Gateway, url: &str) -> Reply {
        self.send(gateway, "GET", url, "")
    }

    /// Signs in for an app's page, up to the address that hands the session over.
    fn until_handover(&mut self, gateway: &Gateway, page: &str) -> String {
        let to_sign_in = location(&self.open(gateway, page)).to_owned();
        let form = self.open(gateway, &to_sign_in).text();
        let hidden = |name: &str| {
            let value = form.split(&format!("name=\"{name}\" value=\"")).nth(1).unwrap();
            value.split('"').next().unwrap().to_owned()
        };
        let mut body = form_urlencoded::Serializer::new(String::new());
        body.append_pair("username", "alice").append_pair("password", PASSWORD);
        body.append_pair("return", &hidden("return")).append_pair("state", &hidden("state"));
        location(&self.send(gateway, "POST", "http://login.test/login", &body.finish())).to_owned()
    }
}

fn start(upstream: &Upstream) -> Gateway {
    let keys = "enabled = true\nlogin_host = \"login.test\"\nreturn_hosts = [\"app.test\", \"other.test\"]";
    Gateway::start(&config(upstream, "").replace("enabled = true", keys))
}

#[test]
fn a_sign_in_on_its_own_host_is_handed_over_to_others_and_ends_on_all_of_them() {
    let upstream = Upstream::start();
    let gateway = start(&upstream);
    let mut hosts = Hosts::default();
    let reply = hosts.open(&gateway, "http://app.test/deep?x=1");
    let state = hosts.cookies["app.test"]["auth_gateway_state"].clone();
    let expected =
        format!("http://login.test/login?return=http%3A%2F%2Fapp.test%2Fdeep%3Fx%3D1&state={state}");
    assert_eq!(location(&reply), expected);
    let form = hosts.open(&gateway, &expected);
    let policy = form.field("content-security-policy").unwrap();
    assert!(policy.contains("form-action 'self' http: https:;"), "{policy}");
    let address = hosts.until_handover(&gateway, "http://app.test/deep?x=1");
    assert!(address.starts_with("http://app.test/login/continue?code="), "{address}");
    assert_eq!(location(&hosts.open(&gateway, &address)), "/deep?x=1");
    assert_eq!(hosts.open(&gateway, "http://app.test/deep?x=1").status, 200);
    let app_session = upstream.last().values("x-auth-session").join("");
    assert!(upstream.last().values("cookie").is_empty(), "{:?}", upstream.last());
    // The other host needs no password any more.
    let to_sign_in = location(&hosts.open(&gateway, "http://other.test/page")).to_owned();
    let address = location(&hosts.open(&gateway, &to_sign_in)).to_owned();
    assert!(address.starts_with("http://other.test/login/continue?code="), "{address}");
    assert_eq!(location(&hosts.open(&gateway, &address)), "/page");
    assert_eq!(hosts.open(&gateway, "http://other.test/page").status, 200);
    assert_ne!(upstream.last().values("x-auth-session").join(""), app_session, "a session of its own");
    // And a sign-out on one is a sign-out on all.
    assert_eq!(location(&hosts.send(&gateway, "POST", "http://other.test/logout", "")), "/logout");
    for page in ["http://app.test/deep", "http://other.test/page"] {
        wait_until("the session is over", || hosts.clone().open(&gateway, page).status == 303);
    }
    assert!(hosts.open(&gateway, "http://login.test/login").text().contains("name=\"password\""));
}

#[test]
fn the_address_of_a_hand_over_counts_once_in_its_own_browser_at_its_own_host() {
    let upstream = Upstream::start();
    let gateway = start(&upstream);
    let mut hosts = Hosts::default();
    let address = hosts.until_handover(&gateway, "http://app.test/deep");
    // Somebody else's browser: they would be signed in as its sender.
    let mut victim = Hosts::default();
    victim.open(&gateway, "http://app.test/deep");
    let refused = victim.open(&gateway, &address);
    assert_eq!(refused.status, 403);
    assert!(refused.text().contains("The sign-in was not completed"), "{}", refused.text());
    assert_eq!(victim.open(&gateway, "http://app.test/deep").status, 303);
    // Another host.
    let mut other = hosts.clone();
    let state = other.cookies["app.test"]["auth_gateway_state"].clone();
    other.cookies.entry("other.test".into()).or_default().insert("auth_gateway_state".into(), state);
    let elsewhere = address.replace("http://app.test/", "http://other.test/");
    assert_eq!(other.open(&gateway, &elsewhere).status, 403);
    // Neither has used it up.
    assert_eq!(location(&hosts.open(&gateway, &address)), "/deep");
    assert_eq!(hosts.open(&gateway, "http://app.test/deep").status, 200);
    // The id of a session and one's own state are not the address.
    let state = hosts.cookies["app.test"]["auth_gateway_state"].clone();
    let mut session = upstream.last().values("x-auth-session").join("");
    session.push_str(".AAAAAAAAAAAAAAAAAAAAAA");
    let guessed = format!("http://app.test/login/continue?code={session}&state={state}");
    assert_eq!(hosts.clone().open(&gateway, &guessed).status, 403);
    assert_eq!(other.open(&gateway, &elsewhere).status, 403);
    assert_eq!(hosts.open(&gateway, "http://app.test/deep").status, 200);
    let mut stateless = Hosts::default();
    stateless
        .cookies
        .entry("app.test".into())
        .or_default()
        .insert("auth_gateway_state".into(), String::new());
    let without = address.replace(&format!("state={state}"), "state=");
    assert_eq!(stateless.open(&gateway, &without).status, 403);
    assert_eq!(hosts.open(&gateway, "http://app.test/deep").status, 200);
    // Twice: then two have the address, and the session is over.
    assert_eq!(hosts.clone().open(&gateway, &address).status, 403);
    wait_until("the session is over", || hosts.clone().open(&gateway, "http://app.test/deep").status == 303);
    let broken = address.split("code=").next().unwrap().to_owned() + "code=x&state=y&return=/";
    assert_eq!(Hosts::default().open(&gateway, &broken).status, 403);
}
