//! `[tokens]`: what tokens say, how long they live, and which key signs them.

use std::path::PathBuf;
use std::time::Duration;

use super::secret::{self, Given, Secret};
use super::store::file_name;
use super::users::readable;
use super::weak_secret::weakness;
use super::{MINUTE, seconds};
use crate::config::MAX_ACCESS_TTL;
use crate::config::diagnostic::Diagnostic;
use crate::config::entry::{Entry, Refusal, quoted};
use crate::config::settings::{Algorithm, Rotation, Server, Signing, Tokens};
use crate::config::suggestion::suggest;
use crate::config::table::Table;

const YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);

pub(super) fn tokens(table: &mut Table<'_>, server: &Server) -> Tokens {
    let (access_ttl, refresh_ttl) = lifetimes(table);
    Tokens {
        issuer: table.take("issuer").parse(name).unwrap_or_else(|| {
            let scheme = if server.tls.is_some() { "https" } else { "http" };
            format!("{scheme}://{}", server.listen)
        }),
        audience: table.take("audience").parse(name).unwrap_or_else(|| "auth-gateway".to_owned()),
        access_ttl,
        refresh_ttl,
        idle_ttl: idle_ttl(&table.take("idle_ttl"), access_ttl, refresh_ttl),
        stream_grace: whole_seconds(&table.take("stream_grace"), Duration::ZERO, YEAR).unwrap_or(refresh_ttl),
        leeway: whole_seconds(&table.take("leeway"), Duration::ZERO, MINUTE).unwrap_or(Duration::ZERO),
        signing: signing(table),
        rotation: table
            .take("rotation")
            .choice(&[("on-use", Rotation::OnUse), ("strict", Rotation::Strict), ("off", Rotation::Off)])
            .unwrap_or(Rotation::OnUse),
        reuse_grace: reuse_grace(table),
    }
}

/// How long a token that was replaced lives on.
fn reuse_grace(table: &mut Table<'_>) -> Duration {
    let entry = table.take("reuse_grace");
    let grace = entry.duration(Duration::ZERO..=5 * MINUTE).unwrap_or(seconds(10));
    if grace.is_zero() {
        entry.warn(
            Refusal::new("ends the sessions of tabs that refresh at the same time, and of clients whose answer is lost")
                .help("give them some seconds, such as \"10s\""),
        );
    }
    grace
}

fn lifetimes(table: &mut Table<'_>) -> (Duration, Duration) {
    let access = table.take("access_ttl");
    let refresh = table.take("refresh_ttl");
    let access_ttl = whole_seconds(&access, seconds(1), MAX_ACCESS_TTL);
    let refresh_ttl = whole_seconds(&refresh, seconds(1), YEAR);
    let either_is_wrong =
        access.is_given() != access_ttl.is_some() || refresh.is_given() != refresh_ttl.is_some();
    let (access_ttl, refresh_ttl) = (access_ttl.unwrap_or(MINUTE), refresh_ttl.unwrap_or(10 * MINUTE));
    if access_ttl > refresh_ttl && !either_is_wrong {
        let (at, other) = if access.is_given() { (&access, &refresh) } else { (&refresh, &access) };
        access.report(
            Diagnostic::error(format!(
                "`tokens.access_ttl` ({}) is longer than `tokens.refresh_ttl` ({})",
                humantime::format_duration(access_ttl),
                humantime::format_duration(refresh_ttl)
            ))
            .at(at.place())
            .related(format!("`{}` is here", other.name()), other.place())
            .help("a session ends after refresh_ttl, and its access tokens with it: make access_ttl shorter"),
        );
    }
    (access_ttl, refresh_ttl)
}

fn idle_ttl(entry: &Entry<'_>, access_ttl: Duration, refresh_ttl: Duration) -> Option<Duration> {
    let idle_ttl = whole_seconds(entry, seconds(1), YEAR)?;
    if idle_ttl <= access_ttl {
        let access_ttl = humantime::format_duration(access_ttl);
        entry.refuse(Refusal::new(format!("is not longer than `tokens.access_ttl` ({access_ttl})")).help(
            "clients refresh when their access token is about to expire, and would find the session over",
        ));
    } else if idle_ttl >= refresh_ttl {
        entry.warn(Refusal::new("has no effect: every session ends after `tokens.refresh_ttl`"));
    }
    Some(idle_ttl)
}

/// Times in tokens are whole seconds (RFC 7519 section 2, NumericDate, as this gateway writes it).
fn whole_seconds(entry: &Entry<'_>, least: Duration, most: Duration) -> Option<Duration> {
    let duration = entry.duration(Duration::ZERO..=most)?;
    if duration.subsec_nanos() != 0 {
        entry.refuse(Refusal::new("must be whole seconds, because tokens count in them"));
        return None;
    }
    // A second time, so that zero is told apart from a fraction of a second.
    entry.duration(least..=most)
}

/// An `iss` or `aud`.
fn name(text: &str) -> Result<String, Refusal> {
    if text.is_empty() || text.len() > 255 || text.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err(Refusal::new(format!("{} is not a name for a token to carry", quoted(text)))
            .help("use 1 to 255 bytes without spaces, such as \"https://login.example\""));
    }
    Ok(text.to_owned())
}

fn algorithm(text: &str) -> Result<Algorithm, Refusal> {
    if text.eq_ignore_ascii_case("none") {
        return Err(Refusal::new("`none` is never accepted: anyone could make such a token")
            .help("leave the key out for EdDSA, which needs no further setting"));
    }
    Algorithm::from_name(text).ok_or_else(|| Refusal {
        message: format!("unknown algorithm {} (names are case-sensitive)", quoted(text)),
        help: suggest("known algorithms", text, &Algorithm::ALL.map(Algorithm::name)),
    })
}

/// The algorithm and the one key it needs; any other key that is given is a mistake.
fn signing(table: &mut Table<'_>) -> Signing {
    let algorithm_entry = table.take("algorithm");
    let private_key = table.take("private_key_file");
    let keys_dir = table.take("keys_dir");
    let secret = secret::take(table, "secret");

    let private_key_path = private_key.parse(private_key_file);
    let dir = keys_dir.parse(file_name).unwrap_or_else(|| PathBuf::from("var/keys"));
    let algorithm = algorithm_entry.parse(algorithm);
    let kept = |algorithm| Signing::Kept { algorithm, dir: dir.clone() };
    let algorithm = match (algorithm, algorithm_entry.is_given()) {
        (Some(algorithm), _) => algorithm,
        (None, false) => Algorithm::EdDSA,
        // Whether the keys fit cannot be said.
        (None, true) => return kept(Algorithm::EdDSA),
    };

    if algorithm.is_symmetric() {
        if private_key.is_given() {
            private_key.refuse(
                Refusal::new(format!("{} signs with a secret, not with a private key", algorithm.name()))
                    .help("remove the key, or choose an asymmetric algorithm such as \"EdDSA\""),
            );
        }
        if keys_dir.is_given() {
            keys_dir.warn(Refusal::new(format!("has no effect: {} keeps no keys", algorithm.name())));
        }
        let secret = checked_secret(table, algorithm, secret, &algorithm_entry);
        return Signing::Secret { algorithm, secret };
    }
    if let Given::Secret(Secret { entry, .. }) = secret {
        entry.refuse(
            Refusal::new(format!("{} signs with a private key, not with a secret", algorithm.name()))
                .help("remove the secret, or set algorithm = \"HS256\""),
        );
    }
    if keys_dir.is_given() && private_key.is_given() {
        keys_dir.warn(Refusal::new("has no effect: the key of `tokens.private_key_file` signs"));
    }
    match private_key_path {
        Some(path) => Signing::PrivateKeyFile { algorithm, path },
        None => kept(algorithm),
    }
}

fn private_key_file(text: &str) -> Result<PathBuf, Refusal> {
    let path = file_name(text)?;
    readable(&path).map_err(|why| {
        Refusal::new(format!("the private key {} {why}", path.display()))
            .help("name a PKCS#8 PEM file, or leave the key out and the gateway makes one and keeps it")
    })?;
    Ok(path)
}

fn checked_secret(
    table: &Table<'_>,
    algorithm: Algorithm,
    given: Given<'_>,
    algorithm_entry: &Entry<'_>,
) -> Vec<u8> {
    let (name, least) = (algorithm.name(), algorithm.min_secret_len());
    let how = "make one with `openssl rand -base64 64 | tr -d '\\n' > FILE` and set secret_file = \"FILE\"";
    match given {
        Given::Unusable => Vec::new(),
        Given::Nothing => {
            table.report().push_missing(
                Diagnostic::error(format!(
                    "`tokens.secret` is missing: {name} needs one of at least {least} bytes"
                ))
                .at(algorithm_entry.place())
                .help(how),
            );
            Vec::new()
        }
        Given::Secret(Secret { bytes, entry }) => {
            let flaw = if bytes.len() < least {
                Some(format!("has {} bytes, and {name} needs at least {least}", bytes.len()))
            } else {
                weakness(&bytes).map(str::to_owned)
            };
            if let Some(flaw) = flaw {
                entry.refuse(Refusal::new(format!("the secret {flaw}")).help(how));
            }
            bytes
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::test_support::{complaints, load_text, minimal, settings};
    use super::*;

    /// Good for HS256 and HS384.
    const SECRET: &str = "kT7q/9vXw2LrZ0yBf4mEoN6uGhJc1sPdAi8WtVbRxYeQ3zU5";

    fn tokens_with(keys: &str) -> String {
        minimal() + "[tokens]\n" + keys
    }

    #[test]
    fn the_defaults_are_the_documented_ones() {
        let tokens = settings(minimal()).tokens;
        assert_eq!(
            (tokens.issuer.as_str(), tokens.audience.as_str()),
            ("http://127.0.0.1:8080", "auth-gateway")
        );
        assert_eq!((tokens.access_ttl, tokens.refresh_ttl), (MINUTE, 10 * MINUTE));
        assert_eq!((tokens.leeway, tokens.reuse_grace), (Duration::ZERO, seconds(10)));
        assert_eq!(tokens.rotation, Rotation::OnUse);
        assert!(
            matches!(tokens.signing, Signing::Kept { algorithm: Algorithm::EdDSA, dir } if dir.ends_with("keys"))
        );
    }

    #[test]
    fn the_issuer_follows_the_listener() {
        let config = minimal() + "[server]\nlisten = \"[::1]:8443\"";
        assert_eq!(settings(config).tokens.issuer, "http://[::1]:8443");
    }

    #[test]
    fn each_algorithm_takes_its_kind_of_key() {
        let hs =
            settings(tokens_with(&format!("algorithm = \"HS384\"\nsecret = \"{SECRET}\""))).tokens.signing;
        assert!(
            matches!(&hs, Signing::Secret { algorithm: Algorithm::HS384, secret } if secret == SECRET.as_bytes())
        );
        for algorithm in Algorithm::ALL.into_iter().filter(|a| !a.is_symmetric()) {
            let keys = format!("algorithm = \"{}\"\nprivate_key_file = \"Cargo.toml\"", algorithm.name());
            let signing = settings(tokens_with(&keys)).tokens.signing;
            assert!(matches!(signing, Signing::PrivateKeyFile { algorithm: a, .. } if a == algorithm));
        }
    }

    #[test]
    fn a_secret_can_stand_in_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        std::fs::write(&path, format!("{SECRET}\n")).unwrap();
        let keys = format!("algorithm = \"HS256\"\nsecret_file = {path:?}");
        let signing = settings(tokens_with(&keys)).tokens.signing;
        assert!(matches!(signing, Signing::Secret { secret, .. } if secret == SECRET.as_bytes()));
    }

    #[test]
    fn keys_that_do_not_fit_the_algorithm_are_refused_and_never_shown() {
        for (keys, message, help) in [
            ("algorithm = \"none\"".to_owned(), "`none` is never accepted", "EdDSA"),
            ("algorithm = \"nOnE\"".to_owned(), "`none` is never accepted", "EdDSA"),
            ("algorithm = \"hs256\"".to_owned(), "unknown algorithm `hs256`", "did you mean `HS256`?"),
            ("algorithm = \"ROT13\"".to_owned(), "unknown algorithm `ROT13`", "known algorithms: HS256"),
            ("algorithm = \"HS256\"".to_owned(), "`tokens.secret` is missing", "openssl rand"),
            (format!("secret = \"{SECRET}\""), "`tokens.secret`: EdDSA signs with a private key", "HS256"),
            (
                format!("algorithm = \"HS512\"\nsecret = \"{SECRET}\""),
                "has 48 bytes, and HS512 needs at least 64",
                "openssl",
            ),
            (
                "algorithm = \"HS256\"\nsecret = \"short-hunter2\"".into(),
                "`tokens.secret`: the secret has 13 bytes",
                "",
            ),
            ("algorithm = \"HS256\"\nsecret = \"\"".into(), "`tokens.secret`: the secret is empty", ""),
            (
                "algorithm = \"HS256\"\nsecret = 7262728293937".into(),
                "`tokens.secret`: expected a string",
                "quotes",
            ),
            (
                "algorithm = \"HS256\"\nsecret = \"super-secret-super-secret-super-secret-\"".into(),
                "`tokens.secret`: the secret is a short piece repeated",
                "openssl",
            ),
            (
                "algorithm = \"HS256\"\nsecret_file = \"no/such\"".into(),
                "`tokens.secret_file`: the file no/such does not exist",
                "name a file",
            ),
            (
                format!("algorithm = \"HS256\"\nsecret_file = \"x\"\nsecret = \"{SECRET}\""),
                "both `tokens.secret` and `tokens.secret_file` are given",
                "remove one",
            ),
            (
                format!("algorithm = \"HS256\"\nprivate_key_file = \"Cargo.toml\"\nsecret = \"{SECRET}\""),
                "`tokens.private_key_file`: HS256 signs with a secret",
                "asymmetric",
            ),
            ("private_key_file = \"no/such\"".into(), "the private key no/such does not exist", "PKCS#8"),
            (format!("secert = \"{SECRET}\""), "unknown key `secert` in [tokens]", "did you mean `secret`?"),
        ] {
            let complaints = complaints(tokens_with(&keys));
            complaints.only(message, help);
            for material in [SECRET, "hunter2", "7262728293937", "super-secret"] {
                assert!(!complaints.text().contains(material), "{}", complaints.text());
            }
        }
    }

    #[test]
    fn lifetimes_that_make_no_sense_are_refused() {
        for (keys, message) in [
            ("access_ttl = \"0s\"", "`tokens.access_ttl`: must be longer than nothing"),
            ("access_ttl = \"1500ms\"", "must be whole seconds"),
            ("access_ttl = 60", "expected a duration such as \"60s\", found integer 60"),
            ("access_ttl = \"11m\"", "`tokens.access_ttl` (11m) is longer than `tokens.refresh_ttl` (10m)"),
            ("refresh_ttl = \"30s\"", "is longer than `tokens.refresh_ttl` (30s)"),
            ("leeway = \"61s\"", "`tokens.leeway`: must be at most 1m"),
            ("reuse_grace = \"6m\"", "`tokens.reuse_grace`: must be at most 5m"),
            ("rotation = \"on_use\"", "unknown value `on_use`"),
            ("idle_ttl = \"60s\"", "`tokens.idle_ttl`: is not longer than `tokens.access_ttl` (1m)"),
            ("idle_ttl = \"90500ms\"", "`tokens.idle_ttl`: must be whole seconds"),
            ("issuer = \"\"", "is not a name for a token to carry"),
            ("audience = \"a b\"", "`tokens.audience`: `a b` is not a name"),
        ] {
            complaints(tokens_with(keys)).only(message, "");
        }
        settings(tokens_with("leeway = \"0s\"\naccess_ttl = \"10m\""));
        let loaded = load_text(tokens_with("reuse_grace = \"0s\"")).unwrap();
        assert!(loaded.warnings.to_string().contains("`tokens.reuse_grace`: ends the sessions of tabs"));
    }

    #[test]
    fn a_session_may_end_when_it_is_idle() {
        assert_eq!(settings(minimal()).tokens.idle_ttl, None);
        assert_eq!(settings(tokens_with("idle_ttl = \"2m\"")).tokens.idle_ttl, Some(2 * MINUTE));
        let loaded = load_text(tokens_with("idle_ttl = \"10m\"")).unwrap();
        assert!(loaded.warnings.to_string().contains("`tokens.idle_ttl`: has no effect"));
    }

    #[test]
    fn keys_that_are_not_used_are_warned_about() {
        let keys = format!("algorithm = \"HS256\"\nsecret = \"{SECRET}\"\nkeys_dir = \"x\"");
        assert!(load_text(tokens_with(&keys)).unwrap().warnings.to_string().contains("has no effect"));
    }
}
