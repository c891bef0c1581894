//! Standard ways out: revocation, introspection, metadata, and what tokens carry by configuration.

use serde_json::{Value, json};

use super::{basic, bearer, config, make, with};
use crate::fixture::{Gateway, PASSWORD, Reply, Upstream, claims, get, post, request, tokens, wait_until};

const SECRET: &str = "kT7q/9vXw2LrZ0yBf4mEoN6uGhJc1sPd";

fn oauth(upstream: &Upstream, more: &str) -> String {
    let on = format!(
        "[oauth]\nrevocation = true\nmetadata = true\nresource_metadata_in_challenges = true\n\
         [oauth.introspection_clients.orders]\nsecret = \"{SECRET}\"\n{more}"
    );
    config(upstream, &on)
}

fn form(gateway: &Gateway, target: &str, fields: &[(&str, &str)], body: &str) -> Reply {
    let fields = [&[("Content-Type", "application/x-www-form-urlencoded")], fields].concat();
    request(gateway.address, "POST", target, &fields, body.as_bytes()).unwrap()
}

fn introspect(gateway: &Gateway, token: &str) -> Value {
    let client = basic("orders", SECRET);
    let reply = form(gateway, "/introspect", &[("Authorization", &client)], &format!("token={token}"));
    assert_eq!((reply.status, reply.field("cache-control")), (200, Some("no-store")), "{}", reply.text());
    reply.json()
}

#[test]
fn whoever_holds_a_token_revokes_it_and_of_others_nothing_is_said() {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&oauth(&upstream, ""));
    let revoke = |body: &str| form(&gateway, "/revoke", &[], body);
    let (access, refresh) = tokens(gateway.address, "alice", PASSWORD);
    let (other, other_refresh) = tokens(gateway.address, "alice", PASSWORD);
    let (personal, _) = make(&gateway, "alice", &json!({}));
    for unknown in ["x", "a.b.c", "agp_x"] {
        let reply = revoke(&format!("token={unknown}&token_type_hint=access_token"));
        assert_eq!((reply.status, reply.body.len()), (200, 0), "{unknown}");
    }
    assert_eq!(with(&gateway, "/app", &bearer(&access)).status, 200);
    assert_eq!(revoke(&format!("token_type_hint=refresh_token&token={refresh}")).status, 200);
    assert_eq!(with(&gateway, "/app", &bearer(&access)).code(), "token_revoked");
    assert_eq!(with(&gateway, "/app", &bearer(&other)).status, 200, "another session");
    assert_eq!(revoke(&format!("token={other}")).status, 200);
    assert_eq!(post(gateway.address, "/refresh", &other_refresh).status, 401);
    assert_eq!(with(&gateway, "/app", &bearer(&personal)).status, 200);
    for _ in 0..2 {
        assert_eq!(revoke(&format!("token={personal}")).status, 200);
    }
    assert_eq!(with(&gateway, "/app", &bearer(&personal)).code(), "token_revoked");
    for bad in ["", "token=", "token=a&token=b", "other=x"] {
        let reply = revoke(bad);
        assert_eq!(
            (reply.code().as_str(), &reply.json()["error"]),
            ("bad_request", &json!("invalid_request")),
            "{bad}"
        );
    }
    let json =
        request(gateway.address, "POST", "/revoke", &[("Content-Type", "application/json")], b"{}").unwrap();
    assert_eq!(json.code(), "bad_request");
}

#[test]
fn only_clients_with_a_secret_learn_what_a_token_is_good_for() {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&oauth(&upstream, "[tokens]\naudience = \"demo\""));
    let (access, refresh) = tokens(gateway.address, "alice", PASSWORD);
    for (client, status) in [
        (None, 401),
        (Some(basic("orders", "wrong")), 401),
        (Some(basic("orders", "kT7q%2f9vXw2LrZ0yBf4mEoN6uGhJc1sPd")), 200),
        (Some(basic("%6Frders", SECRET)), 200),
        (Some(basic("orders", &SECRET.replace('/', "%252F"))), 401),
        (Some(basic("other", SECRET)), 401),
        (Some(bearer(&access)), 401),
        (Some("Basic !".to_owned()), 400),
    ] {
        let fields: Vec<(&str, &str)> =
            client.iter().map(|client| ("Authorization", client.as_str())).collect();
        let reply = form(&gateway, "/introspect", &fields, &format!("token={access}"));
        assert_eq!(reply.status, status, "{client:?}");
        if status == 401 {
            assert_eq!(
                (reply.code().as_str(), &reply.json()["error"]),
                ("invalid_client", &json!("invalid_client"))
            );
            assert!(reply.field("www-authenticate").unwrap().starts_with("Basic "), "{reply:?}");
        }
    }
    let active = introspect(&gateway, &access);
    let signed = claims(&access);
    for (member, value) in [("active", json!(true)), ("token_type", json!("Bearer")), ("aud", json!("demo"))]
    {
        assert_eq!(active[member], value, "{active}");
    }
    for member in ["sub", "username", "roles", "exp", "iat", "iss", "jti", "sid"] {
        assert_eq!(active[member], signed[member], "{member}");
    }
    let nothing = json!({"active": false});
    for token in ["x", "a.b.c", &refresh, &access[..access.len() - 2]] {
        assert_eq!(introspect(&gateway, token), nothing, "{token}");
    }
    assert_eq!(post(gateway.address, "/logout", &access).status, 204);
    assert_eq!(introspect(&gateway, &access), nothing);

    let (personal, id) =
        make(&gateway, "alice", &json!({"roles": [], "expires_in": null, "routes": ["/dav"]}));
    let active = introspect(&gateway, &personal);
    assert_eq!((&active["active"], &active["sid"], &active["roles"]), (&json!(true), &json!(id), &json!([])));
    assert_eq!(
        (&active["routes"], &active["exp"], &active["username"]),
        (&json!(["/dav"]), &Value::Null, &json!("alice"))
    );
    assert_eq!(gateway.run_command(&["users", "disable", "alice"], "").0, 0);
    wait_until("the user's token is none", || introspect(&gateway, &personal) == nothing);
}

#[test]
fn the_metadata_says_what_there_is_and_challenges_lead_to_it() {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&oauth(
        &upstream,
        "[endpoints]\nprefix = \"/auth\"\n[tokens]\nissuer = \"https://login.example/id\"",
    ));
    let server = get(gateway.address, "/.well-known/oauth-authorization-server/id", &[]).unwrap();
    assert_eq!((server.status, server.field("content-type")), (200, Some("application/json")));
    assert_eq!(
        server.json(),
        json!({
            "issuer": "https://login.example/id",
            "jwks_uri": "https://login.example/.well-known/jwks.json",
            "response_types_supported": [],
            "grant_types_supported": [],
            "access_token_signing_alg_values_supported": ["EdDSA"],
            "revocation_endpoint": "https://login.example/auth/revoke",
            "revocation_endpoint_auth_methods_supported": ["none"],
            "introspection_endpoint": "https://login.example/auth/introspect",
            "introspection_endpoint_auth_methods_supported": ["client_secret_basic"],
        })
    );
    assert_eq!(
        get(gateway.address, "/.well-known/oauth-authorization-server", &[]).unwrap().json(),
        server.json()
    );
    let resource = get(gateway.address, "/.well-known/oauth-protected-resource", &[]).unwrap().json();
    assert_eq!(resource["resource"], "https://login.example");
    assert_eq!(resource["authorization_servers"], json!(["https://login.example/id"]));
    let uri = "resource_metadata=\"https://login.example/.well-known/oauth-protected-resource\"";
    let bare = get(gateway.address, "/app", &[]).unwrap();
    assert_eq!(bare.field("www-authenticate"), Some(&*format!("Bearer {uri}")));
    let invalid = with(&gateway, "/app", &bearer("x"));
    let challenge = invalid.field("www-authenticate").unwrap();
    assert!(
        challenge.starts_with("Bearer error=\"invalid_token\", ") && challenge.ends_with(&format!(", {uri}")),
        "{challenge}"
    );
    assert_eq!(form(&gateway, "/auth/revoke", &[], "token=x").status, 200);
}

#[test]
fn what_is_bound_to_a_key_is_said_to_be_and_the_metadata_names_the_algorithms_of_proofs() {
    let upstream = Upstream::start();
    let metadata = |gateway: &Gateway, what: &str| {
        get(gateway.address, &format!("/.well-known/oauth-{what}"), &[]).unwrap().json()
    };
    for (mode, required) in [("optional", false), ("required", true)] {
        let gateway = Gateway::start(&oauth(
            &upstream,
            &format!("[tokens]\nissuer = \"http://login.test\"\ndpop = \"{mode}\"\n"),
        ));
        for what in ["authorization-server", "protected-resource"] {
            let algorithms = metadata(&gateway, what)["dpop_signing_alg_values_supported"].clone();
            assert!(algorithms.as_array().unwrap().contains(&json!("ES256")), "{what}: {algorithms}");
        }
        assert_eq!(
            metadata(&gateway, "protected-resource")["dpop_bound_access_tokens_required"],
            json!(required)
        );
        let client = crate::dpop::Client::new();
        let (access, _) = client.tokens(&gateway);
        let active = introspect(&gateway, &access);
        assert_eq!((&active["token_type"], &active["cnf"]), (&json!("DPoP"), &claims(&access)["cnf"]));
    }
}

#[test]
fn without_the_section_the_paths_are_the_apps() {
    let upstream = Upstream::start();
    let all = config(&upstream, "").replace("path = \"/open\"", "path = \"/\"");
    let gateway = Gateway::start(&all);
    for target in ["/revoke", "/introspect"] {
        assert_eq!(form(&gateway, target, &[], "token=x").status, 200);
        assert_eq!(upstream.last().target, target);
    }
    for target in ["/.well-known/oauth-authorization-server", "/.well-known/oauth-protected-resource"] {
        assert_eq!(get(gateway.address, target, &[]).unwrap().status, 200);
        assert_eq!(upstream.last().target, target);
    }
}

#[test]
fn tokens_carry_the_claims_and_audiences_of_the_configuration_and_routes_ask_for_theirs() {
    let upstream = Upstream::start();
    let more = format!(
        "[tokens]\naudience = \"demo\"\nfurther_audiences = [\"orders\"]\n[tokens.claims]\ntenant = \"acme\"\n\
         hasura = {{ id = \"{{user.id}}\", roles = \"{{user.roles}}\" }}\n\
         [identity_headers]\ntenant = \"X-Tenant\"\n\
         [upstreams.app2]\nurls = [\"http://{0}\"]\n\
         [[routes]]\npath = \"/orders\"\nupstream = \"app2\"\naudience = \"orders\"\nbasic = true\n\
         [[routes]]\npath = \"/billing\"\nupstream = \"app2\"\naudience = \"billing\"\n",
        upstream.address
    );
    let gateway = Gateway::start(&config(&upstream, &more));
    let (access, refresh) = tokens(gateway.address, "alice", PASSWORD);
    let signed = claims(&access);
    assert_eq!((&signed["aud"], &signed["tenant"]), (&json!(["demo", "orders"]), &json!("acme")));
    assert_eq!(signed["hasura"], json!({"id": "1", "roles": ["user"]}));
    assert_eq!(claims(&refresh)["tenant"], Value::Null, "access tokens only");
    let (renewed, _) = post(gateway.address, "/refresh", &refresh).tokens();
    assert_eq!(claims(&renewed)["tenant"], "acme");
    let (personal, _) = make(&gateway, "alice", &json!({}));
    for credentials in [bearer(&access), bearer(&personal), basic("alice", PASSWORD)] {
        assert_eq!(with(&gateway, "/orders", &credentials).status, 200, "{credentials}");
        assert_eq!(upstream.last().values("x-tenant"), ["acme"]);
    }
    for credentials in [bearer(&access), bearer(&personal)] {
        assert_eq!(with(&gateway, "/billing", &credentials).code(), "insufficient_scope");
    }
}
