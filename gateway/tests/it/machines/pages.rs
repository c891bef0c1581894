//! The page on which people make and revoke their tokens.

use crate::fixture::{Gateway, PASSWORD, Upstream, get, request};

use super::{bearer, config, with};

/// A browser of a person who is signed in.
struct Person<'g> {
    gateway: &'g Gateway,
    cookies: String,
}

impl<'g> Person<'g> {
    fn sign_in(gateway: &'g Gateway) -> Person<'g> {
        let mut person = Person { gateway, cookies: String::new() };
        let body = format!("username=alice&password={}", PASSWORD.replace(' ', "+"));
        let reply = person.send("/login", &body, "same-origin");
        assert_eq!(reply.0, 303, "{}", reply.1);
        person.cookies = reply.2;
        person
    }

    fn open(&self, target: &str) -> (u16, String, Option<String>) {
        let fields = [("Sec-Fetch-Mode", "navigate"), ("Accept", "text/html"), ("Cookie", &*self.cookies)];
        let reply = get(self.gateway.address, target, &fields).unwrap();
        (reply.status, reply.text(), reply.field("location").map(str::to_owned))
    }

    /// Sends a form from a page of `site`: status, page, and the cookies that it sets.
    fn send(&self, target: &str, body: &str, site: &str) -> (u16, String, String) {
        let fields = [
            ("Content-Type", "application/x-www-form-urlencoded"),
            ("Sec-Fetch-Mode", "navigate"),
            ("Sec-Fetch-Site", site),
            ("Accept", "text/html"),
            ("Cookie", &*self.cookies),
        ];
        let reply = request(self.gateway.address, "POST", target, &fields, body.as_bytes()).unwrap();
        let cookies = reply.fields.iter().filter(|(name, _)| name.eq_ignore_ascii_case("set-cookie"));
        let pairs: Vec<&str> = cookies.filter_map(|(_, value)| value.split(';').next()).collect();
        (reply.status, reply.text(), pairs.join("; "))
    }
}

#[test]
fn a_person_makes_a_token_on_a_page_sees_it_once_and_revokes_it() {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&config(&upstream, "[browser]\nenabled = true"));
    let stranger = Person { gateway: &gateway, cookies: String::new() };
    let (status, _, location) = stranger.open("/tokens");
    assert_eq!((status, location.as_deref()), (303, Some("/login?return=%2Ftokens")));
    let alice = Person::sign_in(&gateway);
    let (status, page, _) = alice.open("/tokens");
    assert!(status == 200 && page.contains("signed in as alice") && page.contains("name=\"days\""), "{page}");
    assert!(!page.contains("<script") && alice.open("/logout").1.contains("href=\"/tokens\""));

    let (status, page, _) = alice.send("/tokens", "name=%3Cb%3Ebackup&days=30", "same-origin");
    assert_eq!(status, 200, "{page}");
    let token = page.split_once("value=\"agp_").unwrap().1.split('"').next().unwrap();
    let token = format!("agp_{token}");
    assert!(page.contains("&lt;b&gt;backup") && page.contains("last used never"), "{page}");
    assert_eq!(with(&gateway, "/app", &bearer(&token)).status, 200);
    assert!(!alice.open("/tokens").1.contains(&token), "shown once");

    let id = &token[4..26];
    assert_eq!(alice.send("/tokens", &format!("revoke={id}"), "cross-site").0, 403);
    assert_eq!(alice.send("/tokens", "name=x&days=30", "cross-site").0, 403);
    assert_eq!(with(&gateway, "/app", &bearer(&token)).status, 200);
    for _ in 0..2 {
        assert_eq!(alice.send("/tokens", &format!("revoke={id}"), "same-origin").0, 303);
    }
    assert_eq!(with(&gateway, "/app", &bearer(&token)).code(), "token_revoked");
    for wrong in ["name=&days=30", "days=30", "name=x&days=soon"] {
        let (status, page, _) = alice.send("/tokens", wrong, "same-origin");
        assert_eq!(status, 400, "{wrong}: {page}");
    }
    // A script of the page uses JSON with the same cookies.
    let fields = [
        ("Cookie", &*alice.cookies),
        ("Sec-Fetch-Site", "same-origin"),
        ("Content-Type", "application/json"),
    ];
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
    let alice = Person::sign_in(&gateway);
    let (_, page, _) = alice.open("/tokens");
    assert!(page.contains("nightly") && !page.contains("name=\"days\""), "{page}");
    assert_eq!(alice.send("/tokens", "name=x&days=30", "same-origin").0, 403);
    assert_eq!(alice.send("/tokens", &format!("revoke={}", &token[4..26]), "same-origin").0, 303);
    assert_eq!(with(&gateway, "/app", &bearer(token.trim_end())).code(), "token_revoked");
}
