//! Property: no token is accepted but those that were issued.

use std::cell::LazyCell;

use super::config::settings;
use crate::clock::UnixSeconds;
use crate::config::Settings;
use crate::tokens::{Access, Issuer, KeyRing, TokenRequest, TokenType, Verifier};

const NOW: u64 = 1_800_000_000;
const ALGORITHMS: [&str; 4] = ["HS256", "EdDSA", "ES256", "RS256"];

/// The verifier of a key, and an access and a refresh token issued with it.
struct Key {
    verifier: Verifier,
    access: String,
    refresh: String,
}

thread_local! {
    static KEYS: LazyCell<Vec<Key>> = LazyCell::new(|| ALGORITHMS.iter().map(|name| key(name)).collect());
}

fn key(algorithm: &str) -> Key {
    let source = match algorithm {
        "HS256" => "secret = \"e312b136263476c1d96bb5260a79f0aa11e40b3af5d4f7c6\"".to_owned(),
        // Kept between runs, for generating an RSA key takes long.
        _ => {
            format!("keys_dir = {:?}", std::env::temp_dir().join(format!("auth-gateway-fuzzing-{algorithm}")))
        }
    };
    let settings: Settings = settings(&format!(
        "[tokens]\nalgorithm = \"{algorithm}\"\nissuer = \"https://gw.test\"\naudience = \"fuzz\"\n{source}\n\
         [[routes]]\npath = \"/\"\nupstream = \"app\"\n"
    ));
    let keys = KeyRing::load(&settings.tokens, UnixSeconds::new(NOW), &[], Access::Examine)
        .expect("a key can be made");
    let (issuer, verifier) = keys.into_parts(&settings.tokens, None);
    let [access, refresh] = [TokenType::Access, TokenType::Refresh].map(|kind| issue(&issuer, kind));
    Key { verifier, access, refresh }
}

fn issue(issuer: &Issuer, token_type: TokenType) -> String {
    let request = TokenRequest {
        token_type,
        jti: "AAAAAAAAAAAAAAAAAAAAAA",
        sid: "BBBBBBBBBBBBBBBBBBBBBB",
        subject: "1",
        username: "alice",
        roles: &["user".to_owned()],
        further: &serde_json::Map::new(),
        fresh: false,
        csrf: None,
        key: None,
        cookie_session: false,
        authentication: None,
        issued_at: UnixSeconds::new(NOW),
        expires_at: UnixSeconds::new(NOW + 60),
        session_expires_at: UnixSeconds::new(u64::MAX >> 11),
    };
    issuer.issue(request).expect("the key signs")
}

/// Two bytes select a key and a start: raw bytes, or an issued token that is edited by triples of position
/// (two bytes) and byte.
pub fn token(input: &[u8]) {
    let [choice, start, rest @ ..] = input else { return };
    KEYS.with(|keys| {
        let key = &keys[usize::from(*choice) % keys.len()];
        let other = &keys[usize::from(*choice / 4) % keys.len()];
        let mut token = match start % 5 {
            0 => rest.to_vec(),
            1 => key.access.clone().into_bytes(),
            2 => key.refresh.clone().into_bytes(),
            3 => other.access.clone().into_bytes(),
            // The header of one and the payload of the other.
            _ => {
                let (header, _) = other.access.split_once('.').unwrap_or_default();
                let (_, rest) = key.access.split_once('.').unwrap_or_default();
                format!("{header}.{rest}").into_bytes()
            }
        };
        if start % 5 != 0 {
            for edit in rest.chunks_exact(3) {
                let at = usize::from(u16::from_be_bytes([edit[0], edit[1]])) % (token.len() + 1);
                match edit[2] {
                    0 => token.truncate(at),
                    byte @ 1..=127 if at < token.len() => token[at] = byte,
                    byte => token.insert(at, byte & 0x7f),
                }
            }
        }
        let Ok(token) = std::str::from_utf8(&token) else { return };
        for (kind, good) in [(TokenType::Access, &key.access), (TokenType::Refresh, &key.refresh)] {
            let accepted = key.verifier.verify(token, kind, UnixSeconds::new(NOW)).is_ok();
            assert_eq!(accepted, token == good, "{token}");
            assert!(key.verifier.verify(token, kind, UnixSeconds::new(NOW + 61)).is_err(), "{token}");
        }
    });
}
