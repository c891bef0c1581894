//! `[users]`: where the users are listed. What the list says is checked by those who read it.

use std::fs::File;
use std::path::{Path, PathBuf};

use super::store::file_name;
use crate::config::diagnostic::Diagnostic;
use crate::config::settings::Users;
use crate::config::table::Table;

pub(super) fn users(table: &mut Table<'_>) -> Users {
    let entry = table.take("file");
    let file = match entry.is_given() {
        true => entry.parse(file_name),
        false => Some(PathBuf::from("config/users.toml")),
    };
    let Some(file) = file else { return Users { file: PathBuf::new() } };
    if let Err(why) = readable(&file) {
        let diagnostic = Diagnostic::error(format!("`users.file`: the users file {} {why}", file.display()))
            .at(entry.place())
            .help("name an existing file; an empty one is enough for `auth-gateway users add` to fill");
        match entry.is_given() {
            true => table.report().push(diagnostic),
            false => table.report().push_missing(diagnostic),
        }
    }
    Users { file }
}

/// Why a file cannot be read, as the end of a sentence.
pub(super) fn readable(path: &Path) -> Result<(), String> {
    let cannot = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::NotFound => "does not exist".to_owned(),
        _ => format!("cannot be read: {error}"),
    };
    let metadata = std::fs::metadata(path).map_err(cannot)?;
    if metadata.is_dir() {
        return Err("is a folder".to_owned());
    }
    // A pipe can be opened only once, and that is for its reader to do.
    if metadata.is_file() {
        File::open(path).map_err(cannot)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::test_support::{ROUTE, complaints};

    #[test]
    fn a_users_file_that_is_not_there_is_named() {
        complaints(format!("[users]\nfile = \"no/such/file\"\n{ROUTE}"))
            .only("`users.file`: the users file no/such/file does not exist", "users add");
        complaints(format!("[users]\nfile = \"src\"\n{ROUTE}")).only("src is a folder", "");
        complaints(ROUTE.to_owned()).only("the users file config/users.toml does not exist", "");
    }
}
