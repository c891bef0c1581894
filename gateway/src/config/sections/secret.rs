//! Secrets: each secret `x` can also be given as `x_file`, the name of a file that contains it.

use std::path::Path;

use super::files::{readable, readable_help};
use crate::config::declaration::{Declared, Key, KeyInfo, Shape, text};
use crate::config::entry::{Entry, InvalidValue};
use crate::config::table::Table;

/// Maximum length of a secret, in bytes; a wrong name may lead to a file without end.
const MAX_LEN: u64 = 64 * 1024;

/// The configured secret.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum SecretSource {
    Nothing,
    /// Invalid, and reported.
    Unusable,
    /// Never empty.
    Secret(Vec<u8>),
}

/// Redacted.
impl std::fmt::Debug for SecretSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SecretSource(…)")
    }
}

/// Two keys: the secret, and the file that contains it.
pub(super) struct SecretKey {
    example: &'static str,
    file_example: &'static str,
}

/// A secret, with examples (TOML) of its two keys.
pub(super) fn secret(file_example: &'static str, example: &'static str) -> SecretKey {
    SecretKey { example, file_example }
}

impl Declared<SecretSource> for SecretKey {
    fn infos(&self, name: &str, about: &str) -> Vec<KeyInfo> {
        let inline: Key<()> = Key::new(Shape::Text, |_| ()).example(self.example).secret();
        let file = text(|_| Ok(())).example(self.file_example);
        let same = " The same, written out here; a file is safer.\n";
        [file.infos(&format!("{name}_file"), about), inline.infos(name, same)].concat()
    }

    fn take(&self, table: &Table<'_>, name: &str) -> SecretSource {
        let (inline, file) = (table.entry(name), table.entry(&format!("{name}_file")));
        let bytes = match (inline.is_given(), file.is_given()) {
            (true, true) => {
                file.refuse_beside(&inline, "remove one of them");
                return SecretSource::Unusable;
            }
            (true, false) => inline.secret_string().map(|text| text.as_bytes().to_vec()),
            (false, true) => file.parse(|name| read(Path::new(name))),
            (false, false) => return SecretSource::Nothing,
        };
        match bytes {
            None => SecretSource::Unusable,
            Some(bytes) if bytes.is_empty() => {
                given(table, name).refuse(
                    InvalidValue::new("the secret is empty")
                        .help("make one with `openssl rand -base64 64 | tr -d '\\n' > FILE`"),
                );
                SecretSource::Unusable
            }
            Some(bytes) => SecretSource::Secret(bytes),
        }
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
