//! htpasswd files: one `NAME:HASH` per line, also `NAME:HASH:COMMENT`, and `#` for comments. The name is the id; roles
//! come from the configuration only. A hash behind a `!`, and `*` in its place, are a locked user.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::path::Path;

use serde_json::Map;

use super::diagnostic::{Diagnostics, UserFileErrors, UserFileWarning, quoted};
use super::file::FilePolicy;
use super::name::CanonicalName;
use super::password_hash::{HashCost, PasswordHash, PasswordHashError, Scheme};
use super::replace_file::replace_file;
use super::user_store::User;
use crate::file_owner::folder_of;

const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// The users in `content`, with unique names. `path` is used in messages.
pub(super) fn parse(
    path: &Path,
    content: &[u8],
    policy: FilePolicy,
) -> Result<(Vec<User>, Vec<UserFileWarning>), UserFileErrors> {
    // As editors on Windows save it.
    let mark = if content.starts_with(BYTE_ORDER_MARK) { BYTE_ORDER_MARK.len() } else { 0 };
    let mut diagnostics = Diagnostics::new(path, content);
    let mut users = Vec::new();
    let mut first_lines: HashMap<CanonicalName, usize> = HashMap::new();
    let mut offset = mark;
    for (index, line) in content[mark..].split(|&byte| byte == b'\n').enumerate() {
        let span = Some(offset..offset + line.len());
        offset += line.len() + 1;
        let Ok(line) = str::from_utf8(line) else {
            diagnostics.error(span, "", "the text is not UTF-8", "save the file as UTF-8");
            continue;
        };
        let line = line.trim_end();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let Some((raw, hash)) = line.split_once(':') else {
            diagnostics.error(span, "", "expected NAME:HASH", "make the line with `htpasswd -B`");
            continue;
        };
        let Some(name) = CanonicalName::parse(raw) else {
            diagnostics.error(span, "", format!("{} is no user name", quoted(raw)), CanonicalName::RULE);
            continue;
        };
        if !policy.allows_name(&mut diagnostics, (span.clone(), ""), &name) {
            continue;
        }
        if let Some(first) = first_lines.insert(name.clone(), index + 1) {
            let message = format!("the name {name} is already used on line {first}");
            diagnostics.error(span, name.as_str(), message, "remove one of the lines");
            continue;
        }
        match hash_of(hash) {
            Ok((password, disabled)) => {
                let user = User {
                    id: name.as_str().to_owned(),
                    username: name.as_str().to_owned(),
                    credential: password.into(),
                    roles: Vec::new(),
                    claims: Map::new(),
                    disabled,
                    session_epoch: 0,
                    must_change_password: false,
                };
                users.push((user, span));
            }
            Err(error) => {
                let remedy = format!("set the password anew with `htpasswd -B {} {name}`", path.display());
                diagnostics.error(span, name.as_str(), error.to_string(), remedy);
            }
        }
    }
    policy.check_hashes(&mut diagnostics, &users);
    match diagnostics.errors.is_empty() {
        true => Ok((users.into_iter().map(|(user, _)| user).collect(), diagnostics.warnings)),
        false => Err(UserFileErrors(diagnostics.errors)),
    }
}

/// The hash behind a name, and whether its user is locked.
fn hash_of(text: &str) -> Result<(PasswordHash, bool), PasswordHashError> {
    if text == "*" || text == "!" {
        return Ok((PasswordHash::decoy(Scheme::argon2id(HashCost::DEFAULT)), true));
    }
    let (hash, is_locked) = match text.strip_prefix('!') {
        Some(hash) => (hash, true),
        None => (text, false),
    };
    // Hashes of some programs have colons themselves: whether there is a comment shows when the whole is no hash.
    let before_comment =
        || hash.match_indices(':').find_map(|(end, _)| PasswordHash::parse(&hash[..end]).ok());
    let parsed = PasswordHash::parse(hash).or_else(|error| before_comment().ok_or(error));
    parsed.map(|hash| (hash, is_locked))
}

/// Replaces the hash of a user if it still is `old`; returns whether it was. All other bytes stay.
///
/// # Errors
///
/// The file cannot be read or replaced.
pub(super) fn replace_hash(
    path: &Path,
    name: &str,
    old: &PasswordHash,
    new: &PasswordHash,
) -> io::Result<bool> {
    // A symbolic link stays; its target is replaced.
    let path = fs::canonicalize(path)?;
    // As for the TOML file: the folder is locked, since each edit replaces the file.
    let lock = File::open(folder_of(&path))?;
    lock.lock()?;
    let content = fs::read_to_string(&path)?;
    let is_of_user = |line: &str| {
        let parts = line.trim_end().split_once(':');
        parts.is_some_and(|(raw, hash)| {
            let is_name = CanonicalName::parse(raw).is_some_and(|found| found.as_str() == name);
            is_name && hash_of(hash).is_ok_and(|(hash, is_locked)| hash == *old && !is_locked)
        })
    };
    let mut replaced = false;
    let mut lines = String::with_capacity(content.len() + new.as_str().len());
    let (mark, rest) =
        content.split_at(if content.starts_with('\u{feff}') { BYTE_ORDER_MARK.len() } else { 0 });
    lines.push_str(mark);
    for line in rest.split_inclusive('\n') {
        match line.split_once(':') {
            Some((raw, rest)) if is_of_user(line) => {
                // A comment stays, too.
                let end = rest.strip_prefix(old.as_str()).unwrap_or_default();
                lines.extend([raw, ":", new.as_str(), end]);
                replaced = true;
            }
            _ => lines.push_str(line),
        }
    }
    if replaced {
        replace_file(&path, lines.as_bytes())?;
    }
    Ok(replaced)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn parsed(content: &str) -> Result<Vec<String>, String> {
        let parsed = parse(
            Path::new("htpasswd"),
            content.as_bytes(),
            FilePolicy { allow_broken_hashes: true, ..FilePolicy::default() },
        )
        .map_err(|errors| errors.to_string())?;
        Ok(parsed.0.into_iter().map(|user| user.username).collect())
    }

    const BCRYPT: &str = "$2y$05$CCCCCCCCCCCCCCCCCCCCC.VGOzA784oUp/Z0DY336zx7pLYAy0lwK";

    #[test]
    fn a_hash_is_replaced_where_it_is_still_the_old_one_and_nothing_else_changes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("htpasswd");
        let bob = "bob:$apr1$abcdefgh$rNKF.RI/7Ra4dGVPHyZ5G.";
        let before = format!("# ours\n\nAlice:{BCRYPT}\r\n{bob}");
        std::fs::write(&path, &before).unwrap();
        let old = PasswordHash::parse(BCRYPT).unwrap();
        let new = PasswordHash::decoy(crate::users::Scheme::argon2id(crate::users::HashCost {
            memory_kib: 64,
            passes: 1,
            lanes: 1,
        }));
        assert!(!replace_hash(&path, "bob", &old, &new).unwrap());
        assert!(!replace_hash(&path, "zoe", &old, &new).unwrap());
        assert!(!replace_hash(&path, "alice", &new, &old).unwrap(), "another password was set meanwhile");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), before);
        assert!(replace_hash(&path, "alice", &old, &new).unwrap());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), before.replacen(BCRYPT, new.as_str(), 1));
    }

    #[test]
    fn names_and_hashes_are_read_between_comments_and_empty_lines() {
        let users =
            parsed(&format!("# ours\n\nAlice:{BCRYPT}\r\nbob:$apr1$abcdefgh$rNKF.RI/7Ra4dGVPHyZ5G.\n"));
        assert_eq!(users.unwrap(), ["alice", "bob"]);
    }

    #[test]
    fn odd_lines_are_read_as_apache_and_nginx_read_them() {
        let content = format!(
            "\u{feff}alice:{BCRYPT}:the boss\r\nbob:{BCRYPT}  \ncarol:!{BCRYPT}\ndan:*\nerin:!\n\
             frank:pbkdf2:sha256:1000$salt$00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff:werkzeug"
        );
        let policy = FilePolicy { allow_broken_hashes: true, ..FilePolicy::default() };
        let users = parse(Path::new("htpasswd"), content.as_bytes(), policy).unwrap().0;
        let locked: Vec<_> = users.iter().map(|user| (user.username.as_str(), user.disabled)).collect();
        let expected = [
            ("alice", false),
            ("bob", false),
            ("carol", true),
            ("dan", true),
            ("erin", true),
            ("frank", false),
        ];
        assert_eq!(locked, expected);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("htpasswd");
        std::fs::write(&path, &content).unwrap();
        let (old, new) = (PasswordHash::parse(BCRYPT).unwrap(), users[5].hash().unwrap().clone());
        assert!(replace_hash(&path, "alice", &old, &new).unwrap());
        assert!(!replace_hash(&path, "carol", &old, &new).unwrap(), "a lock stays");
        let expected = content.replacen(BCRYPT, new.as_str(), 1);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), expected);
        for wrong in ["alice:", "alice::", "alice:plain:comment", ":hash", "alice:!plain"] {
            assert!(parsed(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn every_wrong_line_is_named_with_its_remedy_and_without_its_hash() {
        let errors =
            parsed(&format!("alice\nb/b:{BCRYPT}\ncarol:hunter2\ndan:{BCRYPT}\nDAN:{BCRYPT}\n")).unwrap_err();
        let lines: Vec<&str> = errors.lines().collect();
        assert!(lines[0].starts_with("htpasswd:1: expected NAME:HASH"), "{errors}");
        assert!(lines[1].starts_with("htpasswd:2: \"b/b\" is no user name"), "{errors}");
        assert!(lines[2].starts_with("htpasswd:3: carol: not a password hash"), "{errors}");
        assert!(lines[3].starts_with("htpasswd:5: dan: the name dan is already used on line 4"), "{errors}");
        assert!(!errors.contains("hunter2") && !errors.contains(BCRYPT));
        let errors = parsed(&format!("alice:{BCRYPT}\no'brien:{BCRYPT}\n")).unwrap_err();
        assert!(errors.starts_with("htpasswd:2: \"o'brien\" is no user name as long as"), "{errors}");
    }
}
