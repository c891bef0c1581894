//! Secrets: each secret `x` can also be given as `x_file`, the name of a file that contains it.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::files::{readable, readable_help};
use super::prelude::*;

/// Maximum length of a secret, in bytes; a wrong name may lead to a file without end.
const MAX_LEN: u64 = 64 * 1024;

/// A value that is never printed.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret<T>(pub T);

impl<T> std::fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("…")
    }
}

impl<T> std::ops::Deref for Secret<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> From<T> for Secret<T> {
    fn from(value: T) -> Secret<T> {
        Secret(value)
    }
}

/// The configured secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum SecretSource<T = Secret<Vec<u8>>> {
    Nothing,
    /// Invalid, and reported.
    Unusable,
    /// Of bytes that are never empty.
    Secret(T),
}

/// Two keys: the secret, and the file that contains it.
pub(super) struct SecretKey<T> {
    example: &'static str,
    file_example: &'static str,
    parse: fn(Vec<u8>) -> Result<T, InvalidValue>,
    required: Option<&'static str>,
}

/// A secret, with examples (TOML) of its two keys.
pub(super) fn secret(file_example: &'static str, example: &'static str) -> SecretKey<Secret<Vec<u8>>> {
    SecretKey { example, file_example, parse: |bytes| Ok(Secret(bytes)), required: None }
}

/// A secret that is text, without the blanks at its end.
pub(super) fn secret_text(bytes: Vec<u8>) -> Result<Secret<String>, InvalidValue> {
    match String::from_utf8(bytes) {
        Ok(text) => Ok(Secret(text.trim_end().to_owned())),
        Err(_) => refused("is not UTF-8 text", "save it as UTF-8"),
    }
}

impl<T> SecretKey<T> {
    /// A secret that `parse` accepts; its errors must not show it.
    pub(super) fn parse<U>(self, parse: fn(Vec<u8>) -> Result<U, InvalidValue>) -> SecretKey<U> {
        let SecretKey { example, file_example, required, .. } = self;
        SecretKey { example, file_example, parse, required }
    }

    /// Makes it required; `help` explains how to set it.
    pub(super) fn required(self, help: &'static str) -> SecretKey<T> {
        SecretKey { required: Some(help), ..self }
    }
}

impl<T> Declared<SecretSource<T>> for SecretKey<T> {
    fn infos(&self, name: &str, about: &str) -> Vec<KeyInfo> {
        let inline: Key<()> = Key::new(Shape::Text, |_| ()).example(self.example).secret();
        let file = text(|_| Ok(())).example(self.file_example);
        let same = " The same, written out here; a file is safer.\n";
        [file.infos(&format!("{name}_file"), about), inline.infos(name, same)].concat()
    }

    fn take(&self, table: &Table<'_>, name: &str) -> SecretSource<T> {
        let (inline, file) = (table.entry(name), table.entry(&format!("{name}_file")));
        warn_of_readers(&file);
        let bytes = match (inline.is_given(), file.is_given()) {
            (true, true) => {
                file.refuse_beside(&inline, "remove one of them");
                return SecretSource::Unusable;
            }
            (true, false) => inline.secret_string().map(|text| text.as_bytes().to_vec()),
            (false, true) => file.parse(|name| read(&file_name(name)?)),
            (false, false) => {
                if let Some(help) = self.required.filter(|_| !file.is_misspelt()) {
                    inline.require(help);
                }
                return SecretSource::Nothing;
            }
        };
        let Some(bytes) = bytes else { return SecretSource::Unusable };
        let parsed = match bytes.is_empty() {
            true => {
                refused("the secret is empty", "make one with `openssl rand -base64 64 | tr -d '\\n' > FILE`")
            }
            false => (self.parse)(bytes),
        };
        parsed.map_or_else(
            |invalid| {
                given(table, name).refuse(invalid);
                SecretSource::Unusable
            },
            SecretSource::Secret,
        )
    }
}

impl<T> Declared<Option<T>> for SecretKey<T> {
    fn infos(&self, name: &str, about: &str) -> Vec<KeyInfo> {
        Declared::<SecretSource<T>>::infos(self, name, about)
    }

    fn take(&self, table: &Table<'_>, name: &str) -> Option<T> {
        match Declared::<SecretSource<T>>::take(self, table, name) {
            SecretSource::Secret(secret) => Some(secret),
            SecretSource::Nothing | SecretSource::Unusable => None,
        }
    }
}

/// Warns where others may read the files of secrets that an entry names. The group may where a file is another user's, root's as a
/// rule, for then the gateway reads it as one of the group.
pub(in crate::config) fn warn_of_readers(entry: &Entry<'_>) {
    let files = if entry.is_list() { entry.list().unwrap_or_default() } else { vec![entry.clone()] };
    for file in files {
        let Some(metadata) = file.quiet_text().and_then(|path| std::fs::metadata(path).ok()) else {
            continue;
        };
        let is_own = metadata.uid() == rustix::process::geteuid().as_raw();
        let (who, help) = match metadata.mode() {
            mode if mode & 0o004 != 0 => {
                ("every user of this machine", "chmod go= FILE, or o= FILE where the group has to read it")
            }
            mode if mode & 0o040 != 0 && is_own => ("the group of the file", "chmod go= FILE"),
            _ => continue,
        };
        let why = format!("{who} may read the file (mode {:03o})", metadata.mode() & 0o777);
        file.warn("readable-by-others", why, help);
    }
}

/// The one of the two keys that is set.
pub(super) fn given<'a>(table: &Table<'a>, name: &str) -> Entry<'a> {
    let inline = table.entry(name);
    if inline.is_given() { inline } else { table.entry(&format!("{name}_file")) }
}

/// The content of a file without its trailing newline.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, InvalidValue> {
    use std::io::Read;

    let refuse = |why: String| {
        InvalidValue::new(format!("the file {} {why}", path.display()))
            .help(format!("{}; it holds the secret and nothing else", readable_help("file", path, &why)))
    };
    readable(path).map_err(refuse)?;
    let mut bytes = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(MAX_LEN + 1).read_to_end(&mut bytes))
        .map_err(|error| refuse(format!("cannot be read: {error}")))?;
    if bytes.len() as u64 > MAX_LEN {
        return Err(refuse("is longer than 64 KiB".to_owned()));
    }
    if bytes.ends_with(b"\n") {
        bytes.pop();
        if bytes.ends_with(b"\r") {
            bytes.pop();
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn one_trailing_newline_is_no_part_of_a_secret() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        for (content, expected) in
            [("a", "a"), ("a\n", "a"), ("a\r\n", "a"), ("a\n\n", "a\n"), (" a ", " a ")]
        {
            std::fs::write(&path, content).unwrap();
            assert_eq!(read(&path), Ok(expected.as_bytes().to_vec()), "{content:?}");
        }
        std::fs::write(&path, vec![b'x'; MAX_LEN as usize + 1]).unwrap();
        assert!(read(&path).unwrap_err().message.contains("longer than 64 KiB"));
        assert!(read(dir.path()).unwrap_err().message.contains("is a folder"));
    }
}
