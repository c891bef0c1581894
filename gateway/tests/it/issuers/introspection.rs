//! Opaque tokens, which are introspected at their issuer (RFC 7662).

use serde_json::json;

use super::fixture::{Answer, FakeIssuer, Provider, SigningKey};
use super::{ask, config};
use crate::fixture::{Gateway, PASSWORD, Upstream, tokens, wait_until};

fn keys(issuer: &str, path: &str, more: &str) -> String {
    format!(
        "introspection_url = \"{issuer}{path}\"\nintrospection_client_id = \"gateway\"\nintrospection_client_secret = \"client secret of the tests\"\n\
         introspection_cache_ttl = \"1s\"\nintrospection_negative_ttl = \"1s\"\ntimeout = \"500ms\"\n{more}\n"
    )
}

#[test]
fn opaque_tokens_of_a_provider_are_accepted_until_they_are_revoked() {
    let (upstream, mut provider) = (Upstream::start(), Provider::start());
    let issuer = format!("http://{}", provider.address);
    let keys = keys(
        &issuer,
        "/token/introspection",
        "algorithms = []\nsubject_claim = \"client_id\"\nrequired_claims = { client_id = \"app\" }\nroles_claim = \"scope\"",
    )
    .replace("500ms", "3s");
    let gateway = Gateway::start(&config(&upstream, &issuer, &keys));
    let (token, other) = (provider.opaque_token(), provider.opaque_token());
    assert!(!token.contains('.'), "{token}");
    for (path, status) in [("/own", 401), ("/both", 200), ("/idp", 200), ("/admin", 403)] {
        assert_eq!(ask(gateway.address, path, &token).status, status, "{path}: {}", gateway.log());
    }
    assert_eq!(upstream.last().values("x-auth-subject"), ["idp:app"]);
    assert_eq!(upstream.last().values("x-auth-roles"), ["read"]);
    let (own, _) = tokens(gateway.address, "alice", PASSWORD);
    assert_eq!(ask(gateway.address, "/both", &own).status, 200);
    let unknown = ask(gateway.address, "/both", "mF_9.B5f-4.1JqM.x");
    assert_eq!((unknown.status, unknown.code().as_str()), (401, "invalid_token"));
    // A JWT of the same issuer is not verified here, but introspected.
    assert_eq!(ask(gateway.address, "/idp", &provider.token("https://api.example")).status, 401);
    assert_eq!(provider.post("/token/revocation", &format!("token={token}")).status, 200);
    wait_until("the answer of before no longer counts", || {
        ask(gateway.address, "/idp", &token).status == 401
    });
    // While it is down, the answer is 503 for whatever is not known; no client is refused with 401.
    provider.kill();
    let reply = ask(gateway.address, "/idp", &other);
    assert_eq!((reply.status, reply.code().as_str()), (503, "issuer_unavailable"));
    assert!(reply.field("retry-after").is_some());
    wait_until("the log says why", || gateway.log().contains("tokens cannot be introspected"));
    assert!(
        gateway
            .metrics()
            .contains("auth_gateway_issuer_introspections_total{issuer=\"idp\",outcome=\"failure\"} 1")
    );
}

#[test]
fn a_token_is_introspected_once_by_all_workers_and_answers_are_remembered() {
    let (upstream, key) = (Upstream::start(), SigningKey::generate("k"));
    let issuer = FakeIssuer::start(&[&key]);
    issuer.introspects(json!({"active": true, "sub": "u1", "aud": "api"}));
    let keys =
        keys(&issuer.url(), "/introspect", "audiences = [\"api\"]").replace("ttl = \"1s\"", "ttl = \"1m\"");
    let gateway = Gateway::start(&config(&upstream, &issuer.url(), &keys));
    std::thread::scope(|scope| {
        for _ in 0..20 {
            scope.spawn(|| assert_eq!(ask(gateway.address, "/idp", "opaque").status, 200));
        }
    });
    assert_eq!(issuer.asked("/introspect"), 1);
    // JWTs are verified by keys, and not introspected.
    assert_eq!(ask(gateway.address, "/idp", &key.token(&issuer.url(), json!({}))).status, 200);
    issuer.introspects(json!({"active": false}));
    for _ in 0..5 {
        assert_eq!(ask(gateway.address, "/idp", "other").status, 401);
    }
    assert_eq!(issuer.asked("/introspect"), 2);
    // What is remembered counts while the issuer is silent; what is not gets 503.
    issuer.answers(Answer::Silence);
    assert_eq!(ask(gateway.address, "/idp", "opaque").status, 200);
    assert_eq!(ask(gateway.address, "/idp", "other").status, 401);
    assert_eq!(ask(gateway.address, "/idp", "third").status, 503);
    issuer.answers(Answer::Good);
    issuer.introspects(json!({"active": "yes"}));
    assert_eq!(ask(gateway.address, "/idp", "fourth").status, 503);
    wait_until("the log says why", || gateway.log().contains("answers without `active`"));
}
