//! The sources of a configuration for hot reload, and the files to watch.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::diagnostic::{Diagnostic, Diagnostics};
use super::fingerprint::{Fingerprint, fingerprint};
use super::load::{Loaded, inspect, load, nearest_span};

/// The files of the command line, in order, and the environment at the start.
#[derive(Clone)]
pub struct Source {
    files: Vec<PathBuf>,
    environment: Vec<(String, String)>,
}

impl Source {
    /// Files in rising precedence, and variables above them.
    pub fn new(files: &[PathBuf], environment: impl IntoIterator<Item = (String, String)>) -> Source {
        Source { files: files.to_owned(), environment: environment.into_iter().collect() }
    }

    /// An error about a key, at its place in the configuration, if it is there.
    pub(crate) fn error_of_key(&self, key: &str, message: &str) -> Diagnostics {
        let (_, spans) = inspect(&self.files, self.environment.iter().cloned());
        Diagnostics::from(Diagnostic::of_key(message, nearest_span(&spans, key)))
    }

    /// Loads the configuration, and returns the state of its files before they were read, so that a later
    /// change is detected.
    ///
    /// # Errors
    ///
    /// As [`load()`].
    pub fn read(&self) -> Result<(Loaded, FileSnapshot), Diagnostics> {
        let mut seen = FileSnapshot::take(self.files.iter().cloned());
        loop {
            let loaded = load(&self.files, self.environment.iter().cloned())?;
            let now = FileSnapshot::take(self.files.iter().cloned().chain(watched_files(&loaded)));
            // Files that are named only now may have changed since they were read.
            if now.0.keys().eq(seen.0.keys()) {
                return Ok((loaded, seen));
            }
            seen = now;
        }
    }
}

/// The watched files besides the configuration's own. The users file is watched by `users::watched_directory`, the
/// key folder by `server::key_maintenance`.
fn watched_files(loaded: &Loaded) -> Vec<PathBuf> {
    loaded.given.files().collect()
}

/// The state of files at one time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileSnapshot(BTreeMap<PathBuf, Fingerprint>);

impl FileSnapshot {
    pub(crate) fn take(files: impl Iterator<Item = PathBuf>) -> FileSnapshot {
        FileSnapshot(files.map(|path| (path.clone(), fingerprint(&path))).collect())
    }

    /// The current state of the same files.
    pub(crate) fn retake(&self) -> FileSnapshot {
        FileSnapshot::take(self.0.keys().cloned())
    }

    /// The same, with the current state of files that did not exist.
    pub(crate) fn with_new_files(mut self) -> FileSnapshot {
        self.0
            .iter_mut()
            .filter(|(_, seen)| seen.is_none())
            .for_each(|(path, seen)| *seen = fingerprint(path));
        self
    }

    /// The files that differ from, or are missing in, `earlier`.
    pub(crate) fn changed_since(&self, earlier: &FileSnapshot) -> Vec<&PathBuf> {
        self.0
            .iter()
            .filter(|(path, seen)| earlier.0.get(*path) != Some(seen))
            .map(|(path, _)| path)
            .collect()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::config::test_support::minimal;
    use std::fs;

    #[test]
    fn files_of_the_configuration_and_those_that_it_names_are_followed() {
        let dir = tempfile::tempdir().unwrap();
        let [config, secret] = ["gateway.toml", "secret"].map(|name| dir.path().join(name));
        let tokens = format!("\n[tokens]\nalgorithm = \"HS256\"\nsecret_file = {secret:?}\n");
        fs::write(&secret, "pX4v9TqL2mZr8KcW1nBy6HsD3fGj7QaE5uRt0iVo").unwrap();
        fs::write(&config, minimal() + &tokens).unwrap();
        let source = Source::new(std::slice::from_ref(&config), []);
        for file in [&config, &secret] {
            let (_, seen) = source.read().unwrap();
            assert_eq!(seen.retake(), seen);
            let other = dir.path().join("other");
            fs::copy(file, &other).unwrap();
            fs::rename(&other, file).unwrap();
            assert_eq!(seen.retake().changed_since(&seen), [file]);
        }
    }
}
