//! Collects diagnostics while reading goes on.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;

use super::diagnostic::{Diagnostic, Diagnostics};
use super::entry::Entry;

/// The diagnostics so far.
#[derive(Default)]
pub(super) struct Report {
    found: RefCell<Vec<Diagnostic>>,
    incomplete: Cell<bool>,
    /// Keys that are probably given under a wrong name.
    misspelt: RefCell<BTreeSet<String>>,
}

impl Report {
    pub(super) fn push(&self, diagnostic: Diagnostic) {
        self.found.borrow_mut().push(diagnostic);
    }

    /// Reports a source that could not be read at all: missing keys may be in it.
    pub(super) fn push_unreadable(&self, diagnostic: Diagnostic) {
        self.incomplete.set(true);
        self.push(diagnostic);
    }

    /// Reports that something is missing, unless it may be in a source that could not be read.
    pub(super) fn push_missing(&self, diagnostic: Diagnostic) {
        if !self.incomplete.get() {
            self.push(diagnostic);
        }
    }

    /// Records the path of a key that an unknown one was probably meant to be.
    pub(super) fn record_misspelt(&self, path: String) {
        self.misspelt.borrow_mut().insert(path);
    }

    pub(super) fn is_misspelt(&self, path: &str) -> bool {
        self.misspelt.borrow().contains(path)
    }

    /// Whether there is a diagnostic about the value of `entry`.
    pub(super) fn blames(&self, entry: &Entry<'_>) -> bool {
        let beginning = format!("`{}`: ", entry.name());
        self.found.borrow().iter().any(|found| found.message().starts_with(&beginning))
    }

    /// All diagnostics, without the warnings with these names.
    pub(super) fn finish(self, silenced: &[String]) -> Diagnostics {
        let mut found = self.found.into_inner();
        found.retain(|found| !silenced.iter().any(|name| name == found.name()));
        Diagnostics::sorted(found)
    }
}
