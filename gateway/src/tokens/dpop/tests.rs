//! The examples of RFC 9449, and mutations of good proofs.

#![allow(clippy::unwrap_used)]

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize, PublicKeyComponents};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair,
    KeyPair as _, RSA_PKCS1_SHA256, RSA_PSS_SHA384,
};
use serde_json::json;

use super::*;

const NOW: u64 = 1_700_000_000;
const TOKEN: &[u8] = b"the.access.token";
/// The key of the RFC's examples.
const RFC_THUMBPRINT: &str = "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I";
const RFC_HEADER: &str = "eyJ0eXAiOiJkcG9wK2p3dCIsImFsZyI6IkVTMjU2IiwiandrIjp7Imt0eSI6IkVDIiwieCI6Imw4dEZyaHgtMzR0VjNoUklDUkRZOXpDa0RscEJoRjQyVVFVZldWQVdCRnMiLCJ5IjoiOVZFNGpmX09rX282NHpiVFRsY3VOSmFqSG10NnY5VERWclUwQ2R2R1JEQSIsImNydiI6IlAtMjU2In19";

fn uri(text: &str) -> HttpUri {
    HttpUri::parse(text).unwrap()
}

#[test]
fn the_proofs_of_rfc_9449_are_good_at_their_time() {
    let token = "Kz~8mXK1EalYznwH-LC-1fBAo.4Ljp~zsPE_NeO.gxU";
    for (rest, method, address, iat, token) in [
        (
            "eyJqdGkiOiItQndDM0VTYzZhY2MybFRjIiwiaHRtIjoiUE9TVCIsImh0dSI6Imh0dHBzOi8vc2VydmVyLmV4YW1wbGUuY29tL3Rva2VuIiwiaWF0IjoxNTYyMjYyNjE2fQ.2-GxA6T8lP4vfrg8v-FdWP0A0zdrj8igiMLvqRMUvwnQg4PtFLbdLXiOSsX0x7NVY-FNyJK70nfbV37xRZT3Lg",
            "POST",
            "https://server.example.com/token",
            1_562_262_616,
            None,
        ),
        (
            "eyJqdGkiOiItQndDM0VTYzZhY2MybFRjIiwiaHRtIjoiUE9TVCIsImh0dSI6Imh0dHBzOi8vc2VydmVyLmV4YW1wbGUuY29tL3Rva2VuIiwiaWF0IjoxNTYyMjY1Mjk2fQ.pAqut2IRDm_De6PR93SYmGBPXpwrAk90e8cP2hjiaG5QsGSuKDYW7_X620BxqhvYC8ynrrvZLTk41mSRroapUA",
            "POST",
            "https://server.example.com/token",
            1_562_265_296,
            None,
        ),
        (
            "eyJqdGkiOiJlMWozVl9iS2ljOC1MQUVCIiwiaHRtIjoiR0VUIiwiaHR1IjoiaHR0cHM6Ly9yZXNvdXJjZS5leGFtcGxlLm9yZy9wcm90ZWN0ZWRyZXNvdXJjZSIsImlhdCI6MTU2MjI2MjYxOCwiYXRoIjoiZlVIeU8ycjJaM0RaNTNFc05yV0JiMHhXWG9hTnk1OUlpS0NBcWtzbVFFbyJ9.2oW9RP35yRqzhrtNP86L-Ey71EOptxRimPPToA1plemAgR6pxHF8y6-yqyVnmcw6Fy1dqd-jfxSYoMxhAJpLjA",
            "GET",
            "https://resource.example.org/protectedresource",
            1_562_262_618,
            Some(token.as_bytes()),
        ),
    ] {
        let proof = format!("{RFC_HEADER}.{rest}");
        let (uri, other) = (uri(address), uri("https://server.example.com/other"));
        let at = |now| ExpectedProof {
            method,
            uri: &uri,
            token,
            token_hash_required: token.is_some(),
            now,
            max_age: Duration::from_secs(60),
            leeway: Duration::from_secs(5),
        };
        let good = verify(&proof, &at(UnixSeconds::new(iat))).unwrap();
        assert_eq!(good.key.to_string(), RFC_THUMBPRINT);
        assert_eq!(RFC_THUMBPRINT.parse(), Ok(good.key));
        for (now, fault) in [
            (iat - 6, Some("iat is in the future: do the clocks agree?")),
            (iat - 5, None),
            (iat + 60, None),
            (iat + 61, Some("iat is too long ago")),
        ] {
            assert_eq!(verify(&proof, &at(UnixSeconds::new(now))).err(), fault, "{now}");
        }
        assert!(verify(&proof, &ExpectedProof { method: "PUT", ..at(UnixSeconds::new(iat)) }).is_err());
        assert!(verify(&proof, &ExpectedProof { uri: &other, ..at(UnixSeconds::new(iat)) }).is_err());
        assert_eq!(
            verify(
                &proof,
                &ExpectedProof {
                    token: Some(b"another"),
                    token_hash_required: true,
                    ..at(UnixSeconds::new(iat))
                }
            )
            .err(),
            Some(if token.is_some() { "ath is not the hash of the token" } else { "ath is missing" })
        );
    }
}

/// A key of a client, with what signs for it.
enum ClientKey {
    P256(EcdsaKeyPair),
    P384(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
    Rsa(RsaKeyPair, &'static str),
}

impl ClientKey {
    fn p256() -> ClientKey {
        ClientKey::P256(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap())
    }

    fn rsa(size: KeySize, alg: &'static str) -> ClientKey {
        ClientKey::Rsa(RsaKeyPair::generate(size).unwrap(), alg)
    }

    fn alg(&self) -> &'static str {
        match self {
            ClientKey::P256(_) => "ES256",
            ClientKey::P384(_) => "ES384",
            ClientKey::Ed25519(_) => "EdDSA",
            ClientKey::Rsa(_, alg) => alg,
        }
    }

    fn jwk(&self) -> Value {
        let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        match self {
            ClientKey::P256(key) | ClientKey::P384(key) => {
                let point = &key.public_key().as_ref()[1..];
                let (x, y) = point.split_at(point.len() / 2);
                let crv = if matches!(self, ClientKey::P256(_)) { "P-256" } else { "P-384" };
                json!({"kty": "EC", "crv": crv, "x": encode(x), "y": encode(y)})
            }
            ClientKey::Ed25519(key) => {
                json!({"kty": "OKP", "crv": "Ed25519", "x": encode(key.public_key().as_ref())})
            }
            ClientKey::Rsa(key, _) => {
                let public = PublicKeyComponents::<Vec<u8>>::from(key.public_key());
                json!({"kty": "RSA", "n": encode(&public.n), "e": encode(&public.e)})
            }
        }
    }

    fn sign(&self, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match self {
            ClientKey::P256(key) | ClientKey::P384(key) => {
                key.sign(&random, message).unwrap().as_ref().to_vec()
            }
            ClientKey::Ed25519(key) => key.sign(message).as_ref().to_vec(),
            ClientKey::Rsa(key, alg) => {
                let mut signature = vec![0; key.public_modulus_len()];
                let padding: &dyn aws_lc_rs::signature::RsaEncoding =
                    if *alg == "PS384" { &RSA_PSS_SHA384 } else { &RSA_PKCS1_SHA256 };
                key.sign(padding, &random, message, &mut signature).unwrap();
                signature
            }
        }
    }

    fn header(&self) -> Value {
        json!({"typ": "dpop+jwt", "alg": self.alg(), "jwk": self.jwk()})
    }

    fn proof(&self, header: &str, payload: &str) -> String {
        let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload));
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(self.sign(message.as_bytes())))
    }
}

fn claims() -> Value {
    let ath = URL_SAFE_NO_PAD.encode(digest(&SHA256, TOKEN));
    json!({"jti": "unique", "htm": "POST", "htu": "https://a.example/x/y", "iat": NOW, "ath": ath, "nonce": "n"})
}

fn check(proof: &str) -> Result<Proof, &'static str> {
    let uri = uri("https://a.example/x/y");
    verify(
        proof,
        &ExpectedProof {
            method: "POST",
            uri: &uri,
            token: Some(TOKEN),
            token_hash_required: true,
            now: UnixSeconds::new(NOW),
            max_age: Duration::from_secs(60),
            leeway: Duration::from_secs(5),
        },
    )
}

#[test]
fn each_algorithm_is_accepted_with_its_own_kind_of_key() {
    let keys = [
        ClientKey::p256(),
        ClientKey::P384(EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).unwrap()),
        ClientKey::Ed25519(Ed25519KeyPair::generate().unwrap()),
        ClientKey::rsa(KeySize::Rsa2048, "RS256"),
        ClientKey::rsa(KeySize::Rsa2048, "PS384"),
    ];
    let mut thumbprints = Vec::new();
    for key in &keys {
        let proof = check(&key.proof(&key.header().to_string(), &claims().to_string())).unwrap();
        assert_eq!(proof.nonce.as_deref(), Some("n"));
        assert!(!thumbprints.contains(&proof.key));
        thumbprints.push(proof.key);
        for alg in ALGORITHMS.split(' ').chain(["none", "HS256", "ES512", "RS1"]) {
            let is_its_own = alg == key.alg() || (key.alg() == "EdDSA" && alg == "Ed25519");
            let mut header = key.header();
            header["alg"] = alg.into();
            let checked = check(&key.proof(&header.to_string(), &claims().to_string()));
            assert_eq!(checked.is_ok(), is_its_own, "{alg} with a key for {}", key.alg());
        }
    }
}

#[test]
fn a_proof_has_another_id_for_each_key_and_each_jti() {
    let keys = [ClientKey::p256(), ClientKey::p256()];
    let id = |key: &ClientKey, jti: &str| {
        let mut claims = claims();
        claims["jti"] = jti.into();
        check(&key.proof(&key.header().to_string(), &claims.to_string())).unwrap().id
    };
    assert_eq!(id(&keys[0], "a"), id(&keys[0], "a"));
    assert_ne!(id(&keys[0], "a"), id(&keys[0], "b"));
    assert_ne!(id(&keys[0], "a"), id(&keys[1], "a"));
}

/// Signed by the client itself, so that only what was changed can be why it is refused.
#[test]
fn a_proof_with_any_wrong_member_is_refused() {
    let key = ClientKey::p256();
    let (header, claims) = (key.header().to_string(), claims().to_string());
    assert!(check(&key.proof(&header, &claims)).is_ok());
    let set = |json: &str, pointer: &str, value: Value| {
        let mut json: Value = serde_json::from_str(json).unwrap();
        let (parent, name) = pointer.rsplit_once('/').unwrap();
        let parent = json.pointer_mut(parent).unwrap().as_object_mut().unwrap();
        match value {
            Value::Null => drop(parent.remove(name)),
            value => drop(parent.insert(name.to_owned(), value)),
        }
        json.to_string()
    };
    let foreign = ClientKey::p256().jwk();
    let off_curve = URL_SAFE_NO_PAD.encode([1; 32]);
    let headers = [
        ("/typ", Value::Null),
        ("/typ", json!("JWT")),
        ("/typ", json!("at+jwt")),
        ("/typ", json!("DPoP")),
        ("/typ", json!("dpop")),
        ("/typ", json!(["dpop+jwt"])),
        ("/alg", Value::Null),
        ("/alg", json!("none")),
        ("/alg", json!("None")),
        ("/alg", json!("HS256")),
        ("/alg", json!("es256")),
        ("/alg", json!("ES384")),
        ("/alg", json!("EdDSA")),
        ("/alg", json!("RS256")),
        ("/alg", json!(256)),
        ("/alg", json!("ES256 ES384")),
        ("/crit", json!(["exp"])),
        ("/b64", json!(false)),
        ("/zip", json!("DEF")),
        ("/jwk", Value::Null),
        ("/jwk", json!("key")),
        ("/jwk", json!([])),
        ("/jwk", json!({})),
        ("/jwk", foreign.clone()),
        ("/jwk/x", foreign["x"].clone()),
        ("/jwk/x", json!(off_curve)),
        ("/jwk/x", json!("")),
        ("/jwk/x", Value::Null),
        ("/jwk/y", Value::Null),
        ("/jwk/y", json!("AA")),
        ("/jwk/kty", json!("RSA")),
        ("/jwk/kty", json!("oct")),
        ("/jwk/crv", json!("P-384")),
        ("/jwk/crv", json!("secp256k1")),
        ("/jwk/d", json!("AAAA")),
        ("/jwk/d", json!("")),
        ("/jwk/k", json!("AAAA")),
        ("/jwk/p", json!("AAAA")),
        ("/jwk/use", json!("enc")),
        ("/jwk/alg", json!("ES384")),
        ("/jwk/key_ops", json!(["sign"])),
    ];
    let payloads = [
        ("/jti", Value::Null),
        ("/jti", json!("")),
        ("/jti", json!(7)),
        ("/jti", json!("j".repeat(257))),
        ("/htm", Value::Null),
        ("/htm", json!("GET")),
        ("/htm", json!("post")),
        ("/htm", json!("")),
        ("/htm", json!(["POST"])),
        ("/htu", Value::Null),
        ("/htu", json!("")),
        ("/htu", json!("/x/y")),
        ("/htu", json!("http://a.example/x/y")),
        ("/htu", json!("https://b.example/x/y")),
        ("/htu", json!("https://a.example:8443/x/y")),
        ("/htu", json!("https://a.example/x/y/")),
        ("/htu", json!("https://a.example/x")),
        ("/htu", json!("https://a.example/X/y")),
        ("/htu", json!("https://a.example/x%2Fy")),
        ("/htu", json!("https://a.example@b.example/x/y")),
        ("/htu", json!("https://a.example\\x\\y")),
        ("/htu", json!(["https://a.example/x/y"])),
        ("/iat", Value::Null),
        ("/iat", json!(NOW.to_string())),
        ("/iat", json!(NOW - 61)),
        ("/iat", json!(NOW + 6)),
        ("/iat", json!(NOW * 1000)),
        ("/iat", json!(-1)),
        ("/iat", json!(true)),
        ("/exp", json!(NOW - 6)),
        ("/nbf", json!(NOW + 6)),
        ("/ath", Value::Null),
        ("/ath", json!("")),
        ("/ath", json!(URL_SAFE_NO_PAD.encode(digest(&SHA256, b"another token")))),
        ("/ath", json!(format!("{}=", URL_SAFE_NO_PAD.encode(digest(&SHA256, TOKEN))))),
        ("/ath", json!(7)),
        ("/nonce", json!(7)),
    ];
    assert!(headers.len() + payloads.len() >= 60);
    for (pointer, value) in headers {
        let proof = key.proof(&set(&header, pointer, value.clone()), &claims);
        assert!(check(&proof).is_err(), "{pointer} {value}");
    }
    for (pointer, value) in payloads {
        let proof = key.proof(&header, &set(&claims, pointer, value.clone()));
        assert!(check(&proof).is_err(), "{pointer} {value}");
    }
    // What differs in nothing that counts.
    for (pointer, value) in [
        ("/htu", json!("HTTPS://A.example:443/x/./y?query#fragment")),
        ("/iat", json!(NOW as f64 + 0.5)),
        ("/iat", json!(NOW - 60)),
        ("/iat", json!(NOW + 5)),
        ("/nonce", Value::Null),
        ("/further", json!({"claims": "are allowed"})),
        ("/exp", json!(NOW + 60)),
    ] {
        let proof = key.proof(&header, &set(&claims, pointer, value.clone()));
        assert!(check(&proof).is_ok(), "{pointer} {value}");
    }
}

#[test]
fn a_proof_of_another_form_is_refused() {
    let key = ClientKey::p256();
    let (header, payload) = (key.header().to_string(), claims().to_string());
    let proof = key.proof(&header, &payload);
    let parts: Vec<&str> = proof.split('.').collect();
    let [head, body, signature] = parts[..] else { panic!("{proof}") };
    let other = key.proof(&header, &payload.replace("unique", "another"));
    let other_body = other.split('.').nth(1).unwrap();
    let with = |json: &str, more: &str| {
        format!(
            "{},{more}}}",
            json.trim_end_matches('}').to_owned()
                + "}".repeat(json.len() - json.trim_end_matches('}').len() - 1).as_str()
        )
    };
    for forged in [
        String::new(),
        "..".to_owned(),
        head.to_owned(),
        format!("{head}.{body}"),
        format!("{head}.{body}."),
        format!("{head}..{signature}"),
        format!(".{body}.{signature}"),
        format!("{proof}.x"),
        format!("{proof}="),
        format!(" {proof}"),
        format!("{proof} "),
        format!("{proof},{proof}"),
        format!("{head}.{other_body}.{signature}"),
        format!("{head}.{body}.{}", &signature[..signature.len() - 4]),
        format!("{head}.{body}.{}", URL_SAFE_NO_PAD.encode([0; 64])),
        format!("{head}.{body}.{}", signature.to_uppercase()),
        proof.replace('.', "%2E"),
        key.proof(&header, &format!("[{payload}]")),
        key.proof(&header, &format!("{payload} x")),
        key.proof(&header, "\"text\""),
        key.proof(&with(&header, "\"typ\":\"dpop+jwt\""), &payload),
        key.proof(&header, &with(&payload, "\"htm\":\"POST\"")),
        key.proof(&header, &with(&payload, "\"j\\u0074i\":\"other\"")),
        key.proof(&header, &with(&payload, &format!("\"pad\":\"{}\"", "x".repeat(8192)))),
    ] {
        assert!(check(&forged).is_err(), "{forged}");
    }
    assert!(check(&key.proof(&header, &with(&payload, "\"x\":1"))).is_ok(), "the helper makes good JSON");
}

#[test]
fn weak_and_oversized_rsa_keys_are_refused() {
    for (size, fits) in [(KeySize::Rsa2048, true), (KeySize::Rsa4096, true), (KeySize::Rsa8192, false)] {
        if size == KeySize::Rsa8192 {
            // Generating one takes a minute: a modulus of that length is enough, for it is refused before it is used.
            let key = ClientKey::rsa(KeySize::Rsa2048, "RS256");
            let mut header = key.header();
            header["jwk"]["n"] = URL_SAFE_NO_PAD.encode([0xff; 1024]).into();
            let refused = check(&key.proof(&header.to_string(), &claims().to_string()));
            assert_eq!(refused, Err("jwk is no public key for alg"));
            continue;
        }
        let key = ClientKey::rsa(size, "RS256");
        assert_eq!(check(&key.proof(&key.header().to_string(), &claims().to_string())).is_ok(), fits);
    }
    let key = ClientKey::rsa(KeySize::Rsa2048, "RS256");
    let modulus = URL_SAFE_NO_PAD.decode(key.jwk()["n"].as_str().unwrap()).unwrap();
    for (member, bytes) in [
        ("n", vec![0xff; 128]),
        ("n", [&[0], &modulus[..]].concat()),
        ("e", vec![1]),
        ("e", vec![2]),
        ("e", vec![0, 1, 0, 1]),
        ("e", vec![0xff; 64]),
    ] {
        let mut header = key.header();
        header["jwk"][member] = URL_SAFE_NO_PAD.encode(bytes).into();
        let refused = check(&key.proof(&header.to_string(), &claims().to_string()));
        assert_eq!(refused, Err("jwk is no public key for alg"), "{member}");
    }
}

/// `cargo test --release -p auth-gateway --lib dpop::proof::tests::what_a_proof_costs -- --ignored --nocapture`
#[test]
#[ignore = "prints figures"]
fn what_a_proof_costs() {
    let keys = [
        ClientKey::p256(),
        ClientKey::P384(EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).unwrap()),
        ClientKey::Ed25519(Ed25519KeyPair::generate().unwrap()),
        ClientKey::rsa(KeySize::Rsa2048, "RS256"),
        ClientKey::rsa(KeySize::Rsa4096, "RS256"),
    ];
    for key in &keys {
        let proof = key.proof(&key.header().to_string(), &claims().to_string());
        const ROUNDS: u32 = 2000;
        let mut times: Vec<_> = (0..ROUNDS)
            .map(|_| {
                let begin = std::time::Instant::now();
                assert!(check(std::hint::black_box(&proof)).is_ok());
                begin.elapsed()
            })
            .collect();
        times.sort_unstable();
        let [median, late] = [times.len() / 2, times.len() * 99 / 100].map(|at| times[at]);
        println!("{} ({} bytes): median {median:?}, 99 % {late:?}", key.alg(), proof.len());
    }
}
