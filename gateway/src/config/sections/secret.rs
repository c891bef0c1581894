//! Secrets: each secret `x` can also be given as `x_file`, the name of a file that holds it.

use std::path::Path;

use super::users::readable;
use crate::config::diagnostic::Diagnostic;
use crate::config::entry::{Entry, InvalidValue};
use crate::config::table::Table;

/// More than any secret has; a mistaken name may lead to a file without end.
const MAX_LEN: u64 = 64 * 1024;

/// A secret that was given, with the entry that gave it. Has no `Debug`, lest it be printed.
pub(super) struct Secret<'a> {
    /// Never empty.
    pub(super) bytes: Vec<u8>,
    pub(super) entry: Entry<'a>,
}

/// What was said about a secret.
pub(super) enum Given<'a> {
    Nothing,
    /// And it has been reported.
    Unusable,
    Secret(Secret<'a>),
}

/// Takes the secret `key` or `key_file`.
pub(super) fn take<'a>(table: &mut Table<'a>, key: &str) -> Given<'a> {
    let inline = table.take(key);
    let file = table.take(&format!("{key}_file"));
    if inline.is_given() && file.is_given() {
        inline.report(
            Diagnostic::error(format!("both `{}` and `{}` are given", inline.name(), file.name()))
                .at(file.key_place())
                .related(format!("`{}` is here", inline.name()), inline.key_place())
                .help("remove one of them"),
        );
        return Given::Unusable;
    }
    let (entry, bytes) = if inline.is_given() {
        let text = inline.secret_string();
        (inline, text.map(|text| text.as_bytes().to_vec()))
    } else if file.is_given() {
        let bytes = file.parse(|name| read(Path::new(name)));
        (file, bytes)
    } else {
        return Given::Nothing;
    };
    match bytes {
        None => Given::Unusable,
        Some(bytes) if bytes.is_empty() => {
            entry.refuse(InvalidValue::new("the secret is empty"));
            Given::Unusable
        }
        Some(bytes) => Given::Secret(Secret { bytes, entry }),
    }
}

/// The content of a file without its trailing newline.
fn read(path: &Path) -> Result<Vec<u8>, InvalidValue> {
    use std::io::Read;

    let refuse = |why: String| {
        InvalidValue::new(format!("the file {} {why}", path.display()))
            .help("name a file that holds the secret and nothing else, readable by the gateway's user")
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
