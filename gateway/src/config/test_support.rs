//! Test support: loads a configuration from text, and checks its diagnostics.

use crate::config::{Diagnostics, Loaded, Settings, load};

/// A users section that names a file which exists where the tests run.
pub(crate) const USERS: &str = "\n[users]\nfile = \"Cargo.toml\"\n";

/// One route and its upstream.
pub(crate) const ROUTE: &str = "[upstreams.demo]\nurls = [\"http://127.0.0.1:9000\"]\n[[routes]]\npath = \"/demo\"\nupstream = \"demo\"\n";

/// A minimal valid configuration.
pub(crate) fn minimal() -> String {
    format!("{USERS}{ROUTE}")
}

/// Loads a file `a.toml` with this text.
pub(crate) fn load_text(text: String) -> Result<Loaded, Diagnostics> {
    load_files(&[("a.toml", &text)], &[]).0
}

/// Loads files with these names and texts, and returns the folder they were in.
#[allow(clippy::unwrap_used)]
pub(crate) fn load_files(
    files: &[(&str, &str)],
    env: &[(&str, &str)],
) -> (Result<Loaded, Diagnostics>, String) {
    let dir = tempfile::tempdir().unwrap();
    let mut paths = Vec::new();
    for (name, text) in files {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        paths.push(path);
    }
    let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    (load(&paths, env), format!("{}/", dir.path().display()))
}

/// The settings of a valid text.
pub(crate) fn settings(text: String) -> Settings {
    load_text(text).unwrap_or_else(|errors| panic!("{errors}")).settings
}

/// The errors of an invalid text.
pub(crate) fn load_diagnostics(text: String) -> LoadDiagnostics {
    match load_files(&[("a.toml", &text)], &[]) {
        (Ok(_), _) => panic!("accepted:\n{text}"),
        (Err(diagnostics), folder) => {
            LoadDiagnostics { printed: diagnostics.to_string().replace(&folder, ""), diagnostics }
        }
    }
}

pub(crate) struct LoadDiagnostics {
    diagnostics: Diagnostics,
    printed: String,
}

impl LoadDiagnostics {
    /// Expects one error, with these parts in its message and its help.
    pub(crate) fn only(&self, message: &str, help: &str) {
        let Some(first) = self.diagnostics.iter().next() else { panic!("no diagnostic") };
        assert_eq!(self.diagnostics.len(), 1, "{}", self.printed);
        assert!(first.message().contains(message), "expected {message:?} in\n{}", self.printed);
        assert!(
            first.help_text().unwrap_or_default().contains(help),
            "expected {help:?} in\n{}",
            self.printed
        );
    }

    /// The printed errors, with file names without their folder.
    pub(crate) fn text(&self) -> &str {
        &self.printed
    }
}

/// The README and the pages of the documentation: names and texts.
#[allow(clippy::unwrap_used)]
pub(crate) fn pages() -> Vec<(String, String)> {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut found = vec![root.join("README.md"), root.join("config/README.md")];
    let mut folders = vec![root.join("docs")];
    while let Some(folder) = folders.pop() {
        for path in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            match path.extension() {
                None => folders.push(path),
                Some(kind) if kind == "md" => found.push(path),
                Some(_) => {}
            }
        }
    }
    found
        .into_iter()
        .map(|path| (path.display().to_string(), std::fs::read_to_string(path).unwrap()))
        .collect()
}
