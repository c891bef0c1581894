//! `[users]`: where the users are listed. What the list says is checked by those who read it.

use std::path::PathBuf;

use super::files::{file_name, readable, working_directory};
use crate::config::declaration::{section, text};
use crate::config::diagnostic::Diagnostic;
use crate::config::table::Table;

section! {
    /// Who may log in.
    pub struct Users {
        /// Written by `auth-gateway users`; must exist. Read again when it has changed.
        file: PathBuf = text(file_name).default("config/users.toml");
    }
}

impl Users {
    pub(super) fn check(&self, table: &Table<'_>) {
        let (entry, file) = (table.entry("file"), &self.file);
        let Err(why) = readable(file) else { return };
        let diagnostic = Diagnostic::error(format!("`users.file`: the users file {} {why}", file.display()))
            .at(entry.place())
            .help(format!(
                "name an existing file; an empty one is enough for `auth-gateway users add` to fill{}",
                working_directory(file)
            ));
        match entry.is_given() {
            true => table.report().push(diagnostic),
            false => table.report().push_missing(diagnostic),
        }
    }
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
