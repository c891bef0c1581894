//! `auth-gateway keys`: managing the signing keys.

use clap::Subcommand;

use super::CommandError;
use super::hash_password::Console;
use crate::clock::now_seconds;
use crate::config::{Algorithm, PreviousKey, Settings, Signing};
use crate::runtime_config::load_assertion_keys;
use crate::tokens::{Access, JWKS_MAX_AGE, KeyRing, KeyState, KeyStore, StoredKey, assertion_keys_dir};

/// Which keys, and what to do with them.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct KeysArguments {
    /// The keys of assertions for upstreams, in place of those of tokens
    #[arg(long, global = true)]
    assertion: bool,
    #[command(subcommand)]
    command: KeysCommand,
}

/// What to do with keys.
#[derive(Debug, Clone, Subcommand)]
pub(super) enum KeysCommand {
    /// Generate the next key and publish it, so that others know it before it signs
    Generate,
    /// Rotate: let the next key sign; the previous one verifies until the last of its tokens has expired
    Rotate {
        /// Do not wait until others have had the time to fetch the next key
        #[arg(long)]
        now: bool,
    },
    /// Revoke a stolen key: what it signed is refused at once, and another key signs
    Revoke {
        /// The key, as `keys list` shows it
        #[arg(value_name = "KID", allow_hyphen_values = true)]
        kid: String,
    },
    /// List the managed keys
    List,
    /// Print the public keys as a JWK set
    Jwks,
}

/// When a running gateway applies the change.
const EFFECT_NOTE: &str = "a running gateway follows by itself, within a second";

pub(super) fn run(
    KeysArguments { assertion, command }: KeysArguments,
    settings: &Settings,
    console: &mut Console<'_>,
) -> Result<(), CommandError> {
    let now = now_seconds();
    if let KeysCommand::Jwks = command {
        // What is printed is what will be published, also before the first start.
        if let Signing::Kept { algorithm, dir } = &settings.tokens.signing {
            let store = KeyStore::open(dir).map_err(CommandError::failed)?;
            store.signing_and_others(*algorithm, now).map_err(CommandError::failed)?;
        }
        let ring =
            KeyRing::load(&settings.tokens, now, &[], Access::Examine).map_err(CommandError::failed)?;
        let assertions = load_assertion_keys(settings, now, Access::Use).map_err(CommandError::failed)?;
        let jwks = KeyRing::jwks([&ring].into_iter().chain(&assertions)).map_err(CommandError::failed)?;
        return print_line(console, &String::from_utf8_lossy(&jwks));
    }
    let (store, algorithm) = match assertion {
        true => {
            let store =
                KeyStore::open(&assertion_keys_dir(&settings.tokens)).map_err(CommandError::failed)?;
            (store, Algorithm::EdDSA)
        }
        false => key_store(settings)?,
    };
    match command {
        KeysCommand::Generate => {
            let key = store.generate(algorithm, now).map_err(CommandError::failed)?;
            print_line(console, &key.kid)?;
            print_note(
                console,
                &format!(
                    "published; rotate to it in {} s at the earliest; {EFFECT_NOTE}",
                    JWKS_MAX_AGE.as_secs()
                ),
            )
        }
        KeysCommand::Rotate { now: at_once } => {
            let keys = store.list().map_err(CommandError::failed)?;
            let next = keys.iter().rfind(|k| k.state == KeyState::Next && k.algorithm == algorithm);
            if let Some(young) = next.filter(|k| !at_once && k.created_at.saturating_add(JWKS_MAX_AGE) > now)
            {
                let wait = young.created_at.saturating_add(JWKS_MAX_AGE).since(now).as_secs();
                return Err(CommandError::failed(format!(
                    "the next key was published less than {} s ago, and others may not know it yet: \
                     wait {wait} s, or add --now",
                    JWKS_MAX_AGE.as_secs()
                )));
            }
            let key = store.rotate(algorithm, now).map_err(CommandError::failed)?;
            print_line(console, &key.kid)?;
            print_note(console, &format!("signs from now on; {EFFECT_NOTE}"))
        }
        KeysCommand::Revoke { kid } => {
            let signs = store.revoke(&kid, algorithm, now).map_err(CommandError::failed)?;
            print_note(
                console,
                &format!(
                    "{kid} is revoked: its tokens are refused, and the sessions of the time in which it signed end; {EFFECT_NOTE}"
                ),
            )?;
            match signs {
                Some(key) => {
                    print_line(console, &key.kid)?;
                    print_note(console, "signs from now on")
                }
                None => Ok(()),
            }
        }
        KeysCommand::List => {
            for key in store.list().map_err(CommandError::failed)? {
                let is_public_only = matches!(store.has_private_half(&key), Ok(false));
                print_line(console, &format_key(&key, is_public_only))?;
            }
            Ok(())
        }
        KeysCommand::Jwks => Ok(()),
    }
}

/// The key store, where the gateway manages its keys or did so before a migration.
fn key_store(settings: &Settings) -> Result<(KeyStore, Algorithm), CommandError> {
    let migrated = settings.tokens.previous.keys.iter().find_map(|key| match key {
        PreviousKey::Kept { algorithm, dir } => Some((algorithm, dir)),
        PreviousKey::Secret { .. } | PreviousKey::File { .. } => None,
    });
    match (&settings.tokens.signing, migrated) {
        (Signing::Kept { algorithm, dir }, _) | (_, Some((algorithm, dir))) => {
            KeyStore::open(dir).map(|store| (store, *algorithm)).map_err(CommandError::failed)
        }
        (Signing::Secret { .. }, None) => Err(CommandError::failed(
            "tokens.algorithm is symmetric: its secret is yours to change, in tokens.secret or tokens.secret_file",
        )),
        (Signing::PrivateKeyFile { path, .. }, None) => Err(CommandError::failed(format!(
            "tokens.private_key_file names your own key, {}: replace it yourself, or remove the setting to let the \
             gateway keep keys",
            path.display()
        ))),
    }
}

fn format_key(key: &StoredKey, is_public_only: bool) -> String {
    let state = match key.state {
        KeyState::Next => "next".to_owned(),
        KeyState::Signing => "signing".to_owned(),
        KeyState::Retired { at } if is_public_only => format!("retired {at}, public half only"),
        KeyState::Retired { at } => format!("retired {at}"),
    };
    format!("{}  {:<6} made {}  {state}", key.kid, key.algorithm.name(), key.created_at)
}

fn print_line(console: &mut Console<'_>, line: &str) -> Result<(), CommandError> {
    writeln!(console.output, "{line}").map_err(CommandError::failed)
}

fn print_note(console: &mut Console<'_>, line: &str) -> Result<(), CommandError> {
    writeln!(console.notes, "{line}").map_err(CommandError::failed)
}
