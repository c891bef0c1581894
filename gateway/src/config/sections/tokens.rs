//! `[tokens]`: claims, lifetimes and signing of tokens.

use super::claim_templates::{ClaimTemplates, claims};
use super::files::{readable, readable_help, working_directory};
use super::prelude::*;
use super::previous_keys;
use super::secret_strength::weakness;

/// The default of `tokens.keys_dir`.
pub(super) const KEYS_DIR: &str = "var/keys";

/// The maximum of `tokens.access_ttl`: an access token with a longer lifetime is rejected.
pub const MAX_ACCESS_TTL: Duration = super::DAY;

section! {
    /// Contents, lifetimes and signing of tokens.
    pub struct Tokens {
        /// The `iss` claim.
        issuer: String = text(name).or("http:// (with TLS https://) and server.listen", String::new).example("\"https://login.example\"");
        /// The `aud` claim.
        audience: String = text(name).default("auth-gateway");
        /// More audiences that tokens carry besides, for resources that ask for their own: `aud` is then a list.
        further_audiences: Vec<String> = texts(name).or_empty().example("[\"orders\", \"billing\"]");
        /// Further claims of access tokens, in place of those of the users' source: any value, at any depth. Text may contain {user.id},
        /// {user.name}, {user.roles} and {user.claims.NAME}; a placeholder alone keeps its type, and a claim that the user lacks is left
        /// out. Claims that the gateway sets cannot be set.
        claims: ClaimTemplates = claims();
        /// Lifetime of an access token, in whole seconds.
        access_ttl: Duration = whole_seconds(seconds(1)..=MAX_ACCESS_TTL).default("60s");
        /// Lifetime of a session, however often it is refreshed.
        refresh_ttl: Duration = whole_seconds(seconds(1)..=YEAR).default("10m");
        /// Idle timeout: a session that is not refreshed for this long ends earlier. Longer than access_ttl.
        idle_ttl: Option<Duration> = whole_seconds(seconds(1)..=YEAR).example("\"5m\"");
        /// How long a stream or a WebSocket may outlive the token that authorized it; it ends at once with
        /// its session.
        stream_grace: Duration =
            whole_seconds(Duration::ZERO..=YEAR).or("refresh_ttl", || Duration::ZERO).example("\"10m\"");
        /// Tolerated clock difference.
        leeway: Duration = whole_seconds(Duration::ZERO..=MINUTE).default("0s");
        /// Tokens that are bound to a key of the client's and useless without it (DPoP, RFC 9449): "off"; "optional": a client that
        /// sends a proof with its login gets them; "required": a login and a refresh without a proof are refused.
        dpop: Dpop = choice().default("off").example("\"optional\"");
        /// How long ago a proof may have been made.
        dpop_max_age: Duration = whole_seconds(seconds(1)..=10 * MINUTE).default("60s")
            .only_where(takes_proofs, "`dpop` is off");
        /// How far in the future a proof may have been made, for clocks of clients that are ahead.
        dpop_leeway: Duration = whole_seconds(Duration::ZERO..=MINUTE).default("5s")
            .only_where(takes_proofs, "`dpop` is off");
        /// Requires that a proof contains a nonce of the gateway's, which shows that it was not made in advance.
        dpop_nonce: bool = boolean().default("false").example("true")
            .only_where(takes_proofs, "`dpop` is off");
        /// How long a nonce is handed out; it is accepted for as long again.
        dpop_nonce_ttl: Duration = whole_seconds(seconds(10)..=super::DAY).default("5m")
            .only_where(takes_proofs, "`dpop` is off");
        /// `algorithm` together with the key it needs.
        signing: Signing = flat(signing);
        /// Keys that signed before, and verify until the last of their tokens has expired.
        previous: PreviousKeys = flat(previous_keys::previous_keys);
        /// How much longer than the last of its tokens a previous key verifies: the time that all instances need to get a new
        /// configuration, one after the other.
        previous_grace: Duration = whole_seconds(Duration::ZERO..=YEAR).default("10s");
        /// Rotation of the keys that the gateway manages, on a schedule.
        key_rotation: KeyRotation = table();
        /// When a refresh token's predecessor expires: "on-use" when its successor is first used, "strict"
        /// after its own first use, both plus the grace period; "off": at its expiry, and no successor is
        /// issued.
        rotation: Rotation = choice().default("on-use");
        /// Grace period in which a used refresh token is still accepted, for responses that were lost.
        reuse_grace: Duration = duration(Duration::ZERO..=5 * MINUTE)
            .check(|grace, entry| if grace.is_zero() {
                let why = "ends the sessions of tabs that refresh at the same time, and of clients whose answer is lost";
                entry.warn("no-reuse-grace", why, "give them some seconds, such as \"10s\"");
            })
            .default("10s");
    }
}

section! {
    /// Rotation of managed keys on a schedule. Gateways with the same keys_dir do it together: one of them acts, and each key is
    /// known to all before it signs.
    #[derive(Copy)]
    pub struct KeyRotation {
        /// How long a key signs. Without it, `keys rotate` is for you to call.
        every: Option<Duration> = whole_seconds(seconds(10)..=10 * YEAR).example("\"30d\"");
        /// How long the next key is in the public key set before it signs, so that all who verify tokens have fetched it. Who
        /// obeys the set's `max-age` needs five minutes.
        publish_before: Duration = whole_seconds(seconds(1)..=YEAR).default("1h")
            .only_where(|rotation| rotation.entry("every").is_given(), "`every` is missing");
    }
}

section! {
    /// The algorithm and the one key it needs.
    struct SigningKeys {
        /// HS256 HS384 HS512 ES256 ES384 RS256 RS384 RS512 PS256 PS384 PS512 EdDSA.
        algorithm: Option<Algorithm> = text(algorithm).shape(Shape::Choice(Algorithm::NAMES)).fallback("\"EdDSA\"").example("\"EdDSA\"");
        /// Where the gateway stores the keys that it generates, and when previous keys stopped signing (folder 0700,
        /// files 0600).
        keys_dir: PathBuf = text(file_name).default(KEYS_DIR);
        /// Or a key of your own: PEM, PKCS#8, for any algorithm but HS*.
        private_key_file: Option<PathBuf> = text(private_key_file).secret_file().example("\"secrets/signing-key.pem\"");
        /// HS* only: a file with at least 32, 48 or 64 random bytes for HS256, HS384, HS512.
        secret: SecretSource = secret("\"secrets/jwt\"", "\"openssl rand -base64 64\"");
    }
}

fn takes_proofs(tokens: &Table<'_>) -> bool {
    ["optional", "required"].contains(&tokens.word("dpop"))
}

/// Whether tokens are bound to keys of clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dpop {
    /// No: proofs mean nothing here.
    Off,
    /// Where the client proves that it holds a key.
    Optional,
    /// Always.
    Required,
}

/// When a refresh token's predecessor expires.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rotation {
    /// When its successor is first presented, plus the grace period.
    OnUse,
    /// The grace period after its own first use (RFC 9700 section 4.14.2).
    Strict,
    /// At its expiry; no successor is issued.
    Off,
}

impl Tokens {
    /// All audiences that tokens carry.
    pub fn audiences(&self) -> Vec<String> {
        let all = std::iter::once(&self.audience).chain(&self.further_audiences);
        all.filter(|name| !name.is_empty()).cloned().collect()
    }

    /// Computes defaults, and checks that the lifetimes are consistent.
    pub(super) fn check(&mut self, table: &Table<'_>, issuer: String) {
        let of = |key: &str| table.entry(key);
        if self.issuer.is_empty() {
            self.issuer = issuer;
        }
        if !of("stream_grace").is_given() {
            self.stream_grace = self.refresh_ttl;
        }
        let show = format_duration;
        // An invalid value has been reported, and its default must not be.
        if self.access_ttl > self.refresh_ttl
            && !["access_ttl", "refresh_ttl"].iter().any(|key| table.report().blames(&of(key)))
        {
            let (access, refresh) = (of("access_ttl"), of("refresh_ttl"));
            let (at, other) = if access.is_given() { (&access, &refresh) } else { (&refresh, &access) };
            let (access_ttl, refresh_ttl) = (show(self.access_ttl), show(self.refresh_ttl));
            at.report(
                Diagnostic::error(format!(
                    "`tokens.access_ttl` ({access_ttl}) is longer than `tokens.refresh_ttl` ({refresh_ttl})"
                ))
                .at(at.place())
                .related(format!("`{}` is here", other.name()), other.given_place())
                .help("a session ends after refresh_ttl, and its access tokens with it: make access_ttl shorter"),
            );
        }
        self.check_key_rotation(table);
        let Some(idle_ttl) = self.idle_ttl else { return };
        if idle_ttl <= self.access_ttl {
            let access_ttl = show(self.access_ttl);
            of("idle_ttl").error(
                format!("is not longer than `tokens.access_ttl` ({access_ttl})"),
                "clients refresh when their access token is about to expire, and would find the session over",
            );
        } else if idle_ttl >= self.refresh_ttl {
            let why = "every session ends after `tokens.refresh_ttl`";
            of("idle_ttl").no_effect(why);
        }
    }
}

impl Tokens {
    fn check_key_rotation(&self, table: &Table<'_>) {
        let KeyRotation { every: Some(every), publish_before } = self.key_rotation else { return };
        let of = |key: &str| table.quiet_table("key_rotation").entry(key);
        if publish_before >= every {
            let at = if of("publish_before").is_given() { "publish_before" } else { "every" };
            let show = format_duration;
            let why = format!(
                "a key cannot be published for {} before it signs for {}",
                show(publish_before),
                show(every)
            );
            of(at).error(why, "make publish_before shorter than every");
        }
        if !matches!(self.signing, Signing::Kept { .. }) {
            let why = "the gateway rotates only the keys that it manages in keys_dir";
            of("every").no_effect(why);
        }
    }
}

/// An `iss` or `aud`.
pub(super) fn name(text: &str) -> Result<String, InvalidValue> {
    accept(
        text,
        !(text.is_empty() || text.len() > 255 || text.chars().any(|c| c.is_whitespace() || c.is_control())),
        "is not a name for a token to carry",
        "use 1 to 255 bytes without spaces, such as \"https://login.example\"",
    )
}

/// The algorithm and the one key it needs; any other configured key is a mistake.
fn signing(keys: SigningKeys, table: &Table<'_>) -> Signing {
    let of = |key: &str| table.entry(key);
    let SigningKeys { algorithm, keys_dir: dir, private_key_file, secret } = keys;
    if algorithm.is_none() && of("algorithm").is_given() {
        // Whether the keys are consistent is unknown.
        return Signing::Kept { algorithm: Algorithm::EdDSA, dir };
    }
    let algorithm = algorithm.unwrap_or(Algorithm::EdDSA);
    let name = algorithm.name();
    if algorithm.is_symmetric() {
        if of("private_key_file").is_given() {
            of("private_key_file").error(
                format!("{name} signs with a secret, not with a private key"),
                "remove the key, or choose an asymmetric algorithm such as \"EdDSA\"",
            );
        }
        if of("keys_dir").is_given() && !previous_keys::are_given(table) {
            of("keys_dir").no_effect(format!("{name} keeps no keys"));
        }
        return Signing::Secret { algorithm, secret: checked_secret(table, algorithm, secret) };
    }
    if let SecretSource::Secret(_) = secret {
        secret::given(table, "secret").error(
            format!("{name} signs with a private key, not with a secret"),
            "remove the secret, or set algorithm = \"HS256\"",
        );
    }
    if of("keys_dir").is_given() && of("private_key_file").is_given() && !previous_keys::are_given(table) {
        of("keys_dir").no_effect("the key of `tokens.private_key_file` signs");
    }
    match private_key_file {
        Some(path) => Signing::PrivateKeyFile { algorithm, path },
        None => Signing::Kept { algorithm, dir },
    }
}

pub(super) fn algorithm(text: &str) -> Result<Algorithm, InvalidValue> {
    if text.eq_ignore_ascii_case("none") {
        return refused(
            "`none` is never accepted: anyone could make such a token",
            "leave the key out for EdDSA, which needs no further setting",
        );
    }
    Algorithm::from_name(text).ok_or_else(|| {
        InvalidValue::unknown(
            format!("unknown algorithm {} (names are case-sensitive)", quoted(text)),
            "known algorithms",
            text,
            Algorithm::NAMES,
        )
    })
}

fn private_key_file(text: &str) -> Result<PathBuf, InvalidValue> {
    let path = file_name(text)?;
    let Err(why) = readable(&path) else { return Ok(path) };
    let help = match why.starts_with("cannot be") {
        true => readable_help("file", &path, &why),
        false => format!(
            "name a PKCS#8 PEM file, or leave the key out and the gateway makes one and keeps it{}",
            working_directory(&path)
        ),
    };
    refused(format!("the private key {} {why}", path.display()), help)
}

fn checked_secret(table: &Table<'_>, algorithm: Algorithm, secret: SecretSource) -> Secret<Vec<u8>> {
    let how = "make one with `openssl rand -base64 64 | tr -d '\\n' > FILE` and set secret_file = \"FILE\"";
    let bytes = match secret {
        SecretSource::Unusable => return Secret::default(),
        SecretSource::Nothing => {
            let (name, least) = (algorithm.name(), algorithm.min_secret_len());
            let message = format!("`tokens.secret` is missing: {name} needs one of at least {least} bytes");
            let missing = Diagnostic::error(message).at(table.entry("algorithm").place());
            table.report().push_missing(missing.help(how));
            return Secret::default();
        }
        SecretSource::Secret(bytes) => bytes,
    };
    if let Some(flaw) = secret_flaw(algorithm, &bytes) {
        secret::given(table, "secret").error(format!("the secret {flaw}"), how);
    }
    bytes
}

/// Why a secret is too weak for an algorithm, as the end of a sentence.
pub(super) fn secret_flaw(algorithm: Algorithm, secret: &[u8]) -> Option<String> {
    let (name, least) = (algorithm.name(), algorithm.min_secret_len());
    match secret.len() < least {
        true => Some(format!("has {} bytes, and {name} needs at least {least}", secret.len())),
        false => weakness(secret).map(str::to_owned),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::test_support::{load_diagnostics, load_text, minimal, settings};
    use super::*;

    /// Long enough for HS256 and HS384.
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
            matches!(&hs, Signing::Secret { algorithm: Algorithm::HS384, secret } if **secret == *SECRET.as_bytes())
        );
        for algorithm in Algorithm::ALL.into_iter().filter(|a| !a.is_symmetric()) {
            let keys = format!("algorithm = \"{}\"\nprivate_key_file = \"Cargo.toml\"", algorithm.name());
            let signing = settings(tokens_with(&keys)).tokens.signing;
            assert!(matches!(signing, Signing::PrivateKeyFile { algorithm: a, .. } if a == algorithm));
        }
    }

    #[test]
    fn a_secret_can_be_in_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        std::fs::write(&path, format!("{SECRET}\n")).unwrap();
        let keys = format!("algorithm = \"HS256\"\nsecret_file = {path:?}");
        let signing = settings(tokens_with(&keys)).tokens.signing;
        assert!(matches!(signing, Signing::Secret { secret, .. } if *secret == *SECRET.as_bytes()));
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
                "name an existing file",
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
            let complaints = load_diagnostics(tokens_with(&keys));
            complaints.only(message, help);
            for material in [SECRET, "hunter2", "7262728293937", "super-secret"] {
                assert!(!complaints.text().contains(material), "{}", complaints.text());
            }
        }
    }

    #[test]
    fn lifetimes_that_make_no_sense_are_refused() {
        for (keys, message) in [
            ("access_ttl = \"0s\"", "`tokens.access_ttl`: must be at least 1s"),
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
            load_diagnostics(tokens_with(keys)).only(message, "");
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
    fn keys_are_rotated_on_a_schedule_that_leaves_time_to_publish_them() {
        let rotation = settings(tokens_with("key_rotation = { every = \"30d\" }")).tokens.key_rotation;
        assert_eq!((rotation.every, rotation.publish_before), (Some(30 * super::super::DAY), 60 * MINUTE));
        assert_eq!(settings(minimal()).tokens.key_rotation.every, None);
        for (keys, message) in [
            ("every = \"1h\"", "cannot be published for 1h before it signs for 1h"),
            ("every = \"1d\", publish_before = \"2d\"", "cannot be published for 2d"),
            ("every = \"1s\"", "must be at least 10s"),
            ("evry = \"1d\"", "unknown key `evry`"),
        ] {
            load_diagnostics(tokens_with(&format!("key_rotation = {{ {keys} }}"))).only(message, "");
        }
        let keys =
            format!("algorithm = \"HS256\"\nsecret = \"{SECRET}\"\nkey_rotation = {{ every = \"1d\" }}");
        let warnings = load_text(tokens_with(&keys)).unwrap().warnings.to_string();
        assert!(warnings.contains("rotates only the keys that it manages"), "{warnings}");
    }

    #[test]
    fn keys_that_are_not_used_are_warned_about() {
        let keys = format!("algorithm = \"HS256\"\nsecret = \"{SECRET}\"\nkeys_dir = \"x\"");
        assert!(load_text(tokens_with(&keys)).unwrap().warnings.to_string().contains("has no effect"));
    }
}
