//! Diagnostics of a users file: place, message and remedy.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// One diagnostic, shown as `path:line: key: message; remedy`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserFileDiagnostic {
    /// The users file.
    pub path: PathBuf,
    /// The line, from 1; `None` for the file as a whole.
    pub line: Option<usize>,
    /// The key, such as `users[2].roles`; may be empty.
    pub key: String,
    /// What is wrong.
    pub message: String,
    /// How to fix it.
    pub remedy: String,
}

impl fmt::Display for UserFileDiagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.path.display())?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        if !self.key.is_empty() {
            write!(f, ": {}", self.key)?;
        }
        write!(f, ": {}; {}", self.message, self.remedy)
    }
}

/// All errors of a users file, shown one per line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserFileErrors(pub Vec<UserFileDiagnostic>);

impl fmt::Display for UserFileErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, diagnostic) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { "\n" };
            write!(f, "{separator}{diagnostic}")?;
        }
        Ok(())
    }
}

impl std::error::Error for UserFileErrors {}

/// A warning: valid, but should be changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserFileWarning(pub UserFileDiagnostic);

impl fmt::Display for UserFileWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Collects the diagnostics of one file and maps byte offsets to lines.
pub(super) struct Diagnostics {
    path: PathBuf,
    /// The offset at which each line begins.
    line_starts: Vec<usize>,
    pub(super) errors: Vec<UserFileDiagnostic>,
    pub(super) warnings: Vec<UserFileWarning>,
}

impl Diagnostics {
    pub(super) fn new(path: &Path, content: &[u8]) -> Self {
        let after_breaks = memchr::memchr_iter(b'\n', content).map(|at| at + 1);
        Self {
            path: path.to_owned(),
            line_starts: std::iter::once(0).chain(after_breaks).collect(),
            errors: Vec::new(),
            warnings: Vec::new(),
        }
    }

    pub(super) fn error(
        &mut self,
        span: Option<Range<usize>>,
        key: impl Into<String>,
        message: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        let diagnostic = self.diagnostic(span, key.into(), message.into(), remedy.into());
        self.errors.push(diagnostic);
    }

    pub(super) fn warn(
        &mut self,
        span: Option<Range<usize>>,
        key: impl Into<String>,
        message: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        let diagnostic = self.diagnostic(span, key.into(), message.into(), remedy.into());
        self.warnings.push(UserFileWarning(diagnostic));
    }

    /// The line, from 1, that contains the byte at `offset`.
    pub(super) fn line_of(&self, offset: usize) -> usize {
        self.line_starts.partition_point(|&start| start <= offset)
    }

    fn diagnostic(
        &self,
        span: Option<Range<usize>>,
        key: String,
        message: String,
        remedy: String,
    ) -> UserFileDiagnostic {
        let line = span.map(|span| self.line_of(span.start));
        UserFileDiagnostic { path: self.path.clone(), line, key, message, remedy }
    }
}

/// `text` in quotes with everything invisible escaped, truncated to fit a line.
pub(super) fn quoted(text: &str) -> String {
    const SHOWN: usize = 40;
    let shown: String = text.chars().take(SHOWN).collect();
    let ellipsis = if shown.len() < text.len() { "…" } else { "" };
    format!("{shown:?}{ellipsis}")
}

/// The candidate that `word` probably meant, as ` (did you mean …?)`, or nothing.
pub(crate) fn did_you_mean<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> String {
    // The edit distance takes time and memory of the product of both lengths; words of that size are no
    // typing errors.
    const LONGEST: usize = 128;
    if word.len() > LONGEST {
        return String::new();
    }
    let distances = candidates.into_iter().map(|known| (strsim::damerau_levenshtein(word, known), known));
    match distances.min() {
        Some((distance, known)) if distance <= 2 && distance < known.len() => {
            format!(" (did you mean {known}?)")
        }
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_reads_place_key_message_remedy() {
        let mut diagnostics = Diagnostics::new(Path::new("users.toml"), b"one\ntwo\n");
        diagnostics.error(Some(4..7), "two", "is bad", "make it good");
        diagnostics.error(None, "", "is empty", "fill it");
        let errors = UserFileErrors(diagnostics.errors);
        let lines = ["users.toml:2: two: is bad; make it good", "users.toml: is empty; fill it"];
        assert_eq!(errors.to_string(), lines.join("\n"));
    }

    #[test]
    fn lines_are_counted_from_one() {
        let diagnostics = Diagnostics::new(Path::new(""), b"a\n\nbc\n");
        let lines: Vec<usize> = (0..6).map(|offset| diagnostics.line_of(offset)).collect();
        assert_eq!(lines, [1, 1, 2, 3, 3, 3]);
    }

    #[test]
    fn a_slip_of_the_finger_is_recognised_and_nonsense_is_not() {
        assert_eq!(did_you_mean("pasword", ["id", "password"]), " (did you mean password?)");
        assert_eq!(did_you_mean("colour", ["id", "password"]), "");
        assert_eq!(did_you_mean("", ["id"]), "");
    }

    #[test]
    fn quoted_text_is_escaped_and_cut() {
        assert_eq!(quoted("a\u{1b}[31m\n"), r#""a\u{1b}[31m\n""#);
        assert_eq!(quoted(&"x".repeat(1_000_000)).chars().count(), 43);
    }
}
