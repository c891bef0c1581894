//! htpasswd files: one `NAME:HASH` per line, `#` for comments. The name is the id; roles come from the
//! configuration only.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::path::Path;

use serde_json::Map;

use super::diagnostic::{Diagnostics, UserFileErrors, UserFileWarning, quoted};
use super::file::FilePolicy;
use super::name::CanonicalName;
use super::password_hash::PasswordHash;
use super::replace_file::replace_file;
use super::user_store::User;
use crate::file_owner::folder_of;

/// The users in `content`, with unique names. `path` is used in messages.
pub(super) fn parse(
    path: &Path,
    content: &[u8],
    policy: FilePolicy,
) -> Result<(Vec<User>, Vec<UserFileWarning>), UserFileErrors> {
    let mut diagnostics = Diagnostics::new(path, content);
    let mut users = Vec::new();
    let mut first_lines: HashMap<CanonicalName, usize> = HashMap::new();
    let mut offset = 0;
    for (index, line) in content.split(|&byte| byte == b'\n').enumerate() {
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
        match PasswordHash::parse(hash) {
            Ok(password) => {
                let user = User {
                    id: name.as_str().to_owned(),
                    username: name.as_str().to_owned(),
                    credential: password.into(),
                    roles: Vec::new(),
                    claims: Map::new(),
                    disabled: false,
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
            is_name && PasswordHash::parse(hash).is_ok_and(|hash| hash == *old)
        })
    };
    let mut replaced = false;
    let mut lines = String::with_capacity(content.len() + new.as_str().len());
    for line in content.split_inclusive('\n') {
        match line.split_once(':') {
            Some((raw, rest)) if is_of_user(line) => {
                let end = &rest[rest.trim_end().len()..];
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
