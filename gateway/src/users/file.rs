//! The users file (TOML): parsing and validation, with all errors reported at once, each with its line.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::Path;

use toml_edit::{Document, Item, Table};

use super::diagnostic::{Diagnostics, UserFileErrors, UserFileWarning, did_you_mean, quoted};
use super::name::CanonicalName;
use super::password_hash::{count_schemes, most_common_scheme};
use super::user_entry::{Entry, FirstLines, Span, key_span, with_article};
use super::user_store::User;
use crate::config::{NameCharacters, toml_remedy};

/// Maximum size of a users file, in bytes; a larger file was named by mistake.
const MAX_FILE_BYTES: u64 = 64 * 1024 * 1024;

/// What the configuration allows in users files.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct FilePolicy {
    pub(super) allow_broken_hashes: bool,
    pub(super) name_characters: NameCharacters,
}

impl FilePolicy {
    /// Allows everything, for edits of files that may belong to another configuration.
    pub(super) const ANY: FilePolicy = FilePolicy {
        allow_broken_hashes: true,
        name_characters: NameCharacters { space: true, apostrophe: true, backslash: true },
    };

    /// Whether users may have this name; if not, that is an error at `span`.
    pub(super) fn allows_name(
        self,
        diagnostics: &mut Diagnostics,
        (span, key): (Span, &str),
        name: &CanonicalName,
    ) -> bool {
        let allowed = self.name_characters.allow(name.as_str());
        if !allowed {
            let message = format!(
                "{} is no user name as long as users.name_characters is as it is",
                quoted(name.as_str())
            );
            let remedy = "write name_characters = [\" \", \"'\", \"\\\\\"] in [users], or those of them that names have";
            diagnostics.error(span, key, message, remedy);
        }
        allowed
    }

    /// Reports hashes of broken schemes, at the first of them: as an error unless they are allowed.
    pub(super) fn check_hashes(self, diagnostics: &mut Diagnostics, users: &[(User, Span)]) {
        let is_broken = |user: &User| user.hash().is_some_and(|hash| hash.scheme().is_broken());
        let mut broken = users.iter().filter(|(user, _)| is_broken(user));
        let Some((first, span)) = broken.next() else { return };
        let more = broken.count();
        let names = if more == 0 { String::new() } else { format!(" and {more} more") };
        let message = format!(
            "the hash of {}{names} is of a kind that is guessed at by the billion (MD5, SHA-1)",
            first.username
        );
        let remedy = "set the passwords anew, or write allow_broken_hashes = true in [users] until they are";
        match self.allow_broken_hashes {
            true => diagnostics.warn(span.clone(), "", message, remedy),
            false => diagnostics.error(span.clone(), "", message, remedy),
        }
    }
}

/// Reads the file.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, UserFileErrors> {
    let mut content = Vec::new();
    let outcome = File::open(path).and_then(|file| file.take(MAX_FILE_BYTES + 1).read_to_end(&mut content));
    let (message, remedy) = match outcome {
        Ok(_) if content.len() as u64 <= MAX_FILE_BYTES => return Ok(content),
        Ok(_) => (
            format!("the file has more than {} MiB", MAX_FILE_BYTES / 1024 / 1024),
            "name a users file in users.file",
        ),
        Err(error) if error.kind() == ErrorKind::NotFound => (
            "the users file does not exist".to_owned(),
            "correct users.file, or create the file with `auth-gateway users add NAME`",
        ),
        Err(error) => (
            format!("the users file cannot be read: {error}"),
            "correct users.file, or give the gateway's account the right to read the file",
        ),
    };
    let mut diagnostics = Diagnostics::new(path, b"");
    diagnostics.error(None, "", message, remedy);
    Err(UserFileErrors(diagnostics.errors))
}

/// The users in `content`, with unique ids and names. `path` is used in messages.
pub(super) fn parse(
    path: &Path,
    content: &[u8],
    policy: FilePolicy,
) -> Result<(Vec<User>, Vec<UserFileWarning>), UserFileErrors> {
    let mut diagnostics = Diagnostics::new(path, content);
    let users = parse_into(&mut diagnostics, content, policy);
    match diagnostics.errors.is_empty() {
        true => Ok((users, diagnostics.warnings)),
        false => Err(UserFileErrors(diagnostics.errors)),
    }
}

fn parse_into(diagnostics: &mut Diagnostics, content: &[u8], policy: FilePolicy) -> Vec<User> {
    let text = match std::str::from_utf8(content) {
        Ok(text) => text,
        Err(error) => {
            let at = error.valid_up_to();
            diagnostics.error(Some(at..at), "", "the text is not UTF-8", "save the file as UTF-8");
            return Vec::new();
        }
    };
    let document = match Document::parse(text) {
        Ok(document) => document,
        Err(error) => {
            // Only the message: the error's own display quotes the line, which may contain a password hash.
            let message = format!("this is not TOML: {}", error.message());
            let remedy = toml_remedy(text, &error.span().unwrap_or(0..0), error.message());
            diagnostics.error(error.span(), "", message, remedy);
            return Vec::new();
        }
    };
    let users = parse_document(diagnostics, &document, policy);
    policy.check_hashes(diagnostics, &users);
    warn_of_odd_costs(diagnostics, &users);
    users.into_iter().map(|(user, _)| user).collect()
}

fn parse_document(diagnostics: &mut Diagnostics, document: &Table, policy: FilePolicy) -> Vec<(User, Span)> {
    for (key, _) in document.iter().filter(|&(key, _)| key != "users") {
        let hint = did_you_mean(key, ["users"]);
        let message = format!("unknown key{hint}");
        diagnostics.error(key_span(document, key), quoted(key), message, "each user is a [[users]] table");
    }
    let tables = match document.get("users") {
        Some(Item::ArrayOfTables(tables)) => tables,
        Some(other) => {
            let message = format!("expected [[users]] tables, found {}", with_article(other.type_name()));
            diagnostics.error(
                key_span(document, "users"),
                "users",
                message,
                "begin each user with [[users]]",
            );
            return Vec::new();
        }
        None => {
            let remedy = "add one with `auth-gateway users add NAME`";
            diagnostics.warn(None, "", "there are no users, so no one can log in", remedy);
            return Vec::new();
        }
    };
    let mut first_lines = FirstLines::default();
    let entries = tables.iter().enumerate();
    entries
        .filter_map(|(index, table)| {
            let mut entry = Entry { diagnostics, table, policy, name: format!("users[{index}]") };
            entry.user(&mut first_lines).map(|user| (user, key_span(table, "password")))
        })
        .collect()
}

/// With mixed costs, the response time distinguishes some known names from unknown ones.
fn warn_of_odd_costs(diagnostics: &mut Diagnostics, users: &[(User, Span)]) {
    let common =
        most_common_scheme(&count_schemes(users.iter().filter_map(|(user, _)| Some(user.hash()?.scheme()))));
    let mut odd = users.iter().filter(|(user, _)| user.hash().is_some_and(|hash| hash.scheme() != common));
    if let Some((first, span)) = odd.next() {
        let count = 1 + odd.count();
        let message = format!(
            "logins of {count} user(s), {} first, take another time than those of unknown names: their hashes \
             are not {common} as most are",
            first.username
        );
        diagnostics.warn(
            span.clone(),
            "",
            message,
            "set these passwords anew with `auth-gateway users passwd NAME`",
        );
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::config::RESERVED_CLAIMS;
    use crate::users::Password;
    use crate::users::password_hash::{HashMemory, PasswordHash};

    const STRONG: &str =
        "$argon2id$v=19$m=19456,t=2,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

    fn parsed(content: impl AsRef<[u8]>) -> Result<(Vec<User>, Vec<String>), Vec<String>> {
        match parse(Path::new("users.toml"), content.as_ref(), FilePolicy::default()) {
            Ok((users, warnings)) => Ok((users, warnings.iter().map(ToString::to_string).collect())),
            Err(errors) => Err(errors.to_string().lines().map(str::to_owned).collect()),
        }
    }

    fn errors(content: impl AsRef<[u8]>) -> Vec<String> {
        parsed(content).unwrap_err()
    }

    fn alice_with(more: &str) -> String {
        format!("[[users]]\nid = \"1\"\nusername = \"alice\"\npassword = \"{STRONG}\"\n{more}\n")
    }

    #[test]
    fn a_full_entry_becomes_a_user() {
        let more = "roles = [\"user\", \"admin\"]\ndisabled = true\n[users.claims]\ntenant = \"blue\"\nlevel = 3\n\
                    staff = true\nteams = [\"a\", \"b\"]";
        let (users, warnings) = parsed(alice_with(more)).unwrap();
        assert_eq!(warnings, [""; 0]);
        let expected = User {
            id: "1".to_owned(),
            username: "alice".to_owned(),
            credential: PasswordHash::parse(STRONG).unwrap().into(),
            roles: vec!["user".to_owned(), "admin".to_owned()],
            claims: json!({"tenant": "blue", "level": 3, "staff": true, "teams": ["a", "b"]})
                .as_object()
                .unwrap()
                .clone(),
            disabled: true,
            session_epoch: 0,
            must_change_password: false,
        };
        assert_eq!(users, [expected]);
    }

    #[test]
    fn a_name_is_kept_in_canonical_form() {
        let (users, _) = parsed(alice_with("").replace("alice", "ALICE")).unwrap();
        assert_eq!(users[0].username, "alice");
    }

    #[test]
    fn all_errors_are_reported_together_each_with_its_line_key_and_remedy() {
        let content = format!(
            r#"# users
[[user]]
[[users]]
id = 1
username = "al/ice"
pasword = "x"
roles = [
  "user",
  "",
  7,
]
disabled = "yes"
claims = {{ sub = "2", pi = 3.14 }}

[[users]]
id = "1"
username = "bob"
password = "{STRONG}"
[[users]]
id = "1"
username = "BOB"
password = ""
"#
        );
        assert_eq!(
            errors(content),
            [
                r#"users.toml:2: "user": unknown key (did you mean users?); each user is a [[users]] table"#,
                "users.toml:6: users[0].pasword: unknown key (did you mean password?); a user has id, username, \
                 password, roles, disabled, must_change_password, session_epoch, claims",
                "users.toml:4: users[0].id: expected a string, found an integer; write id = \"1\", with another id \
                 for each user",
                "users.toml:5: users[0].username: \"al/ice\" is no user name; a user name has 1 to 128 bytes of \
                 letters, digits and the characters . _ - @ +, and of single spaces, ' and \\ where \
                 users.name_characters has them",
                "users.toml:3: users[0]: password is missing; make a hash with `auth-gateway hash-password`",
                "users.toml:9: users[0].roles[1]: \"\" is no role; write roles = [\"NAME\", …], each role in visible \
                 ASCII characters",
                "users.toml:10: users[0].roles[2]: expected a string, found an integer; write roles = [\"NAME\", …], \
                 each role in visible ASCII characters",
                "users.toml:12: users[0].disabled: expected true or false, found a string; write disabled = true",
                "users.toml:13: users[0].claims.\"sub\": the gateway itself sets this claim; choose another name",
                "users.toml:13: users[0].claims.\"pi\": a claim cannot be a float; write a string, an integer, true, \
                 false or an array of strings",
                "users.toml:20: users[2].id: the id \"1\" is already used on line 16; give each user an id of its own",
                "users.toml:21: users[2].username: the name bob is already used on line 17; \
                 give each user a name of its own; capitals make no difference",
                "users.toml:22: users[2].password: the password hash is empty; make a hash with `auth-gateway \
                 hash-password`",
            ]
        );
    }

    #[test]
    fn every_reserved_claim_is_refused() {
        for claim in RESERVED_CLAIMS {
            let found = errors(alice_with(&format!("claims.{claim} = \"x\"")));
            assert!(found[0].contains("the gateway itself sets this claim"), "{found:?}");
        }
    }

    #[test]
    fn claims_of_other_types_are_refused() {
        for value in ["1.5", "1979-05-27", "{}", "{ a = 1 }", "[1]", "[\"a\", 1]", "[[\"a\"]]"] {
            let found = errors(alice_with(&format!("claims = {{ x = {value} }}")));
            assert!(found.len() == 1 && found[0].contains("a claim cannot be"), "{value}: {found:?}");
        }
    }

    #[test]
    fn users_in_another_shape_are_refused() {
        for content in ["users = []", "users = 3", "[users]\nid = \"1\""] {
            let found = errors(content);
            assert!(found[0].starts_with("users.toml:1: users: expected [[users]] tables"), "{found:?}");
        }
    }

    #[test]
    fn a_syntax_error_names_its_line_and_quotes_no_hash() {
        let content = format!("{}password: {STRONG}\n", alice_with(""));
        let found = errors(content);
        assert!(found[0].starts_with("users.toml:6: this is not TOML: "), "{found:?}");
        assert!(!found[0].contains("argon2id"), "{found:?}");
    }

    #[test]
    fn text_that_is_not_utf8_names_its_line() {
        assert_eq!(
            errors(b"# a\n# b\n# \xff\n"),
            ["users.toml:3: the text is not UTF-8; save the file as UTF-8"]
        );
    }

    #[test]
    fn a_line_of_ten_megabytes_is_an_error_of_ordinary_length() {
        let long = "x".repeat(10_000_000);
        for content in [
            format!("# first\n{long}"),
            format!("# first\n{long} = 1"),
            format!("# first\n[[users]]\n{long} = 1"),
            alice_with("").replace("alice", &long),
            alice_with("").replace(STRONG, &long),
        ] {
            for found in errors(content) {
                assert!(found.starts_with("users.toml:") && found.len() < 300, "{}", found.len());
            }
        }
    }

    #[test]
    fn weak_hashes_and_mixed_costs_are_warnings() {
        let weak = alice_with("").replace("t=2", "t=1");
        let other = alice_with("").replace("\"1\"", "\"2\"").replace("alice", "bob");
        let (users, warnings) = parsed(weak + &other).unwrap();
        assert_eq!(users.len(), 2);
        assert_eq!(
            warnings,
            [
                "users.toml:4: users[0].password: the hash is weak: its cost m=19456,t=1,p=1 is below the floor \
                 m=19456,t=2,p=1; set the password anew with `auth-gateway users passwd NAME`",
                "users.toml:4: logins of 1 user(s), alice first, take another time than those of unknown names: their \
                 hashes are not argon2id m=19456,t=2,p=1 as most are; set these passwords anew with `auth-gateway users \
                 passwd NAME`",
            ]
        );
    }

    #[test]
    fn a_hash_above_the_bounds_is_an_error() {
        let found = errors(alice_with("").replace("t=2", "t=11"));
        assert!(found[0].contains("above the bounds") && found[0].ends_with("a lower cost"), "{found:?}");
    }

    #[test]
    fn names_and_hashes_that_the_configuration_does_not_allow_are_named_with_their_lines() {
        let md5 = "$1$salt$qJH7.N4xYta3aEG/dfqo/0";
        let content = [("1", "alice smith"), ("2", "bob"), ("3", "o'brien")]
            .map(|(id, name)| alice_with("").replace("\"1\"", &format!("\"{id}\"")).replace("alice", name));
        let found = errors(content.concat());
        assert_eq!(found.len(), 2, "{found:?}");
        for (found, place) in found.iter().zip([
            "users.toml:3: users[0].username: \"alice smith\"",
            "users.toml:13: users[2].username: \"o'brien\"",
        ]) {
            assert!(found.starts_with(place) && found.contains("write name_characters = ["), "{found}");
        }
        assert_eq!(parse(Path::new(""), content.concat().as_bytes(), FilePolicy::ANY).unwrap().0.len(), 3);
        let content = alice_with("")
            + &alice_with("").replace("\"1\"", "\"2\"").replace("alice", "bob").replace(STRONG, md5);
        let found = errors(&content);
        assert!(found[0].starts_with("users.toml:9: the hash of bob is of a kind"), "{found:?}");
        let (_, warnings) = parse(Path::new("users.toml"), content.as_bytes(), FilePolicy::ANY).unwrap();
        let warned =
            |warning: &UserFileWarning| warning.to_string().starts_with("users.toml:9: the hash of bob");
        assert!(warnings.iter().any(warned), "{warnings:?}");
    }

    #[test]
    fn a_file_without_users_is_a_warning() {
        let (users, warnings) = parsed("# nobody\n").unwrap();
        assert!(users.is_empty() && warnings[0].contains("no one can log in"), "{warnings:?}");
    }

    #[test]
    fn a_missing_file_and_a_folder_are_errors() {
        let folder = tempfile::tempdir().unwrap();
        let missing = read(&folder.path().join("users.toml")).unwrap_err().to_string();
        assert!(missing.contains("does not exist; correct users.file"), "{missing}");
        let unreadable = read(folder.path()).unwrap_err().to_string();
        assert!(unreadable.contains("cannot be read"), "{unreadable}");
    }

    #[test]
    fn the_demo_users_are_in_order() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config/users.toml");
        let (users, warnings) = parse(&path, &read(&path).unwrap(), FilePolicy::default()).unwrap();
        let names: Vec<_> = users.iter().map(|user| (user.id.as_str(), user.username.as_str())).collect();
        assert_eq!(names, [("1", "alice"), ("2", "bob"), ("3", "root")]);
        assert_eq!(warnings, []);
    }

    #[test]
    fn the_demo_passwords_are_those_of_the_comment() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config/users.toml");
        let content = read(&path).unwrap();
        let text = String::from_utf8(content.clone()).unwrap();
        for user in parse(&path, &content, FilePolicy::default()).unwrap().0 {
            let documented =
                text.lines().find_map(|line| line.strip_prefix(&format!("#   {} ", user.username)));
            let password = Password::new(documented.unwrap().trim()).unwrap();
            assert!(
                user.hash().unwrap().verify(&password, &mut HashMemory::default()).unwrap(),
                "{}",
                user.username
            );
        }
    }

    proptest! {
        #[test]
        fn any_bytes_give_users_or_errors(content in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(Path::new("users.toml"), &content, FilePolicy::default());
        }

        #[test]
        fn any_damage_to_a_valid_file_gives_users_or_errors(at in 0usize..200, byte in any::<u8>()) {
            let mut content = alice_with("roles = [\"user\"]\nclaims = { a = 1 }").into_bytes();
            let at = at % content.len();
            content[at] = byte;
            if let Err(errors) = parse(Path::new("users.toml"), &content, FilePolicy::default()) {
                prop_assert!(errors.0.iter().all(|diagnostic| diagnostic.line.is_some()), "{errors}");
            }
        }
    }
}
