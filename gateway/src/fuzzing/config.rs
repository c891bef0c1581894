//! Property: any text is a valid configuration or has diagnostics, deterministically.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use crate::config::{Settings, load};

/// A folder in memory, for a file is read on every run.
static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| {
    let memory = Path::new("/dev/shm");
    let parent = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
    let folder = parent.join(format!("auth-gateway-fuzzing-{}", std::process::id()));
    fs::create_dir_all(folder.join("files")).expect("a folder can be made");
    fs::write(folder.join("users.toml"), "").expect("a file can be written");
    folder
});

/// The text of a configuration file.
pub fn config(input: &[u8]) {
    let file = FOLDER.join("any.toml");
    fs::write(&file, input).expect("a file can be written");
    let outcome = || match load(std::slice::from_ref(&file), []) {
        Ok(loaded) => (format!("{:?}", loaded.settings), loaded.warnings.to_string()),
        Err(diagnostics) => (String::new(), diagnostics.to_string()),
    };
    let (settings, said) = outcome();
    assert!(!settings.is_empty() || said.contains("error"), "refused without a word");
    assert_eq!((settings, said), outcome());
}

/// A configuration with a memory store, users and an upstream `app`.
pub(super) fn settings(more: &str) -> Settings {
    let file = FOLDER.join("good.toml");
    let users = FOLDER.join("users.toml");
    let text = format!(
        "[server]\nworkers = 1\n[store]\nkind = \"memory\"\n[users]\nfile = {users:?}\n\
         [upstreams.app]\nurls = [\"http://127.0.0.1:9\"]\n{more}"
    );
    fs::write(&file, text).expect("a file can be written");
    match load(std::slice::from_ref(&file), []) {
        Ok(loaded) => loaded.settings,
        Err(diagnostics) => panic!("{diagnostics}"),
    }
}
