//! `[oauth]`: the standard ways for other programs to learn of the gateway's tokens, and to end them.

use super::is_web_address;
use super::prelude::*;
use super::secret_strength::weakness;
use super::tokens::Tokens;

/// Minimum length of a client's secret, in bytes.
const MIN_SECRET_LEN: usize = 24;

section! {
    /// The standard ways for other programs to learn of the gateway's tokens, and to end them.
    pub struct OAuth {
        /// Whether POST /revoke, below endpoints.prefix, ends what a token belongs to (RFC 7009).
        revocation: bool = boolean().default("false");
        /// Whether /.well-known/oauth-authorization-server (RFC 8414) and /.well-known/oauth-protected-resource (RFC 9728) say what there
        /// is. tokens.issuer has to be the address that clients know.
        metadata: bool = boolean().default("false");
        /// Whether the challenge of a 401 names the second one (`resource_metadata`), by which some clients find out where to log in.
        resource_metadata_in_challenges: bool = boolean().default("false");
        /// The programs that may ask POST /introspect about tokens (RFC 7662), by the names that they authenticate with. Without one
        /// there is no such endpoint.
        introspection_clients: BTreeMap<String, ClientSecret> = {
            let named = Shape::Map(Box::new(Shape::Table(TableShape::of::<ClientKeys>())));
            Key::new(named, clients)
        };
    }
}

section! {
    /// A program that may ask about tokens.
    struct ClientKeys {
        /// Its secret, at least 24 random bytes.
        secret: SecretSource = secret("\"secrets/orders-api\"", "\"openssl rand -base64 32\"");
        /// Or the SHA-256 of the secret, in hexadecimal: `printf %s "$SECRET" | sha256sum`.
        secret_sha256: Option<[u8; 32]> = text(sha256).example("\"9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08\"");
    }
}

/// The SHA-256 of a client's secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientSecret(pub [u8; 32]);

impl OAuth {
    pub(super) fn check(&self, table: &Table<'_>, tokens: &Tokens) {
        let of = |key: &str| table.entry(key);
        if self.resource_metadata_in_challenges && !self.metadata {
            of("resource_metadata_in_challenges")
                .error("has no meaning without the metadata", "write metadata = true as well");
        }
        if self.metadata && !is_web_address(&tokens.issuer) {
            let why = format!("needs an address as `tokens.issuer`, not {}", quoted(&tokens.issuer));
            of("metadata").error(why, "write issuer = \"https://login.example\" in [tokens]");
        }
    }
}

fn clients(entry: &Entry<'_>) -> BTreeMap<String, ClientSecret> {
    let entries = entry.table_or_empty().entries();
    entries.into_iter().filter_map(|(name, entry)| Some((name.clone(), client(&name, &entry)?))).collect()
}

fn client(name: &str, entry: &Entry<'_>) -> Option<ClientSecret> {
    if name.is_empty() || name.contains(':') || name.chars().any(char::is_control) {
        entry.refuse(InvalidValue::new(format!(
            "{} is no name for HTTP Basic: it must have no colon",
            quoted(name)
        )));
        return None;
    }
    let table = entry.table()?;
    let ClientKeys { secret, secret_sha256 } = table.read();
    match (secret, secret_sha256) {
        (SecretSource::Unusable, _) => None,
        (SecretSource::Secret(_), Some(_)) => {
            table
                .entry("secret_sha256")
                .refuse_beside(&secret::given(&table, "secret"), "remove one of them");
            None
        }
        (SecretSource::Nothing, Some(hash)) => Some(ClientSecret(hash)),
        (SecretSource::Nothing, None) => {
            if !table.entry("secret_sha256").is_given() {
                let missing = Diagnostic::error(format!("`{}` has no secret", entry.name()));
                let help = "set secret_file to a file with what `openssl rand -base64 32` prints";
                table.report().push_missing(missing.at(table.place()).help(help));
            }
            None
        }
        (SecretSource::Secret(bytes), None) => {
            let flaw = match bytes.len() < MIN_SECRET_LEN {
                true => Some(format!("has {} bytes, and needs {MIN_SECRET_LEN}", bytes.len())),
                false => weakness(&bytes).map(str::to_owned),
            };
            if let Some(flaw) = flaw {
                secret::given(&table, "secret")
                    .error(format!("the secret {flaw}"), "make one with `openssl rand -base64 32`");
                return None;
            }
            let mut hash = [0; 32];
            hash.copy_from_slice(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &bytes).as_ref());
            Some(ClientSecret(hash))
        }
    }
}

fn sha256(text: &str) -> Result<[u8; 32], InvalidValue> {
    let digit = |at: usize| text.get(at..at + 2).and_then(|pair| u8::from_str_radix(pair, 16).ok());
    let bytes: Option<Vec<u8>> = (0..text.len()).step_by(2).map(digit).collect();
    bytes
        .and_then(|bytes| bytes.try_into().ok())
        .filter(|_| text.bytes().all(|b| b.is_ascii_hexdigit()))
        .ok_or_else(|| {
            InvalidValue::new(format!("{} is no SHA-256 in hexadecimal", quoted(text)))
                .help("write the 64 digits that `printf %s \"$SECRET\" | sha256sum` prints")
        })
}

#[cfg(test)]
mod tests {
    use super::super::test_support::{load_diagnostics, minimal, settings};

    const SECRET: &str = "kT7q/9vXw2LrZ0yBf4mEoN6uGhJc1sPd";

    #[test]
    fn nothing_is_on_unless_it_is_configured_and_a_secret_and_its_hash_are_the_same() {
        let oauth = |keys: &str| settings(minimal() + "[oauth]\n" + keys).oauth;
        let off = oauth("");
        assert!(!off.revocation && !off.metadata && off.introspection_clients.is_empty());
        let hash = "5bf8aa57fc5a6bc547decf1cc6db63f10deb55a3c6c5df497d631fb3d95e1abf";
        let hash = hash.to_owned();
        let by_secret = oauth(&format!("[oauth.introspection_clients.orders]\nsecret = \"{SECRET}\""));
        let found = by_secret.introspection_clients["orders"].0;
        let shown: String = found.iter().map(|byte| format!("{byte:02x}")).collect();
        let by_hash = oauth(&format!("[oauth.introspection_clients.orders]\nsecret_sha256 = \"{shown}\""));
        assert_eq!(by_secret.introspection_clients, by_hash.introspection_clients);
        assert_ne!(shown, hash, "another secret has another hash");
    }

    #[test]
    fn clients_without_a_good_secret_and_metadata_without_an_address_are_refused() {
        let client = |keys: &str| format!("[oauth.introspection_clients.orders]\n{keys}");
        for (keys, message, help) in [
            (client(""), "`oauth.introspection_clients.orders` has no secret", "openssl"),
            (client("secret = \"short\""), "the secret has 5 bytes", "openssl"),
            (client("secret = \"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\""), "the secret ", "openssl"),
            (client("secret_sha256 = \"abc\""), "is no SHA-256", "sha256sum"),
            (client(&format!("secret_sha256 = \"{}\"", "+1".repeat(32))), "is no SHA-256", "sha256sum"),
            ("[oauth.introspection_clients.\"a:b\"]\nsecret = \"x\"".into(), "no name for HTTP Basic", ""),
            ("[oauth]\nmetadata = true\n[tokens]\nissuer = \"me\"".into(), "needs an address", "issuer ="),
            (
                "[oauth]\nresource_metadata_in_challenges = true".into(),
                "no meaning without",
                "metadata = true",
            ),
        ] {
            load_diagnostics(minimal() + &keys).only(message, help);
        }
    }
}
