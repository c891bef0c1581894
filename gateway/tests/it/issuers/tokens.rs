//! Tokens of a real provider (npm oidc-provider), found by discovery.

use std::time::{Duration, Instant};

use serde_json::json;

use super::fixture::{FakeIssuer, Provider, SigningKey};
use super::{ask, config};
use crate::fixture::{Connection, Gateway, PASSWORD, Upstream, get, tokens, wait_until};

const API: &str = "https://api.example";

const KEYS: &str = "audiences = [\"https://api.example\", \"https://api.example/es\", \"app\"]\nroles_claim = \"realm_access.roles\"\n\
                    role_map = { gateway-admin = \"admin\" }\nunknown_kid_interval = \"1s\"\ntimeout = \"3s\"\n";

#[test]
fn tokens_of_a_provider_are_accepted_on_the_routes_that_name_it() {
    let (upstream, provider) = (Upstream::start(), Provider::start());
    let gateway = Gateway::start(&config(&upstream, &format!("http://{}", provider.address), KEYS));
    let (own, _) = tokens(gateway.address, "alice", PASSWORD);
    for resource in [API, "https://api.example/es"] {
        let token = provider.token(resource);
        for (path, status) in
            [("/own", 401), ("/both", 200), ("/idp", 200), ("/admin", 200), ("/own", 401), ("/idp", 200)]
        {
            assert_eq!(ask(gateway.address, path, &token).status, status, "{path} {}", gateway.log());
        }
    }
    let seen = upstream.last();
    assert_eq!(seen.values("x-auth-user"), ["idp:alice"]);
    assert_eq!(seen.values("x-auth-subject"), ["idp:app"]);
    assert_eq!(seen.values("x-auth-roles"), ["admin"]);
    assert!(seen.values("x-auth-session").is_empty() && seen.values("authorization").is_empty());
    for (path, status) in [("/own", 200), ("/both", 200), ("/idp", 401), ("/admin", 401)] {
        assert_eq!(ask(gateway.address, path, &own).status, status, "{path}");
    }
    // Tokens of other kinds and for others, which the provider signs with the same keys.
    for token in [provider.token("https://other.example"), provider.control("id-token")] {
        assert_eq!(token.split('.').count(), 3, "{token}");
        let reply = ask(gateway.address, "/both", &token);
        assert_eq!((reply.status, reply.code().as_str()), (401, "invalid_token"), "{token}");
    }
    // A token of another issuer has no session here.
    let token = provider.token(API);
    assert_eq!(crate::fixture::post(gateway.address, "/logout", &token).status, 401);
    assert_eq!(crate::fixture::post(gateway.address, "/refresh", &token).status, 401);
    assert_eq!(ask(gateway.address, "/sessions", &token).status, 401);
    assert_eq!(ask(gateway.address, "/idp", &token).status, 200);
    let metrics = gateway.metrics();
    for line in [
        "auth_gateway_issuer_tokens_total{issuer=\"idp\",outcome=\"invalid\"} 2",
        "auth_gateway_issuer_key_fetches_total{issuer=\"idp\",outcome=\"success\"} 1",
        "auth_gateway_issuer_up{issuer=\"idp\"} 1",
        "auth_gateway_issuer_keys{issuer=\"idp\"} 2",
    ] {
        assert!(metrics.contains(line), "{line} is not in\n{metrics}");
    }
    // The issuer's own keys on disk are private to the gateway.
    use std::os::unix::fs::PermissionsExt;
    let kept = std::fs::metadata(gateway.path("var/issuers/idp.json")).unwrap();
    assert_eq!(kept.permissions().mode() & 0o777, 0o600);
}

#[test]
fn a_provider_that_rotates_or_is_down_refuses_no_client() {
    let (upstream, mut provider) = (Upstream::start(), Provider::start());
    let mut gateway = Gateway::start(&config(&upstream, &format!("http://{}", provider.address), KEYS));
    let old = provider.token(API);
    wait_until("the keys are known", || ask(gateway.address, "/idp", &old).status == 200);
    std::thread::sleep(Duration::from_secs(1));
    provider.control("rotate");
    // The first token by the new key waits for the keys.
    let (first, second) = (provider.token(API), provider.token(API));
    assert_eq!(ask(gateway.address, "/idp", &first).status, 200, "{}", gateway.log());
    assert_eq!(provider.control("fetches"), "2");
    provider.kill();
    // Never seen, and verified by the keys of before; also after a restart.
    assert_eq!(ask(gateway.address, "/idp", &second).status, 200);
    gateway.kill();
    gateway.run();
    assert_eq!(ask(gateway.address, "/idp", &second).status, 200, "{}", gateway.log());
    // A key that is not known, which may be a new one: an outage is never a 401.
    wait_until("the outage is known", || {
        gateway.metrics().contains("auth_gateway_issuer_up{issuer=\"idp\"} 0")
    });
    let stranger = SigningKey::generate("new");
    let claims = json!({"aud": API, "preferred_username": "mallory"});
    let unknown = stranger.token(&format!("http://{}", provider.address), claims);
    let reply = ask(gateway.address, "/idp", &unknown);
    assert_eq!((reply.status, reply.code().as_str()), (503, "issuer_unavailable"));
    assert!((1..=60).contains(&reply.field("retry-after").unwrap().parse::<u64>().unwrap()));
    // Without keys of before, nothing can be judged; everything else goes on.
    gateway.kill();
    std::fs::remove_file(gateway.path("var/issuers/idp.json")).unwrap();
    gateway.run();
    assert_eq!(ask(gateway.address, "/idp", &second).status, 503);
    assert_eq!(get(gateway.admin, "/readyz", &[]).unwrap().json()["status"], "ready");
    assert_eq!(ask(gateway.address, "/own", &tokens(gateway.address, "bob", PASSWORD).0).status, 200);
    wait_until("the log says why", || gateway.log().contains("its tokens get 503 until then"));
    // It comes back with other keys, and without anything being done here.
    provider.run();
    wait_until("the keys are known again", || {
        ask(gateway.address, "/idp", &provider.token(API)).status == 200
    });
    assert_eq!(ask(gateway.address, "/idp", &second).status, 401);
    assert_eq!(ask(gateway.address, "/idp", &unknown).status, 401);
}

#[test]
fn a_stream_ends_with_the_token_that_opened_it() {
    let (upstream, key) = (Upstream::start(), SigningKey::generate("k"));
    let issuer = FakeIssuer::start(&[&key]);
    let keys = "audiences = [\"api\"]\nleeway = \"0s\"\n";
    let gateway =
        Gateway::start(&(config(&upstream, &issuer.url(), keys) + "[tokens]\nstream_grace = \"10m\"\n"));
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let token = key.token(&issuer.url(), json!({"exp": now + 2}));
    let mut connection = Connection::open(gateway.address).unwrap();
    // The body never comes to its end.
    let head = format!(
        "POST /idp HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n"
    );
    connection.send(head.as_bytes()).unwrap();
    let started = Instant::now();
    assert_ne!(connection.status_of_head().unwrap_or(0), 200);
    assert!(started.elapsed() < Duration::from_secs(9), "{:?}", started.elapsed());
    let expired = ask(gateway.address, "/idp", &token);
    assert_eq!((expired.status, expired.code().as_str()), (401, "token_expired"));
}

#[test]
fn explain_and_check_know_the_issuers() {
    let (upstream, key) = (Upstream::start(), SigningKey::generate("k"));
    let issuer = FakeIssuer::start(&[&key]);
    let text = config(&upstream, &issuer.url(), "audiences = [\"api\"]\n");
    let gateway = Gateway::start(&text);
    let token = key.token(&issuer.url(), json!({}));
    assert_eq!(ask(gateway.address, "/idp", &token).status, 200);
    let explain =
        |path: &str, token: &str| gateway.run_command(&["explain", "GET", path, "--token-file", "-"], token);
    let (code, output, errors) = explain("/idp", &token);
    assert_eq!(code, 0, "{errors}");
    for part in [
        "a good access token, issued by idp",
        "of the issuer idp is good for another",
        "idp:u1 (sub idp:u1)",
        "no session here",
    ] {
        assert!(output.contains(part), "{part} is not in\n{output}");
    }
    let (code, output, _) = explain("/own", &token);
    assert!(code == 1 && output.contains("is not good"), "{output}");
    let unknown = SigningKey::generate("other").token(&issuer.url(), json!({}));
    let (code, output, _) = explain("/idp", &unknown);
    assert!(code == 1 && output.contains("cannot be judged"), "{output}");

    let check = || gateway.run_command(&["check"], "");
    let (code, _, errors) = check();
    assert!(code == 0 && !errors.contains("issuer"), "{errors}");
    issuer.answers(super::fixture::Answer::Raw(
        b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_vec(),
    ));
    let (code, _, errors) = check();
    assert_eq!(code, 0, "{errors}");
    for part in
        ["warning[issuer-unreachable]", "gateway.toml:", "/.well-known/openid-configuration answers with 404"]
    {
        assert!(errors.contains(part), "{part} is not in\n{errors}");
    }
    let file = text.replace("audiences", "jwks_file = \"gateway.toml\"\naudiences");
    std::fs::write(gateway.path("gateway.toml"), file).unwrap();
    let (code, _, errors) = check();
    assert!(code == 78 && errors.contains("gateway.toml is not a JSON object"), "{errors}");
}
