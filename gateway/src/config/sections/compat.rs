//! `[compat]`: compatibility with the library that issued the users' tokens so far.

use super::prelude::*;
use super::tokens::{Rotation, Tokens};

section! {
    /// Compatibility with the library that issued the users' tokens so far.
    pub struct Compat {
        /// "flask-jwt-extended": responses, statuses and claims are those of that library's version 4.7, and
        /// its living tokens are accepted. Requires tokens.algorithm = "HS256" (or HS384, HS512) and the
        /// app's JWT_SECRET_KEY. Tokens have no iss and no aud unless they are configured, and
        /// tokens.rotation is "off" by default.
        profile: Option<Profile> = choice().example("\"flask-jwt-extended\"");
        /// What the app passed to create_access_token as the identity, and `sub` therefore contains: the
        /// user's "id" or "username".
        identity: CompatIdentity = choice().default("id");
        /// Whether a login issues a fresh access token, as create_access_token(fresh=True) does.
        fresh: bool = boolean().default("false");
        /// Whether tokens have a `csrf` claim (JWT_COOKIE_CSRF_PROTECT, which is on by default).
        csrf: bool = boolean().default("true");
        /// The member of error responses that contains the message (JWT_ERROR_MESSAGE_KEY).
        error_key: String = text(message).default("msg");
        /// The message of a login with a wrong name or password; the library leaves it to the app.
        login_failed: String = text(message).default("Bad username or password");
        /// The message of a login with a locked name.
        account_locked: String = text(message).default("Account locked");
    }
}

/// A library whose behaviour is reproduced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Profile {
    /// <https://flask-jwt-extended.readthedocs.io/>
    FlaskJwtExtended,
}

/// What `sub` contains.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CompatIdentity {
    /// The user's id.
    Id,
    /// The user's name.
    Username,
}

fn message(text: &str) -> Result<String, InvalidValue> {
    match text.is_empty() {
        true => refused("is empty", "leave the key out for the default"),
        false => Ok(text.to_owned()),
    }
}

impl Compat {
    /// Whether the profile is on.
    pub fn is_on(&self) -> bool {
        self.profile.is_some()
    }

    /// Applies the defaults of the profile to `[tokens]`, which must sign with a shared secret.
    pub(super) fn check(&self, table: &Table<'_>, tokens: &mut Tokens, of_tokens: &Table<'_>) {
        if !self.is_on() {
            return;
        }
        if !of_tokens.entry("issuer").is_given() {
            tokens.issuer.clear();
        }
        if !of_tokens.entry("audience").is_given() {
            tokens.audience.clear();
        }
        if !of_tokens.entry("rotation").is_given() {
            tokens.rotation = Rotation::Off;
        }
        if !tokens.signing.algorithm().is_symmetric() {
            table.entry("profile").error(
                "needs the secret that the app signs with",
                "set tokens.algorithm = \"HS256\" and tokens.secret_file to a file with the app's JWT_SECRET_KEY",
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::test_support::{load_diagnostics, minimal, settings};
    use super::*;

    const SECRET: &str =
        "[tokens]\nalgorithm = \"HS256\"\nsecret = \"kT7q/9vXw2LrZ0yBf4mEoN6uGhJc1sPdAi8WtVbRxYeQ3zU5\"\n";

    #[test]
    fn the_profile_leaves_names_out_and_does_not_rotate_unless_that_is_configured() {
        let profile = "[compat]\nprofile = \"flask-jwt-extended\"\n";
        let with = settings(minimal() + SECRET + profile);
        assert!(with.compat.is_on() && with.compat.identity == CompatIdentity::Id);
        assert_eq!((with.tokens.issuer.as_str(), with.tokens.audience.as_str()), ("", ""));
        assert_eq!(with.tokens.rotation, Rotation::Off);
        let configured = "issuer = \"flask\"\naudience = \"api\"\nrotation = \"strict\"\n";
        let with = settings(minimal() + SECRET + configured + profile);
        assert_eq!((with.tokens.issuer.as_str(), with.tokens.audience.as_str()), ("flask", "api"));
        assert_eq!(with.tokens.rotation, Rotation::Strict);
        let without = settings(minimal() + SECRET);
        assert!(!without.compat.is_on() && !without.tokens.issuer.is_empty());
    }

    #[test]
    fn the_profile_needs_the_secret_of_the_app() {
        load_diagnostics(minimal() + "[compat]\nprofile = \"flask-jwt-extended\"")
            .only("`compat.profile`: needs the secret", "JWT_SECRET_KEY");
        load_diagnostics(minimal() + "[compat]\nprofile = \"flask\"").only("unknown value `flask`", "");
        load_diagnostics(minimal() + "[compat]\nerror_key = \"\"").only("`compat.error_key`: is empty", "");
    }
}
