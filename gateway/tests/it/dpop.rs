//! Tokens that are bound to keys of clients (DPoP, RFC 9449), over HTTP/1.1 and HTTP/2.

use std::cell::Cell;
use std::net::SocketAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::Request;
use serde_json::{Value, json};

use crate::fixture::http2::{ask, http2};
use crate::fixture::{
    Gateway, PASSWORD, RedisServer, Reply, Upstream, claims, get, login, post, request, tokens,
    until_not_busy, users_file,
};
use crate::forward_auth::WAYS;

/// A client with a key.
pub(crate) struct Client {
    key: EcdsaKeyPair,
    proofs: Cell<u32>,
}

impl Client {
    pub(crate) fn new() -> Client {
        let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        Client { key, proofs: Cell::new(0) }
    }

    /// The claims of a good proof for a request to `address`.
    pub(crate) fn claims(&self, method: &str, address: &str, token: Option<&str>) -> Value {
        self.proofs.set(self.proofs.get() + 1);
        let mut claims = json!({
            "jti": format!("{:?}-{}", self.key.public_key().as_ref()[5], self.proofs.get()),
            "htm": method, "htu": address, "iat": now(),
        });
        if let Some(token) = token {
            claims["ath"] = URL_SAFE_NO_PAD.encode(digest(&SHA256, token.as_bytes())).into();
        }
        claims
    }

    pub(crate) fn sign(&self, claims: &Value) -> String {
        let point = &self.key.public_key().as_ref()[1..];
        let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let jwk = json!({"kty": "EC", "crv": "P-256", "x": encode(&point[..32]), "y": encode(&point[32..])});
        let header = json!({"typ": "dpop+jwt", "alg": "ES256", "jwk": jwk}).to_string();
        let message = format!("{}.{}", encode(header.as_bytes()), encode(claims.to_string().as_bytes()));
        let signature = self.key.sign(&SystemRandom::new(), message.as_bytes()).unwrap();
        format!("{message}.{}", encode(signature.as_ref()))
    }

    /// A good proof for a request to a path of the gateway.
    pub(crate) fn proof(&self, gateway: &Gateway, method: &str, path: &str, token: Option<&str>) -> String {
        self.sign(&self.claims(method, &format!("http://{}{path}", gateway.address), token))
    }

    fn log_in(&self, gateway: &Gateway) -> Reply {
        log_in_with(gateway, &self.proof(gateway, "POST", "/login", None), &[])
    }

    /// The access and the refresh token of a login.
    pub(crate) fn tokens(&self, gateway: &Gateway) -> (String, String) {
        let reply = self.log_in(gateway);
        assert_eq!((reply.status, reply.json()["token_type"].as_str()), (200, Some("DPoP")), "{reply:?}");
        reply.tokens()
    }

    fn refresh(&self, gateway: &Gateway, token: &str) -> Reply {
        let proof = self.proof(gateway, "POST", "/refresh", None);
        send(gateway, "POST", "/refresh", "Bearer", token, &[&proof])
    }

    pub(crate) fn app(&self, gateway: &Gateway, token: &str) -> Reply {
        let proof = self.proof(gateway, "GET", "/app", Some(token));
        send(gateway, "GET", "/app", "DPoP", token, &[&proof])
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// Logs in with a proof and further fields. A login that is refused as overloaded has not used its proof.
pub(crate) fn log_in_with(gateway: &Gateway, proof: &str, more: &[(&str, &str)]) -> Reply {
    log_in_at(gateway.address, proof, more)
}

pub(crate) fn log_in_at(address: SocketAddr, proof: &str, more: &[(&str, &str)]) -> Reply {
    let body = json!({"username": "alice", "password": PASSWORD}).to_string();
    let fields = [&[("Content-Type", "application/json"), ("DPoP", proof)], more].concat();
    until_not_busy(|| request(address, "POST", "/login", &fields, body.as_bytes()).unwrap())
}

pub(crate) fn send(
    gateway: &Gateway,
    method: &str,
    path: &str,
    scheme: &str,
    token: &str,
    proofs: &[&str],
) -> Reply {
    send_to(gateway.address, method, path, scheme, token, proofs)
}

pub(crate) fn send_to(
    address: SocketAddr,
    method: &str,
    path: &str,
    scheme: &str,
    token: &str,
    proofs: &[&str],
) -> Reply {
    let authorization = format!("{scheme} {token}");
    let mut fields = vec![("Authorization", authorization.as_str())];
    fields.extend(proofs.iter().map(|proof| ("DPoP", *proof)));
    request(address, method, path, &fields, b"").unwrap()
}

pub(crate) fn config(upstream: &Upstream, tokens: &str, more: &str) -> String {
    format!(
        "[tokens]\nissuer = \"https://login.test\"\nalgorithm = \"HS256\"\n\
         secret = \"Wm8qT1xJz0vKc4RyN7uPb2eLh6sDf9gA\"\n{tokens}\n\
         [upstreams.app]\nurls = [\"http://{}\"]\n\
         [[routes]]\npath = \"/app\"\nupstream = \"app\"\n{more}\n",
        upstream.address
    )
}

pub(crate) fn code(reply: &Reply) -> (u16, String) {
    (reply.status, reply.code())
}

#[test]
fn a_bound_token_is_good_with_a_proof_of_its_key_and_with_nothing_else() {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&config(&upstream, "dpop = \"required\"\nrotation = \"strict\"", ""));
    let (client, thief) = (Client::new(), Client::new());
    let (access, refresh) = client.tokens(&gateway);
    assert!(claims(&access)["cnf"]["jkt"].is_string() && claims(&access)["cnf"] == claims(&refresh)["cnf"]);

    let reply = client.app(&gateway, &access);
    assert_eq!(reply.status, 200, "{reply:?}");
    let seen = upstream.last();
    assert_eq!(seen.values("x-auth-user"), ["alice"]);
    assert!(seen.values("dpop").is_empty() && seen.values("authorization").is_empty(), "{seen:?}");

    // The token alone, and with what a thief can make.
    let stolen = post_or_get(&gateway, "GET", "/app", &access);
    assert_eq!(code(&stolen), (401, "invalid_token".into()));
    let challenge = stolen.field("www-authenticate").unwrap();
    assert!(
        challenge.starts_with("DPoP error=\"invalid_token\"") && challenge.contains("algs=\"ES256 "),
        "{challenge}"
    );
    assert_eq!(
        code(&send(&gateway, "GET", "/app", "DPoP", &access, &[])),
        (401, "invalid_dpop_proof".into())
    );
    assert_eq!(code(&thief.app(&gateway, &access)), (401, "invalid_token".into()));
    // An unbound token is none here, and logins without a proof are refused.
    let refused = login(gateway.address, "alice", PASSWORD);
    assert_eq!(code(&refused), (400, "invalid_dpop_proof".into()));
    assert_eq!(refused.json()["error"], "invalid_dpop_proof");

    // The refresh token: neither without a proof nor with another key, and no attempt ends the session.
    assert_eq!(code(&post(gateway.address, "/refresh", &refresh)), (400, "invalid_dpop_proof".into()));
    assert_eq!(code(&thief.refresh(&gateway, &refresh)), (401, "invalid_token".into()));
    let renewed = client.refresh(&gateway, &refresh);
    assert_eq!((renewed.status, renewed.json()["token_type"].as_str()), (200, Some("DPoP")), "{renewed:?}");
    let next = renewed.json()["access_token"].as_str().unwrap().to_owned();
    assert_eq!(client.app(&gateway, &next).status, 200);

    // The gateway's own endpoints are no way around it.
    for (method, path) in [("GET", "/sessions"), ("POST", "/logout-all"), ("POST", "/logout")] {
        let refused = post_or_get(&gateway, method, path, &next);
        assert_eq!(code(&refused), (401, "invalid_token".into()), "{path}");
        let proof = thief.proof(&gateway, method, path, Some(&next));
        assert_eq!(
            code(&send(&gateway, method, path, "DPoP", &next, &[&proof])),
            (401, "invalid_token".into())
        );
    }
    let proof = client.proof(&gateway, "GET", "/sessions", Some(&next));
    assert_eq!(send(&gateway, "GET", "/sessions", "DPoP", &next, &[&proof]).status, 200);
    let proof = client.proof(&gateway, "POST", "/logout", Some(&next));
    assert_eq!(send(&gateway, "POST", "/logout", "dpop", &next, &[&proof]).status, 204);
    assert_eq!(code(&client.app(&gateway, &next)), (401, "token_revoked".into()));
    let metrics = gateway.metrics();
    assert!(metrics.contains("auth_gateway_dpop_proofs_total{outcome=\"wrong_key\"}"), "{metrics}");
    gateway.wait_for_log("\"dpop\":\"valid\"");
}

fn post_or_get(gateway: &Gateway, method: &str, path: &str, token: &str) -> Reply {
    send(gateway, method, path, "Bearer", token, &[])
}

#[test]
fn a_proof_is_good_for_one_request_only() {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&config(&upstream, "dpop = \"optional\"", ""));
    let client = Client::new();
    let (access, refresh) = client.tokens(&gateway);
    let good = client.claims("GET", &format!("http://{}/app", gateway.address), Some(&access));
    let ask_with = |proofs: &[&str]| send(&gateway, "GET", "/app?with=a&query", "DPoP", &access, proofs);
    let proof = client.sign(&good);
    assert_eq!(ask_with(&[&proof]).status, 200);
    let replayed = ask_with(&[&proof]);
    assert_eq!(code(&replayed), (401, "invalid_dpop_proof".into()));
    let challenge = replayed.field("www-authenticate").unwrap();
    assert!(challenge.starts_with("Bearer, DPoP error=\"invalid_dpop_proof\""), "{challenge}");
    assert_eq!(
        code(&ask_with(&[&client.sign(&good)])),
        (401, "invalid_dpop_proof".into()),
        "it is the jti that counts"
    );

    let with = |name: &str, value: Value| {
        let mut claims = client.claims("GET", &format!("http://{}/app", gateway.address), Some(&access));
        claims[name] = value;
        claims
    };
    for claims in [
        with("htm", json!("POST")),
        with("htu", json!(format!("http://{}/app/", gateway.address))),
        with("htu", json!(format!("https://{}/app", gateway.address))),
        with("htu", json!("http://another.example/app")),
        with("iat", json!(now() - 70)),
        with("iat", json!(now() + 60)),
        with("ath", json!("AAAA")),
        with("ath", Value::Null),
    ] {
        assert_eq!(code(&ask_with(&[&client.sign(&claims)])), (401, "invalid_dpop_proof".into()), "{claims}");
    }
    let [one, two] = [(); 2].map(|()| client.proof(&gateway, "GET", "/app", Some(&access)));
    assert_eq!(code(&ask_with(&[&one, &two])), (401, "invalid_dpop_proof".into()));
    assert_eq!(code(&ask_with(&[&format!("{one}, {two}")])), (401, "invalid_dpop_proof".into()));
    assert_eq!(ask_with(&[&one]).status, 200, "what was refused with it does not spoil a proof");

    // Likewise where tokens are asked for.
    let proof = client.proof(&gateway, "POST", "/refresh", None);
    let refresh_with = |proof: &str| send(&gateway, "POST", "/refresh", "Bearer", &refresh, &[proof]);
    assert_eq!(refresh_with(&proof).status, 200);
    assert_eq!(code(&refresh_with(&proof)), (400, "invalid_dpop_proof".into()));
    let proof = client.proof(&gateway, "POST", "/login", None);
    assert_eq!(
        code(&log_in_with(&gateway, &proof.replace('.', ".."), &[])),
        (400, "invalid_dpop_proof".into())
    );
    assert_eq!(log_in_with(&gateway, &proof, &[]).status, 200);
    assert_eq!(code(&log_in_with(&gateway, &proof, &[])), (400, "invalid_dpop_proof".into()));
}

#[test]
fn where_it_is_optional_both_kinds_of_token_are_good_and_a_session_becomes_bound_by_its_first_proof() {
    let upstream = Upstream::start();
    let more = "[[routes]]\npath = \"/strict\"\nupstream = \"app\"\ndpop = \"required\"\n\
                [[routes]]\npath = \"/plain\"\nupstream = \"app\"\ndpop = \"off\"\n\
                [[routes]]\npath = \"/forwarded\"\nupstream = \"app\"\nforward_token = true\n";
    let gateway = Gateway::start(&config(&upstream, "dpop = \"optional\"", more));
    let (access, refresh) = tokens(gateway.address, "alice", PASSWORD);
    let bearer =
        |path: &str| get(gateway.address, path, &[("Authorization", &format!("Bearer {access}"))]).unwrap();
    assert_eq!((bearer("/app").status, bearer("/plain").status), (200, 200));
    assert_eq!(code(&bearer("/strict")), (401, "invalid_token".into()));
    let none = get(gateway.address, "/app", &[]).unwrap();
    assert!(none.field("www-authenticate").unwrap().starts_with("Bearer, DPoP algs=\""), "{none:?}");
    let none = get(gateway.address, "/strict", &[]).unwrap();
    assert!(none.field("www-authenticate").unwrap().starts_with("DPoP algs=\""), "{none:?}");
    assert_eq!(get(gateway.address, "/plain", &[]).unwrap().field("www-authenticate"), Some("Bearer"));

    let client = Client::new();
    let bound = client.refresh(&gateway, &refresh).json()["access_token"].as_str().unwrap().to_owned();
    assert_eq!(
        code(&post(gateway.address, "/refresh", &refresh)),
        (401, "invalid_token".into()),
        "it is bound now"
    );
    for (path, status) in [("/app", 200), ("/strict", 200), ("/forwarded", 200), ("/plain", 401)] {
        let proof = client.proof(&gateway, "GET", path, Some(&bound));
        let reply = send(&gateway, "GET", path, "DPoP", &bound, &[&proof]);
        assert_eq!(reply.status, status, "{path}: {reply:?}");
        if path == "/forwarded" {
            assert_eq!(upstream.last().values("dpop"), [proof]);
        }
    }
    assert_eq!(post_or_get(&gateway, "GET", "/plain", &bound).status, 401, "off is no way around it either");
}

#[test]
fn without_dpop_its_fields_are_the_apps() {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&config(&upstream, "", ""));
    let client = Client::new();
    let reply = client.log_in(&gateway);
    assert_eq!(reply.json()["token_type"], "Bearer");
    let access = reply.json()["access_token"].as_str().unwrap().to_owned();
    let reply = send(&gateway, "GET", "/app", "Bearer", &access, &["something of the app's"]);
    assert_eq!((reply.status, upstream.last().values("dpop")), (200, vec!["something of the app's"]));
    let refused = send(&gateway, "GET", "/app", "DPoP", &access, &["x"]);
    assert_eq!(
        (code(&refused), refused.field("www-authenticate")),
        ((401, "missing_token".into()), Some("Bearer"))
    );
}

#[test]
fn a_nonce_is_given_and_asked_for() {
    let upstream = Upstream::start();
    let tokens = "dpop = \"required\"\ndpop_nonce = true";
    let cors = "[cors]\nallowed_origins = [\"https://spa.test\"]\n";
    let gateway = Gateway::start(&config(&upstream, tokens, cors));
    let client = Client::new();
    let refused = client.log_in(&gateway);
    assert_eq!(code(&refused), (400, "use_dpop_nonce".into()));
    let nonce = refused.field("dpop-nonce").unwrap().to_owned();
    let with_nonce = |method: &str, path: &str, token: Option<&str>| {
        let mut claims = client.claims(method, &format!("http://{}{path}", gateway.address), token);
        claims["nonce"] = nonce.clone().into();
        client.sign(&claims)
    };
    let reply = log_in_with(&gateway, &with_nonce("POST", "/login", None), &[]);
    assert_eq!(reply.status, 200, "{reply:?}");
    let access = reply.json()["access_token"].as_str().unwrap().to_owned();
    let refused = client.app(&gateway, &access);
    assert_eq!(
        (code(&refused), refused.field("dpop-nonce")),
        ((401, "use_dpop_nonce".into()), Some(nonce.as_str()))
    );
    let proof = with_nonce("GET", "/app", Some(&access));
    assert_eq!(send(&gateway, "GET", "/app", "DPoP", &access, &[&proof]).status, 200);
    let readable = get(gateway.address, "/app", &[("Origin", "https://spa.test")]).unwrap();
    assert!(readable.field("access-control-expose-headers").unwrap().contains("DPoP-Nonce"), "{readable:?}");
    assert!(readable.field("dpop-nonce").is_some());
    // Another instance with the same secret knows it, one with another does not.
    let other = Gateway::start(&config(&upstream, tokens, ""));
    let mut claims = client.claims("POST", &format!("http://{}/login", other.address), None);
    claims["nonce"] = nonce.clone().into();
    assert_eq!(log_in_with(&other, &client.sign(&claims), &[]).status, 200);
    let foreign = config(&upstream, tokens, "").replace("Wm8q", "Xm8q");
    let foreign = Gateway::start(&foreign);
    let mut claims = client.claims("POST", &format!("http://{}/login", foreign.address), None);
    claims["nonce"] = nonce.into();
    assert_eq!(code(&log_in_with(&foreign, &client.sign(&claims), &[])), (400, "use_dpop_nonce".into()));
}

#[test]
fn the_address_is_the_one_that_the_client_used_in_front_of_trusted_proxies() {
    let upstream = Upstream::start();
    let server = "[server]\ntrusted_proxies = [\"127.0.0.1\"]\n";
    let gateway = Gateway::start(&config(&upstream, "dpop = \"required\"", server));
    let client = Client::new();
    let ask_as = |address: &str, forwarded: &[(&str, &str)]| {
        let proof = client.sign(&client.claims("POST", address, None));
        log_in_with(&gateway, &proof, forwarded).status
    };
    let front = [("X-Forwarded-Proto", "https"), ("X-Forwarded-Host", "app.example")];
    assert_eq!(ask_as("https://app.example/login", &front), 200);
    assert_eq!(ask_as("HTTPS://APP.example:443/login?x", &front), 200);
    assert_eq!(ask_as(&format!("http://{}/login", gateway.address), &front), 400);
    let below = [front[0], front[1], ("X-Forwarded-Prefix", "/gw"), ("X-Forwarded-Port", "8443")];
    assert_eq!(ask_as("https://app.example:8443/gw/login", &below), 200);
    assert_eq!(ask_as("https://app.example/login", &below), 400);
}

#[test]
fn a_verdict_takes_a_proof_for_the_request_that_it_is_about_and_for_no_other() {
    let upstream = Upstream::start();
    let more = "[[routes]]\npath = \"/with\"\nupstream = \"app\"\nforward_authorization = true\n\
         [[routes]]\npath = \"/unbound\"\nupstream = \"app\"\ndpop = \"off\"\n\
         [server]\ntrusted_proxies = [\"127.0.0.1\"]\n[forward_auth]\nenabled = true\n";
    let gateway = Gateway::start(&config(&upstream, "dpop = \"required\"", more));
    let client = Client::new();
    let (access, _) = client.tokens(&gateway);
    let proof = |method: &str, address: &str| client.sign(&client.claims(method, address, Some(&access)));
    let (authorization, as_bearer) = (format!("DPoP {access}"), format!("Bearer {access}"));
    let app = "https://app.example/app/x";
    for (way, ask) in WAYS {
        let ask = |method: &str, path: &str, fields: &[(&str, &str)]| {
            let reply = ask(&gateway, method, &format!("https://app.example{path}"), fields);
            let vary =
                if path == "/unbound" { "Authorization, Cookie" } else { "Authorization, Cookie, DPoP" };
            assert_eq!(reply.field("vary"), Some(vary), "{way}: {path} {reply:?}");
            reply
        };
        let with = |method: &str, path: &str, proof: &str| {
            ask(method, path, &[("Authorization", &*authorization), ("DPoP", proof)])
        };
        for method in ["GET", "POST", "DELETE"] {
            let proof = proof(method, app);
            let reply = with(method, "/app/x?a=b", &proof);
            assert_eq!((reply.status, reply.field("x-auth-user")), (200, Some("alice")), "{way}: {reply:?}");
            assert_eq!((reply.field("dpop"), reply.field("authorization")), (None, None), "{way}");
            let removed = reply.field("x-envoy-auth-headers-to-remove").unwrap_or_default();
            assert_eq!(removed.contains("dpop"), way == "the path", "{way}: {removed}");
            let again = with(method, "/app/x?a=b", &proof);
            assert_eq!(code(&again), (401, "invalid_dpop_proof".into()), "{way}: a replay");
        }
        let question = format!("http://{}/auth/verify", gateway.address);
        for (method, address) in [
            ("POST", app),
            ("GET", "http://app.example/app/x"),
            ("GET", "https://app.example/app"),
            ("GET", "https://app.example/auth/verify"),
            ("GET", "https://app.example:8443/app/x"),
            ("GET", "https://other.example/app/x"),
            ("GET", &question),
        ] {
            let reply = with("GET", "/app/x", &proof(method, address));
            assert_eq!(code(&reply), (401, "invalid_dpop_proof".into()), "{way}: {method} {address}");
            let challenge = reply.field("www-authenticate").unwrap_or_default();
            assert!(challenge.starts_with("DPoP error=\"invalid_dpop_proof\""), "{way}: {challenge}");
        }
        let stolen = ask("GET", "/app/x", &[("Authorization", &*as_bearer)]);
        assert_eq!(code(&stolen), (401, "invalid_token".into()), "{way}");
        let bare = ask("GET", "/app/x", &[("Authorization", &*authorization)]);
        assert_eq!(code(&bare), (401, "invalid_dpop_proof".into()), "{way}");
        assert_eq!(ask("GET", "/unbound", &[]).status, 401, "{way}");
        // The app of this route gets what the client sent.
        let proof = proof("GET", "https://app.example/with");
        let reply = with("GET", "/with", &proof);
        assert_eq!((reply.status, reply.field("dpop")), (200, Some(&*proof)), "{way}: {reply:?}");
    }
    assert!(upstream.requests().is_empty());
}

/// A proof is used at one of two instances; the other refuses it. Without Redis each remembers its own.
#[test]
fn a_proof_is_used_once_among_instances_that_share_redis() {
    let (mut redis, upstream) = (RedisServer::start(), Upstream::start());
    let users = users_file(&[("1", "alice", PASSWORD, &["user"])]);
    let front = "[server]\ntrusted_proxies = [\"127.0.0.1\"]\n";
    let store = |revocation: &str| {
        format!("{front}[store]\nkind = \"redis\"\n[store.redis]\nurl = \"{}\"\n{revocation}", redis.url())
    };
    let start = |store: String| {
        let tokens = "dpop = \"required\"\naccess_ttl = \"9m\"";
        Gateway::start_with(&config(&upstream, tokens, &store), &users, &[])
    };
    let gateways = [start(store("")), start(store(""))];
    let strict = start(store("revocation = \"strict\""));
    let client = Client::new();
    // All instances are one address to the client.
    let host = ("X-Forwarded-Host", "app.example");
    let login = client.sign(&client.claims("POST", "http://app.example/login", None));
    let log_in_at = |gateway: &Gateway| log_in_with(gateway, &login, &[host]);
    let reply = log_in_at(&gateways[0]);
    assert_eq!(reply.status, 200, "{reply:?}");
    let access = reply.json()["access_token"].as_str().unwrap().to_owned();
    let authorization = format!("DPoP {access}");
    let ask_at = |gateway: &Gateway, proof: &str| {
        get(gateway.address, "/app", &[("Authorization", &authorization), ("DPoP", proof), host]).unwrap()
    };
    let proof = || client.sign(&client.claims("GET", "http://app.example/app", Some(&access)));
    for round in 0..10 {
        let proof = proof();
        let (first, second) = (&gateways[round % 2], &gateways[(round + 1) % 2]);
        assert_eq!(ask_at(first, &proof).status, 200, "{}", first.log());
        assert_eq!(code(&ask_at(second, &proof)), (401, "invalid_dpop_proof".into()), "round {round}");
        assert_eq!(code(&ask_at(first, &proof)), (401, "invalid_dpop_proof".into()), "round {round}");
    }
    let reply = log_in_at(&gateways[1]);
    assert_eq!(code(&reply), (400, "invalid_dpop_proof".into()));

    redis.kill();
    let proof_without_redis = proof();
    assert_eq!(ask_at(&gateways[0], &proof_without_redis).status, 200, "each instance goes on by itself");
    assert_eq!(code(&ask_at(&gateways[0], &proof_without_redis)), (401, "invalid_dpop_proof".into()));
    assert!(gateways[0].metrics().contains("dpop_proofs_total{outcome=\"replay_unknown\"} 1"));
    assert_eq!(code(&ask_at(&strict, &proof())), (503, "store_unavailable".into()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn over_http2_the_same_holds() {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&config(&upstream, "dpop = \"required\"", "[server]\nh2c = true\n"));
    let client = Client::new();
    let socket = tokio::net::TcpStream::connect(gateway.address).await.unwrap();
    let connection = http2(socket).await;
    let login = Request::post("http://gw.test/login").header("content-type", "application/json");
    let proof = client.sign(&client.claims("POST", "http://gw.test/login", None));
    let credentials = json!({"username": "alice", "password": PASSWORD}).to_string();
    let login = login.header("dpop", &proof).body(()).unwrap();
    let mut reply = ask(&connection, login.clone(), credentials.as_bytes()).await.unwrap();
    while reply.status == 503 {
        reply = ask(&connection, login.clone(), credentials.as_bytes()).await.unwrap();
    }
    assert_eq!(reply.status, 200, "{reply:?}");
    let access = reply.json()["access_token"].as_str().unwrap().to_owned();
    let app = |scheme: &str, proofs: &[&str]| {
        let request =
            Request::get("http://gw.test/app?a=b").header("authorization", format!("{scheme} {access}"));
        let request = proofs.iter().fold(request, |request, proof| request.header("dpop", *proof));
        request.body(()).unwrap()
    };
    let proof = |address: &str| client.sign(&client.claims("GET", address, Some(&access)));
    let good = proof("http://gw.test/app");
    let other = proof("http://gw.test/app");
    for (request, status) in [
        (app("DPoP", &[&good]), 200),
        (app("DPoP", &[&good]), 401),
        (app("DPoP", &[&other, &proof("http://gw.test/app")]), 401),
        (app("DPoP", &[&proof("http://other.test/app")]), 401),
        (app("DPoP", &[]), 401),
        (app("Bearer", &[&other]), 401),
        (app("Bearer", &[]), 401),
        (app("DPoP", &[&other]), 200),
    ] {
        let reply = ask(&connection, request, b"").await.unwrap();
        assert_eq!(reply.status.as_u16(), status, "{reply:?}");
    }
    assert!(upstream.last().values("dpop").is_empty());
}

#[test]
fn a_bound_token_opens_a_websocket_with_a_proof_among_the_subprotocols() {
    let upstream = Upstream::start();
    let route = "upgrade = [\"websocket\"]\ntoken_in_subprotocol = true\n";
    let gateway = Gateway::start(&config(&upstream, "dpop = \"required\"", route));
    let client = Client::new();
    let (access, _) = client.tokens(&gateway);
    let open = |protocols: &str| {
        let fields = [
            ("Connection", "Upgrade"),
            ("Upgrade", "websocket"),
            ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
            ("Sec-WebSocket-Version", "13"),
            ("Sec-WebSocket-Protocol", protocols),
        ];
        get(gateway.address, "/app", &fields).unwrap()
    };
    let proof = client.proof(&gateway, "GET", "/app", Some(&access));
    assert_eq!(open(&format!("chat, dpop, {access}, {proof}")).status, 101);
    assert_eq!(upstream.last().values("sec-websocket-protocol"), ["chat"]);
    assert_eq!(
        code(&open(&format!("dpop, {access}, {proof}"))),
        (401, "invalid_dpop_proof".into()),
        "a replay"
    );
    assert_eq!(code(&open(&format!("bearer, {access}"))), (401, "invalid_token".into()));
    assert_eq!(code(&open(&format!("dpop, {access}"))), (400, "invalid_request".into()));
}
