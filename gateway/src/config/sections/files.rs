//! Files that the configuration names: existence and readability.

use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use super::prelude::*;

/// A file name, which has at least one character.
pub(super) fn file_name(text: &str) -> Result<PathBuf, InvalidValue> {
    if text.is_empty() || text.contains('\0') {
        return refused(
            "expected the name of a file, found an empty one",
            "relative names start at the working directory",
        );
    }
    Ok(PathBuf::from(text))
}

/// A folder that exists.
pub(super) fn existing_folder(text: &str) -> Result<PathBuf, InvalidValue> {
    let path = file_name(text)?;
    let why = match std::fs::metadata(&path) {
        Ok(metadata) if metadata.is_dir() => match std::fs::metadata(path.join(".")) {
            Ok(_) => return Ok(path),
            Err(error) => format!("cannot be entered: {error}"),
        },
        Ok(_) => return refused(format!("{} is a file", quoted(text)), "name a folder"),
        Err(error) if error.kind() == ErrorKind::NotFound => "does not exist".to_owned(),
        Err(error) => format!("cannot be opened: {error}"),
    };
    let help = readable_help("folder", &path, &why);
    refused(format!("the folder {} {why}", quoted(text)), help)
}

/// A file that can be read.
pub(super) fn existing_file(text: &str) -> Result<PathBuf, InvalidValue> {
    existing(text, "the file", "file")
}

/// A file with a key, which can be read.
pub(super) fn key_file(text: &str) -> Result<PathBuf, InvalidValue> {
    existing(text, "the key", "PEM file")
}

fn existing(text: &str, what: &str, kind: &str) -> Result<PathBuf, InvalidValue> {
    let path = file_name(text)?;
    match readable(&path) {
        Ok(()) => Ok(path),
        Err(why) => refused(format!("{what} {} {why}", path.display()), readable_help(kind, &path, &why)),
    }
}

/// Why a file cannot be read, as the end of a sentence.
pub(in crate::config) fn readable(path: &Path) -> Result<(), String> {
    let cannot = |error: std::io::Error| match error.kind() {
        ErrorKind::NotFound => "does not exist".to_owned(),
        _ => format!("cannot be read: {error}"),
    };
    let kind = std::fs::metadata(path).map_err(cannot)?.file_type();
    // What can be read only once, or without end, cannot be reloaded when it changes.
    let other = [
        (kind.is_dir(), "is a folder"),
        (kind.is_fifo(), "is a pipe, and it is read again and again: copy it to a regular file"),
        (kind.is_socket(), "is a socket, not a file"),
        (kind.is_char_device() || kind.is_block_device(), "is a device, not a file"),
    ];
    if let Some((_, why)) = other.into_iter().find(|(is, _)| *is) {
        return Err(why.to_owned());
    }
    File::open(path).map(drop).map_err(cannot)
}

/// How to correct the name of a `kind`, such as a file, of which [`readable`] says `why` it cannot be used.
pub(in crate::config) fn readable_help(kind: &str, path: &Path, why: &str) -> String {
    if why.starts_with("cannot be") {
        return "let the account that the gateway runs as read it, and enter the folders above it".to_owned();
    }
    let existing = if why == "does not exist" { format!("existing {kind}") } else { kind.to_owned() };
    let article = if existing.starts_with('e') { "an" } else { "a" };
    format!("name {article} {existing}{}", working_directory(path))
}

/// The folder that a relative name is relative to, as the end of a sentence; nothing for an absolute one.
pub(in crate::config) fn working_directory(path: &Path) -> String {
    match std::env::current_dir() {
        Ok(folder) if path.is_relative() => {
            format!("; relative names start at the working directory, {}", folder.display())
        }
        _ => String::new(),
    }
}
