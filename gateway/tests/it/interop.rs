//! Interoperability of tokens and keys with PyJWT.

use crate::attacks::Key;
use crate::fixture::{Gateway, PASSWORD, Upstream, run_script, tokens};

/// Runs a part of the Python script.
fn python(args: &[&str]) -> String {
    run_script("interop.py", args)
}

fn start(algorithm: &'static str) -> (Gateway, Key) {
    let (upstream, key) = (Upstream::start(), Key::generate(algorithm));
    let signing = match algorithm {
        "HS256" => format!("secret = {:?}", key.text()),
        _ => "private_key_file = \"key.pem\"".into(),
    };
    let config = format!(
        "[tokens]\nissuer = \"https://gw.test\"\naudience = \"interop\"\nalgorithm = \"{algorithm}\"\n{signing}\n\
         [upstreams.app]\nurls = [\"http://{}\"]\n[[routes]]\npath = \"/api\"\nupstream = \"app\"\n",
        upstream.address
    );
    let users = crate::fixture::users_file(&[("1", "alice", PASSWORD, &["user"])]);
    (Gateway::start_with(&config, &users, &[("key.pem", key.text().as_bytes())]), key)
}

#[test]
fn pyjwt_verifies_our_tokens_by_the_shared_secret() {
    let (gateway, key) = start("HS256");
    let (access, refresh) = tokens(gateway.address, "alice", PASSWORD);
    python(&["secret", &key.text(), &access, &refresh]);
}

#[test]
fn pyjwt_verifies_our_tokens_by_the_public_key_set() {
    for algorithm in ["EdDSA", "ES256", "RS256", "PS256"] {
        let (gateway, _) = start(algorithm);
        let (access, refresh) = tokens(gateway.address, "alice", PASSWORD);
        python(&["jwks", algorithm, &format!("http://{}", gateway.address), &access, &refresh]);
    }
}

#[test]
fn the_gateway_accepts_what_pyjwt_signs_with_its_key() {
    for algorithm in ["HS256", "EdDSA", "ES256", "RS256", "PS256"] {
        let (gateway, _) = start(algorithm);
        let (access, _) = tokens(gateway.address, "alice", PASSWORD);
        let key_file = gateway.path("key.pem");
        python(&[
            "sign",
            algorithm,
            key_file.to_str().unwrap(),
            &format!("http://{}/api", gateway.address),
            &access,
        ]);
    }
}

#[test]
fn modified_rsa_padding_is_refused() {
    let (gateway, _) = start("RS256");
    let (access, _) = tokens(gateway.address, "alice", PASSWORD);
    let key_file = gateway.path("key.pem");
    let tried =
        python(&["padding", key_file.to_str().unwrap(), &format!("http://{}/api", gateway.address), &access]);
    assert_eq!(tried.trim(), "40");
}
