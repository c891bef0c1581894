//! Second factors: codes of an app as a step of the login, recovery codes, and routes that ask for them.

use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use super::{app, outcome, refused, send, send_with};
use crate::fixture::{
    Browser, Gateway, PASSWORD, RedisServer, Reply, Upstream, claims, get, login, post, request, tokens,
    until_not_busy, wait_until,
};

fn config(upstream: &Upstream, more: &str) -> String {
    format!(
        "{more}\n[mfa]\nenabled = true\nissuer = \"Example\"\nrequired_roles = [\"admin\"]\n\
         secret = \"0123456789abcdef0123456789abcdef\"\n[users]\npassword_change = true\n\
         [upstreams.app]\nurls = [\"http://{0}\"]\n[[routes]]\npath = \"/app\"\nupstream = \"app\"\n\
         [[routes]]\npath = \"/strong\"\nupstream = \"app\"\nmfa = \"required\"\n\
         [[routes]]\npath = \"/danger\"\nupstream = \"app\"\nfresh_within = \"4s\"\n",
        upstream.address
    )
}

/// The code of a secret in base32, as oathtool and every app compute it; `ahead` is in steps of 30 s.
fn code(secret: &str, ahead: i64) -> String {
    use aws_lc_rs::hmac;
    let bits: String = secret
        .bytes()
        .map(|c| if c.is_ascii_uppercase() { c - b'A' } else { c - b'2' + 26 })
        .map(|value| format!("{value:05b}"))
        .collect();
    let key: Vec<u8> =
        (0..bits.len() / 8).map(|at| u8::from_str_radix(&bits[8 * at..8 * at + 8], 2).unwrap()).collect();
    let step = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() / 30;
    let step = step.checked_add_signed(ahead).unwrap();
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &key), &step.to_be_bytes());
    let tag = tag.as_ref();
    let at = usize::from(tag[19] & 15);
    let number = u32::from_be_bytes(tag[at..at + 4].try_into().unwrap()) & 0x7fff_ffff;
    format!("{:06}", number % 1_000_000)
}

/// Enrols a user: the secret, the recovery codes, and the access token that was used. The code of the step before now is used up.
fn enrol(gateway: &Gateway, user: &str) -> (String, Vec<String>, String) {
    let (access, _) = tokens(gateway.address, user, PASSWORD);
    let begun = send_with(gateway, "/mfa/totp", &access, &json!({ "current_password": PASSWORD }));
    assert_eq!(begun.status, 200, "{begun:?}");
    let begun = begun.json();
    let secret = begun["secret"].as_str().unwrap().to_owned();
    let uri = begun["otpauth_uri"].as_str().unwrap();
    assert!(
        uri.starts_with(&format!("otpauth://totp/Example:{user}?secret={secret}&issuer=Example")),
        "{uri}"
    );
    let svg = begun["qr_svg"].as_str().unwrap();
    assert!(svg.starts_with("<svg") && !svg.contains("style="), "{svg}");
    let body = json!({ "code": code(&secret, -1) });
    let confirmed = send_with(gateway, "/mfa/totp/confirm", &access, &body);
    assert_eq!(confirmed.status, 200, "{confirmed:?}");
    let codes = confirmed.json()["recovery_codes"].as_array().unwrap().clone();
    (secret, codes.iter().map(|code| code.as_str().unwrap().to_owned()).collect(), access)
}

/// The token of a login's second step.
fn first_step(gateway: &Gateway, user: &str) -> String {
    let body = json!({ "username": user, "password": PASSWORD });
    let reply = send(gateway, "/login", &[], &body);
    assert_eq!((reply.status, reply.code().as_str()), (403, "mfa_required"), "{reply:?}");
    assert_eq!(reply.json()["expires_in"], 300);
    reply.json()["mfa_token"].as_str().unwrap().to_owned()
}

fn step(gateway: &Gateway, token: &str, code: &str) -> Reply {
    send(gateway, "/login/totp", &[], &json!({ "mfa_token": token, "code": code }))
}

fn on(gateway: &Gateway, path: &str, access: &str) -> Reply {
    get(gateway.address, path, &[("Authorization", &format!("Bearer {access}"))]).unwrap()
}

#[test]
fn a_login_takes_a_code_once_and_says_so_in_the_token() {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&config(&upstream, ""));
    let (plain, _) = tokens(gateway.address, "bob", PASSWORD);
    assert_eq!((&claims(&plain)["amr"], &claims(&plain)["acr"]), (&json!(["pwd"]), &json!("aal1")));
    let (secret, recovery, access) = enrol(&gateway, "alice");
    assert_eq!((recovery.len(), app(&gateway, &access)), (10, 200));
    let status = on(&gateway, "/mfa", &access).json();
    assert_eq!(status, json!({ "totp": true, "recovery_codes": 10 }));

    let token = first_step(&gateway, "alice");
    assert_eq!(
        outcome(&step(&gateway, "AAAAAAAAAAAAAAAAAAAAAA", "123456")),
        refused(401, "mfa_token_expired")
    );
    assert_eq!(
        outcome(&step(&gateway, &token, &code(&secret, -1))),
        refused(401, "invalid_code"),
        "it was used"
    );
    let now = code(&secret, 0);
    let opened = step(&gateway, &token, &now);
    assert_eq!(opened.status, 200, "{opened:?}");
    let (strong, refresh) = opened.tokens();
    let strong_claims = claims(&strong);
    assert_eq!(
        (&strong_claims["amr"], &strong_claims["acr"]),
        (&json!(["pwd", "otp", "mfa"]), &json!("aal2"))
    );
    // The password and the code were checked within this login, in the second of `iat` or just before.
    let [issued, proved] = ["iat", "auth_time"].map(|name| strong_claims[name].as_u64().unwrap());
    assert!(proved.abs_diff(issued) <= 60, "{proved} {issued}");
    assert_eq!(
        outcome(&step(&gateway, &token, &code(&secret, 1))),
        refused(401, "mfa_token_expired"),
        "once"
    );
    let again = first_step(&gateway, "alice");
    assert_eq!(outcome(&step(&gateway, &again, &now)), refused(401, "invalid_code"), "no replay");
    assert_eq!(step(&gateway, &again, &recovery[0].to_lowercase()).status, 200);
    let again = first_step(&gateway, "alice");
    assert_eq!(outcome(&step(&gateway, &again, &recovery[0])), refused(401, "invalid_code"), "once");

    // It stays through refreshes.
    let refreshed = post(gateway.address, "/refresh", &refresh).tokens();
    let refreshed = claims(&refreshed.0);
    assert_eq!((&refreshed["acr"], &refreshed["auth_time"]), (&json!("aal2"), &strong_claims["auth_time"]));
    let state = std::fs::read(gateway.path("var/state.redb")).unwrap();
    assert!(!gateway.log().contains(&secret) && !state.windows(32).any(|window| window == secret.as_bytes()));

    // The phone is lost.
    assert_eq!(gateway.run_command(&["users", "reset-mfa", "alice"], "").0, 0);
    assert_eq!(login(gateway.address, "alice", PASSWORD).status, 200);
}

#[test]
fn routes_and_roles_ask_for_a_second_factor_or_a_recent_login() {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&config(&upstream, ""));
    let (secret, _, enrolled) = enrol(&gateway, "alice");
    let weak = on(&gateway, "/strong", &enrolled);
    assert_eq!(outcome(&weak), refused(401, "insufficient_user_authentication"));
    let challenge = weak.field("www-authenticate").unwrap();
    assert!(
        challenge.contains("error=\"insufficient_user_authentication\"")
            && challenge.contains("acr_values=\"aal2\""),
        "{challenge}"
    );
    let proved = send_with(&gateway, "/reauthenticate", &enrolled, &json!({ "code": code(&secret, 0) }));
    assert_eq!(proved.status, 200, "{proved:?}");
    let strong = proved.json()["access_token"].as_str().unwrap().to_owned();
    assert_eq!(on(&gateway, "/strong", &strong).status, 200);

    // An admin without one may do nothing but enrol.
    let (admin, _) = tokens(gateway.address, "root", PASSWORD);
    assert_eq!(outcome(&on(&gateway, "/app", &admin)), refused(401, "insufficient_user_authentication"));
    assert_eq!(on(&gateway, "/mfa", &admin).status, 200);

    let (bobs, _) = tokens(gateway.address, "bob", PASSWORD);
    assert_eq!(on(&gateway, "/danger", &bobs).status, 200);
    wait_until("that was too long ago", || on(&gateway, "/danger", &bobs).status == 401);
    let stale = on(&gateway, "/danger", &bobs);
    assert_eq!(outcome(&stale), refused(401, "insufficient_user_authentication"));
    assert!(stale.field("www-authenticate").unwrap().contains("max_age=\"4\""));
    let wrong = send_with(&gateway, "/reauthenticate", &bobs, &json!({ "current_password": "wrong" }));
    assert_eq!(outcome(&wrong), refused(401, "invalid_credentials"));
    let proved = send_with(&gateway, "/reauthenticate", &bobs, &json!({ "current_password": PASSWORD }));
    let fresh = proved.json()["access_token"].as_str().unwrap().to_owned();
    assert_eq!(on(&gateway, "/danger", &fresh).status, 200);
    assert_eq!(on(&gateway, "/danger", "a.b.c").code(), "invalid_token");
}

#[test]
fn parallel_wrong_codes_cannot_pass_the_limit_and_the_password_does_not_reset_it() {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&config(&upstream, ""));
    let (secret, _, _) = enrol(&gateway, "alice");
    let token = first_step(&gateway, "alice");
    let replies: Vec<Reply> = thread::scope(|scope| {
        let guesses: Vec<_> = (0..20)
            .map(|n| {
                scope.spawn({
                    let (g, t) = (&gateway, &token);
                    move || step(g, t, &format!("{n:06}"))
                })
            })
            .collect();
        guesses.into_iter().map(|guess| guess.join().unwrap()).collect()
    });
    let judged = replies.iter().filter(|reply| reply.status == 401).count();
    assert!(
        judged <= 5 && replies.iter().all(|reply| [401, 403, 503].contains(&reply.status)),
        "{replies:?}"
    );
    let mut wrong = judged;
    while wrong < 5 {
        let token = first_step(&gateway, "alice");
        assert_eq!(outcome(&step(&gateway, &token, "000000")), refused(401, "invalid_code"));
        wrong += 1;
    }
    assert_eq!(outcome(&step(&gateway, &token, &code(&secret, 0))), refused(403, "account_locked"));
    assert_eq!(outcome(&login(gateway.address, "alice", PASSWORD)), refused(403, "account_locked"));
}

#[test]
fn a_code_counts_once_at_two_gateways_on_one_redis() {
    let (redis, upstream) = (RedisServer::start(), Upstream::start());
    let store = format!("[store]\nkind = \"redis\"\n[store.redis]\nurl = \"{}\"", redis.url());
    let first = Gateway::start(&config(&upstream, &store));
    let file = first.path("config/users.toml");
    let shared = config(&upstream, &store)
        .replace("[users]\n", &format!("[users]\nfile = {:?}\n", file.to_str().unwrap()));
    let second = Gateway::start(&shared);
    let (secret, _, _) = enrol(&first, "alice");
    let logins = [(&first, first_step(&first, "alice")), (&second, first_step(&second, "alice"))];
    let now = code(&secret, 0);
    let replies = thread::scope(|scope| {
        let all = logins.each_ref().map(|(gateway, token)| scope.spawn(|| step(gateway, token, &now)));
        all.map(|reply| outcome(&reply.join().unwrap()))
    });
    assert_eq!(replies.iter().filter(|reply| reply.0 == 200).count(), 1, "{replies:?}");
    assert!(replies.contains(&refused(401, "invalid_code")), "{replies:?}");
}

#[test]
fn a_factor_is_removed_by_a_code_and_a_password_change_without_a_session_takes_one() {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&config(&upstream, ""));
    let (secret, recovery, _) = enrol(&gateway, "alice");
    let mut change: Value =
        json!({ "username": "alice", "current_password": PASSWORD, "new_password": "another password" });
    assert_eq!(outcome(&send(&gateway, "/password", &[], &change)), refused(403, "mfa_required"));
    change["code"] = json!(recovery[0]);
    assert_eq!(send(&gateway, "/password", &[], &change).status, 204);
    let body = json!({ "username": "alice", "password": "another password" });
    let token = send(&gateway, "/login", &[], &body).json()["mfa_token"].as_str().unwrap().to_owned();
    let (access, _) = step(&gateway, &token, &code(&secret, 0)).tokens();
    // Other sessions end only with a right code, and go on where that is wished.
    let sign_in = |recovery: &str| {
        let token = send(&gateway, "/login", &[], &body).json()["mfa_token"].as_str().unwrap().to_owned();
        step(&gateway, &token, recovery).tokens().0
    };
    let other = sign_in(&recovery[1]);
    let remove = |access: &str, body: Value| outcome(&send_with(&gateway, "/mfa/totp/remove", access, &body));
    let wish = json!({ "code": recovery[2], "end_other_sessions": "no" });
    assert_eq!(remove(&access, wish), refused(400, "bad_request"));
    assert_eq!(remove(&access, json!({})), refused(400, "bad_request"));
    assert_eq!(remove(&access, json!({ "code": "000000" })), refused(401, "invalid_code"));
    assert_eq!((app(&gateway, &access), app(&gateway, &other)), (200, 200));
    assert_eq!(remove(&access, json!({ "code": recovery[2] })), refused(204, ""));
    assert_eq!((app(&gateway, &access), app(&gateway, &other)), (200, 401));
    let (other, _) = tokens(gateway.address, "alice", "another password");
    let begun = send_with(&gateway, "/mfa/totp", &access, &json!({ "current_password": "another password" }));
    let secret = begun.json()["secret"].as_str().unwrap().to_owned();
    let confirmed =
        send_with(&gateway, "/mfa/totp/confirm", &access, &json!({ "code": code(&secret, 0) })).json();
    let wish = json!({ "code": confirmed["recovery_codes"][0], "end_other_sessions": false });
    assert_eq!(remove(&access, wish), refused(204, ""));
    assert_eq!((app(&gateway, &access), app(&gateway, &other)), (200, 200));
}

/// Sends the form of a page with these fields.
fn submit(browser: &mut Browser, page: &Reply, typed: &[(&str, &str)]) -> Reply {
    let html = page.text();
    let between = |text: &str, from: &str| {
        text.split_once(from).map(|(_, rest)| rest.split('"').next().unwrap().replace("&amp;", "&"))
    };
    let action = between(&html, "action=\"").filter(|action| !action.is_empty());
    let action = action.unwrap_or_else(|| browser.location.clone());
    let mut form = form_urlencoded::Serializer::new(String::new());
    for input in html.split("<input type=\"hidden\" ").skip(1) {
        form.append_pair(&between(input, "name=\"").unwrap(), &between(input, "value=\"").unwrap());
    }
    let form = form.extend_pairs(typed).finish();
    until_not_busy(|| browser.submit(&action, &form))
}

#[test]
fn a_required_change_of_a_user_with_a_second_factor_takes_one_code() {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&config(&upstream, "[browser]\nenabled = true"));
    let (_, recovery, _) = enrol(&gateway, "alice");
    let required = |name: &str| {
        let words = ["users", "require-change", name];
        assert_eq!(gateway.run_command(&words, "").0, 0);
        wait_until("the change is required", || {
            let reply = login(gateway.address, name, PASSWORD);
            reply.status == 403 && reply.code() == "password_change_required"
        });
    };
    required("alice");
    // Before the code, which the change takes.
    let asked = login(gateway.address, "alice", PASSWORD).json();
    assert_eq!(asked["factors"], json!(["totp", "recovery_code"]));
    assert!(asked.get("mfa_token").is_none(), "{asked}");
    required("bob");
    assert!(login(gateway.address, "bob", PASSWORD).json().get("factors").is_none());

    // What is refused for another reason uses up no code.
    let mut change = json!({ "username": "alice", "current_password": PASSWORD, "new_password": "short", "code": recovery[0] });
    assert_eq!(outcome(&send(&gateway, "/password", &[], &change)), refused(422, "password_too_short"));
    change["new_password"] = json!("another password");
    change["code"] = json!("000000");
    assert_eq!(outcome(&send(&gateway, "/password", &[], &change)), refused(401, "invalid_code"));

    let mut browser = Browser::new(&gateway);
    let page = browser.open("/login?return=/strong");
    let page = submit(&mut browser, &page, &[("username", "alice"), ("password", PASSWORD)]);
    assert!(page.status == 403 && page.text().contains("name=\"code\""), "{page:?}");
    let passwords = [
        ("username", "alice"),
        ("current_password", PASSWORD),
        ("new_password", "another password"),
        ("repeat_password", "another password"),
    ];
    let with = |code| [&passwords[..], &[("code", code)]].concat();
    let missing = submit(&mut browser, &page, &with(""));
    assert!(missing.status == 403 && missing.text().contains("Enter the code"), "{missing:?}");
    let wrong = submit(&mut browser, &page, &with("000000"));
    assert!(wrong.status == 401 && wrong.text().contains("wrong, or was used"), "{wrong:?}");
    assert!(wrong.text().contains("value=\"password-change\"") && wrong.text().contains("name=\"code\""));
    let went = submit(&mut browser, &wrong, &with(&recovery[0]));
    assert_eq!((went.status, went.field("location")), (303, Some("/strong")), "{went:?}");
    assert_eq!(browser.open("/strong").status, 200, "the session says that a second factor was used");

    // The page of a voluntary change without a session asks for it as well.
    let mut stranger = Browser::new(&gateway);
    let page = stranger.open("/password");
    assert!(!page.text().contains("name=\"code\""));
    let passwords = [
        ("username", "alice"),
        ("current_password", "another password"),
        ("new_password", "a third password"),
        ("repeat_password", "a third password"),
    ];
    let asked = submit(&mut stranger, &page, &passwords);
    assert!(asked.status == 403 && asked.text().contains("name=\"code\""), "{asked:?}");
    let went = submit(&mut stranger, &asked, &[&passwords[..], &[("code", &recovery[1])]].concat());
    assert_eq!((went.status, went.field("location")), (303, Some("/")), "{went:?}");
}

#[test]
fn people_enrol_sign_in_and_prove_themselves_on_pages() {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&config(&upstream, "[browser]\nenabled = true"));
    let mut browser = Browser::new(&gateway);
    let page = browser.open("/login?return=/strong");
    let went = submit(&mut browser, &page, &[("username", "alice"), ("password", PASSWORD)]);
    assert_eq!((went.status, went.field("location")), (303, Some("/strong")), "{went:?}");

    // A route that needs a factor leads to its enrolment.
    let led = browser.open("/strong");
    assert_eq!((led.status, led.field("location")), (303, Some("/reauthenticate?factor=1&return=%2Fstrong")));
    let page = browser.open(led.field("location").unwrap());
    assert!(page.text().contains("Set up a second factor"), "{}", page.text());
    let wrong = submit(&mut browser, &page, &[("current_password", "wrong")]);
    assert!(wrong.status == 401 && wrong.text().contains("The current password is wrong."), "{wrong:?}");
    let page = submit(&mut browser, &page, &[("current_password", PASSWORD)]);
    let html = page.text();
    assert!(page.status == 200 && html.contains("<svg") && !html.contains("style="), "{html}");
    assert!(page.field("content-security-policy").unwrap().starts_with("default-src 'none'"));
    let secret = html.split_once("<p><code>").unwrap().1.split('<').next().unwrap().to_owned();
    let wrong = submit(&mut browser, &page, &[("code", "000000")]);
    assert!(
        wrong.status == 401 && wrong.text().contains("wrong, or was used") && wrong.text().contains(&secret)
    );
    let done = submit(&mut browser, &wrong, &[("code", &code(&secret, -1))]);
    assert!(done.status == 200 && done.text().contains("Keep your recovery codes"), "{done:?}");
    let recovery = done.text().split("<p>").nth(3).unwrap().split('<').next().unwrap().to_owned();
    assert_eq!(browser.open("/strong").status, 200, "the cookie says so at once");

    // The next sign-in has a second step, which leads on.
    let mut next = Browser::new(&gateway);
    let page = next.open("/login?return=/strong");
    let page = submit(&mut next, &page, &[("username", "alice"), ("password", PASSWORD)]);
    assert!(page.status == 403 && page.text().contains("autocomplete=\"one-time-code\""), "{page:?}");
    let wrong = submit(&mut next, &page, &[("code", "000000")]);
    assert!(wrong.status == 401 && wrong.text().contains("wrong, or was used"), "{wrong:?}");
    let went = submit(&mut next, &wrong, &[("code", &code(&secret, 0))]);
    assert_eq!((went.status, went.field("location")), (303, Some("/strong")), "{went:?}");
    assert_eq!(next.open("/strong").status, 200);
    next.location = "/login?return=/strong".to_owned();
    let over = submit(&mut next, &page, &[("code", &recovery)]);
    assert!(over.status == 303 && over.field("location").unwrap().starts_with("/login"), "{over:?}");

    // A route that needs a recent login asks for a code again.
    wait_until("that was too long ago", || next.open("/danger").status == 303);
    let led = next.open("/danger");
    assert_eq!(led.field("location"), Some("/reauthenticate?return=%2Fdanger"), "{led:?}");
    let page = next.open("/reauthenticate?return=%2Fdanger");
    let went = submit(&mut next, &page, &[("code", &recovery)]);
    assert_eq!((went.status, went.field("location")), (303, Some("/danger")), "{went:?}");
    assert_eq!(next.open("/danger").status, 200);
    let ready = next.open("/mfa");
    assert!(ready.text().contains("You have 9 recovery codes left."), "{}", ready.text());

    // New recovery codes count in place of those of before.
    let html = ready.text();
    let (renew, remove) = ("/mfa?change=recovery-codes", "/mfa?change=remove");
    assert!([renew, remove].iter().all(|link| html.contains(&format!("href=\"{link}\""))), "{html}");
    let page = next.open(renew);
    for (typed, status, text) in
        [("", 400, "fill in all fields"), (recovery.as_str(), 401, "wrong, or was used")]
    {
        let wrong = submit(&mut next, &page, &[("code", typed)]);
        assert!(wrong.status == status && wrong.text().contains(text), "{typed}: {wrong:?}");
    }
    let second = done.text().split("<p>").nth(4).unwrap().split('<').next().unwrap().to_owned();
    let shown = submit(&mut next, &page, &[("code", &second)]).text();
    assert!(shown.contains("Keep your recovery codes") && shown.matches("<p>").count() > 10, "{shown}");
    let new = |nth| shown.split("<p>").nth(nth).unwrap().split('<').next().unwrap().to_owned();
    let third = done.text().split("<p>").nth(5).unwrap().split('<').next().unwrap().to_owned();
    assert_eq!(submit(&mut next, &page, &[("code", &third)]).status, 401);

    // The factor is removed, and the other sign-in ends.
    let page = next.open(remove);
    assert!(page.text().contains("name=\"end_other_sessions\" value=\"1\" checked"), "{}", page.text());
    let gone = submit(&mut next, &page, &[("code", &new(3)), ("end_other_sessions", "1")]);
    assert!(gone.status == 200 && gone.text().contains("The second factor is removed."), "{gone:?}");
    assert_eq!((next.open("/strong").status, browser.open("/strong").status), (200, 303));
    let again = submit(&mut next, &page, &[("code", &new(4))]);
    assert_eq!((again.status, again.field("location")), (303, Some("/mfa")), "{again:?}");
    assert!(next.open("/mfa").text().contains("Set up a second factor"));

    // No page of another site can send these forms.
    let fields = [("Origin", "http://evil.example"), ("Content-Type", "application/x-www-form-urlencoded")];
    for path in ["/login/totp", "/reauthenticate"] {
        let reply = request(gateway.address, "POST", path, &fields, b"step=code&code=1").unwrap();
        assert_eq!(reply.status, 403, "{path}");
    }
}
