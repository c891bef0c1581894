//! `tokens.previous_secrets_file`, `tokens.previous_keys` and `[tokens.migrate_from]`: keys that signed before, and only verify.

use std::path::Path;

use super::prelude::*;
use super::tokens::{KEYS_DIR, algorithm, secret_flaw};

section! {
    /// Keys that only verify.
    pub(super) struct PreviousKeySettings {
        /// HS* only: files of secrets that signed before, each alone in its file. Their tokens are accepted until the last
        /// of them has expired: refresh_ttl, leeway and previous_grace after the gateway first saw them here. Then the log says so, and
        /// they can be removed.
        previous_secrets_file: Vec<(PathBuf, Secret<Vec<u8>>)> = texts(secret_of_file).secret_file().or_empty().example("[\"secrets/jwt-2025\"]");
        /// PEM files with keys that signed before, public or private, for as long: Ed25519 for EdDSA, P-256 for ES256, P-384 for ES384, RSA for
        /// the algorithm that signs now. For another algorithm use migrate_from.
        previous_keys: Vec<PathBuf> = texts(key_file).or_empty().example("[\"secrets/signing-key-2025.pub.pem\"]");
        /// The algorithm that signed before, with its key, where `algorithm` changes: its tokens are accepted for as long, so
        /// that no session ends.
        migrate_from: Option<MigrateFrom> =
            Key::new(Shape::Table(TableShape::of::<MigrateFrom>()), |entry| {
                // The printed configuration has a header without keys.
                entry.table().filter(|table| !table.is_blank()).map(|table| table.read())
            });
    }
}

section! {
    /// The algorithm that signed before, and its key.
    pub(super) struct MigrateFrom {
        /// HS256 HS384 HS512 ES256 ES384 RS256 RS384 RS512 PS256 PS384 PS512 EdDSA.
        algorithm: Option<Algorithm> = text(algorithm).shape(Shape::Choice(Algorithm::NAMES)).required("name the algorithm that signed before").example("\"HS256\"");
        /// HS* only: the file of the secret.
        secret: SecretSource = secret("\"secrets/jwt\"", "\"openssl rand -base64 64\"");
        /// All others: the key, public or private, in PEM. Without it, the keys in keys_dir.
        key_file: Option<PathBuf> = text(key_file).secret_file().example("\"secrets/signing-key.pem\"");
    }
}

/// Whether keys that signed before are configured.
pub(super) fn are_given(table: &Table<'_>) -> bool {
    ["previous_secrets_file", "previous_keys", "migrate_from"].iter().any(|key| table.entry(key).is_given())
}

fn secret_of_file(text: &str) -> Result<(PathBuf, Secret<Vec<u8>>), InvalidValue> {
    let path = file_name(text)?;
    let secret = secret::read(&path)?;
    Ok((path, Secret(secret)))
}

/// All keys that signed before, each with the only algorithm that it may verify.
pub(super) fn previous_keys(settings: PreviousKeySettings, table: &Table<'_>) -> PreviousKeys {
    let of = |key: &str| table.entry(key);
    let dir = PathBuf::from(of("keys_dir").quiet_text().filter(|dir| !dir.is_empty()).unwrap_or(KEYS_DIR));
    let signs = of("algorithm").quiet_text().map_or(Some(Algorithm::EdDSA), Algorithm::from_name);
    let mut keys = Vec::new();
    // Otherwise the algorithm has been reported.
    if let Some(signs) = signs {
        let secrets = settings.previous_secrets_file;
        if !secrets.is_empty() && !signs.is_symmetric() {
            of("previous_secrets_file").error(
                format!("{} signs with a private key, and a secret is for HS* only", signs.name()),
                "write [tokens.migrate_from] with the algorithm of the secret and its secret_file",
            );
        }
        for (path, secret) in secrets {
            let flaw = secret_flaw(signs, &secret).filter(|_| signs.is_symmetric());
            if let Some(flaw) = flaw {
                let path = path.display();
                of("previous_secrets_file").refuse(InvalidValue::new(format!("the secret in {path} {flaw}")));
            }
            keys.push(PreviousKey::Secret { algorithm: signs, secret });
        }
        let rsa = signs.name().starts_with("RS") || signs.name().starts_with("PS");
        let of_rsa = rsa.then_some(signs);
        let algorithms = [Algorithm::EdDSA, Algorithm::ES256, Algorithm::ES384].into_iter().chain(of_rsa);
        let algorithms: Vec<_> = algorithms.collect();
        let file = |path| PreviousKey::File { algorithms: algorithms.clone(), path };
        keys.extend(settings.previous_keys.into_iter().map(file));
    }
    if let Some(before) = settings.migrate_from {
        keys.extend(migrated(before, &of("migrate_from"), &dir));
    }
    PreviousKeys { keys, dir }
}

fn migrated(before: MigrateFrom, entry: &Entry<'_>, dir: &Path) -> Option<PreviousKey> {
    let (algorithm, table) = (before.algorithm?, entry.table()?);
    let name = algorithm.name();
    if algorithm.is_symmetric() {
        if before.key_file.is_some() {
            table
                .entry("key_file")
                .error(format!("{name} has a secret, and no key in a file"), "name it in secret_file");
        }
        return match before.secret {
            SecretSource::Secret(secret) => {
                if let Some(flaw) = secret_flaw(algorithm, &secret) {
                    secret::given(&table, "secret").refuse(InvalidValue::new(format!("the secret {flaw}")));
                }
                Some(PreviousKey::Secret { algorithm, secret })
            }
            SecretSource::Nothing => {
                let message = format!("`{}.secret_file` is missing: {name} has a secret", entry.name());
                entry.report_missing(Diagnostic::error(message).at(entry.place()));
                None
            }
            SecretSource::Unusable => None,
        };
    }
    if let SecretSource::Secret(_) = before.secret {
        secret::given(&table, "secret").error(
            format!("{name} has a key, and no secret"),
            "name it in key_file, or leave both out for the keys in keys_dir",
        );
    }
    Some(match before.key_file {
        Some(path) => PreviousKey::File { algorithms: vec![algorithm], path },
        None => PreviousKey::Kept { algorithm, dir: dir.to_owned() },
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::test_support::{load_diagnostics, minimal, settings};
    use super::*;

    const SECRET: &str = "kT7q/9vXw2LrZ0yBf4mEoN6uGhJc1sPdAi8WtVbRxYeQ3zU5";
    const OLDER: &str = "Zp3/0aTn8mWq5xKbR7dYv2HcLs9JuEfGi4oXtB1kCwPrMhV6";

    #[test]
    fn each_key_that_signed_before_is_for_its_own_algorithm_only() {
        let dir = tempfile::tempdir().unwrap();
        let [old, pem] = ["old", "pem"].map(|name| dir.path().join(name));
        std::fs::write(&old, OLDER).unwrap();
        std::fs::write(&pem, "").unwrap();
        let hs = format!("algorithm = \"HS384\"\nsecret = \"{SECRET}\"\n");
        let secret = |algorithm| PreviousKey::Secret { algorithm, secret: Secret(OLDER.as_bytes().to_vec()) };
        let file = |algorithms: &[Algorithm]| PreviousKey::File {
            algorithms: algorithms.to_vec(),
            path: pem.clone(),
        };
        use Algorithm::{ES256, ES384, EdDSA, HS256, HS384, PS256, RS256};
        for (keys, expected) in [
            (format!("{hs}previous_secrets_file = [{old:?}]"), secret(HS384)),
            (format!("{hs}migrate_from = {{ algorithm = \"HS256\", secret_file = {old:?} }}"), secret(HS256)),
            (format!("{hs}migrate_from = {{ algorithm = \"RS256\", key_file = {pem:?} }}"), file(&[RS256])),
            (
                format!("{hs}keys_dir = \"k\"\nmigrate_from = {{ algorithm = \"EdDSA\" }}"),
                PreviousKey::Kept { algorithm: EdDSA, dir: "k".into() },
            ),
            (format!("previous_keys = [{pem:?}]"), file(&[EdDSA, ES256, ES384])),
            (
                format!("algorithm = \"PS256\"\nprevious_keys = [{pem:?}]"),
                file(&[EdDSA, ES256, ES384, PS256]),
            ),
            (format!("migrate_from = {{ algorithm = \"HS256\", secret = \"{OLDER}\" }}"), secret(HS256)),
        ] {
            let tokens = settings(format!("{}[tokens]\n{keys}", minimal())).tokens;
            assert_eq!(tokens.previous.keys, [expected], "{keys}");
        }
        assert!(settings(minimal()).tokens.previous.keys.is_empty());
    }

    #[test]
    fn keys_that_cannot_have_signed_before_are_refused_and_never_shown() {
        let dir = tempfile::tempdir().unwrap();
        let [old, short, public] = ["old", "short", "public"].map(|name| dir.path().join(name));
        std::fs::write(&old, OLDER).unwrap();
        std::fs::write(&short, "short-hunter2").unwrap();
        std::fs::write(&public, "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEA").unwrap();
        let hs = format!("algorithm = \"HS256\"\nsecret = \"{SECRET}\"\n");
        for (keys, message, help) in [
            (
                format!("previous_secrets_file = [{old:?}]"),
                "a secret is for HS* only",
                "[tokens.migrate_from]",
            ),
            (format!("{hs}previous_secrets_file = {old:?}"), "expected a list", "brackets"),
            (format!("{hs}previous_secrets_file = [\"no/such\"]"), "the file no/such does not exist", ""),
            (
                format!("{hs}previous_secrets_file = [{short:?}]"),
                "has 13 bytes, and HS256 needs at least 32",
                "",
            ),
            (format!("{hs}previous_secrets_file = [{public:?}]"), "who has read it could sign", ""),
            ("previous_keys = [\"no/such\"]".into(), "the key no/such does not exist", ""),
            ("migrate_from = { secret = \"x\" }".into(), "`tokens.migrate_from.algorithm` is missing", ""),
            ("migrate_from = { algorithm = \"none\" }".into(), "`none` is never accepted", ""),
            (
                "migrate_from = { algorithm = \"HS256\" }".into(),
                "`tokens.migrate_from.secret_file` is missing",
                "",
            ),
            (
                format!("migrate_from = {{ algorithm = \"EdDSA\", secret_file = {old:?} }}"),
                "EdDSA has a key, and no secret",
                "key_file",
            ),
            (
                format!(
                    "migrate_from = {{ algorithm = \"HS256\", secret_file = {old:?}, key_file = {old:?} }}"
                ),
                "HS256 has a secret, and no key in a file",
                "secret_file",
            ),
        ] {
            let complaints = load_diagnostics(format!("{}[tokens]\n{keys}", minimal()));
            complaints.only(message, help);
            for material in [OLDER, SECRET, "hunter2"] {
                assert!(!complaints.text().contains(material), "{}", complaints.text());
            }
        }
    }
}
