//! Diagnostics of a configuration (errors and warnings): message, place and help, printed in the style of
//! rustc.

use std::fmt;
use std::path::Path;

use annotate_snippets::{Group, Level, Renderer};

use super::source_span::SourceSpan;

type Report = Vec<Group<'static>>;

/// Maximum width of a printed source line; longer ones are cut around the place. In columns.
const MAX_WIDTH: usize = 160;

/// The names of warnings, by which they can be silenced.
pub(crate) const WARNINGS: &str = "address-in-use admin-exposed basic-with-dpop certificate-without-name demo-users everyone-trusted \
    expiring-certificate host-without-certificate hsts-without-tls issuer-cache issuer-unreachable mfa-in-memory missing-texts \
    no-effect no-reuse-grace unknown-directive plain-http plain-ldap readable-by-others route-bypass \
    served-secrets shadowed-path store-unavailable tracing-off unknown-claim unusable-key \
    unused-upstream upstream-is-gateway users-file variable-not-taken websocket-without-upgrade";

/// An error or a warning.
#[derive(Debug, Clone)]
pub struct Diagnostic {
    severity: Severity,
    /// The name of a warning.
    name: &'static str,
    message: String,
    span: SourceSpan,
    related: Option<Box<(String, SourceSpan)>>,
    help: Option<String>,
}

/// The severity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// The gateway does not start.
    Error,
    /// The gateway starts, but this is probably a mistake.
    Warning,
}

impl Diagnostic {
    pub(super) fn error(message: impl Into<String>) -> Self {
        Self::new(Severity::Error, message.into())
    }

    /// `name` is the warning's name in `warnings.silence`: one of [`WARNINGS`].
    pub(super) fn warning(name: &'static str, message: impl Into<String>) -> Self {
        debug_assert!(WARNINGS.split(' ').any(|known| known == name), "{name} is not listed");
        Self { name, ..Self::new(Severity::Warning, message.into()) }
    }

    /// A diagnostic about a file that the configuration names. The line, from 1, is shown without its
    /// content.
    pub(crate) fn in_file(severity: Severity, message: String, path: &Path, line: Option<usize>) -> Self {
        let span = line.map_or_else(|| SourceSpan::File(path.into()), |line| SourceSpan::line_of(path, line));
        let name = if severity == Severity::Warning { "users-file" } else { "" };
        Self { span, name, ..Self::new(severity, message) }
    }

    /// A warning at the place of a key; the part of the message behind a semicolon is the help.
    pub(crate) fn warning_of_key(name: &'static str, message: &str, span: Option<&SourceSpan>) -> Self {
        Self { severity: Severity::Warning, name, ..Self::of_key(message, span) }
    }

    /// An error at the place of a key; the part of the message behind a semicolon is the help.
    pub(crate) fn of_key(message: &str, span: Option<&SourceSpan>) -> Self {
        let (message, help) = message
            .split_once("; ")
            .map_or((message, None), |(message, help)| (message, Some(help.to_owned())));
        Self::error(message).at(span.cloned().unwrap_or_default()).maybe_help(help)
    }

    fn new(severity: Severity, message: String) -> Self {
        Self { severity, name: "", message, span: SourceSpan::Nowhere, related: None, help: None }
    }

    pub(super) fn at(self, span: SourceSpan) -> Self {
        Self { span, ..self }
    }

    /// Adds a second, related place.
    pub(super) fn related(self, note: impl Into<String>, span: SourceSpan) -> Self {
        Self { related: Some(Box::new((note.into(), span))), ..self }
    }

    pub(crate) fn help(self, help: impl Into<String>) -> Self {
        Self { help: Some(help.into()), ..self }
    }

    /// The help, where there is none yet.
    pub(crate) fn help_or(self, help: &str) -> Self {
        let help = self.help.or_else(|| Some(help.to_owned()));
        Self { help, ..self }
    }

    pub(super) fn maybe_help(self, help: Option<String>) -> Self {
        Self { help, ..self }
    }

    /// The name of a warning; empty for an error.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The severity.
    pub fn severity(&self) -> Severity {
        self.severity
    }

    /// The message, in one line.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The place: `FILE:LINE:COLUMN`, a file, or `environment variable NAME`. `None` where there is none,
    /// such as for a missing key.
    pub fn location(&self) -> Option<String> {
        (!self.span.is_unknown_place()).then(|| self.span.to_string())
    }

    /// The diagnostic as a log record has it: place, message and help on one line, without the source.
    pub(crate) fn record(&self) -> String {
        let place = self.location().map(|place| format!("{place}: ")).unwrap_or_default();
        let help = self.help.as_ref().map(|help| format!("; {help}")).unwrap_or_default();
        format!("{place}{}{help}", self.message)
    }

    /// The help text.
    pub fn help_text(&self) -> Option<&str> {
        self.help.as_deref()
    }
}

impl Diagnostic {
    fn group(&self) -> Report {
        let level = match self.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let title = level.primary_title(self.message.clone());
        let title = if self.name.is_empty() { title } else { title.id(self.name) };
        let mut group = Group::with_title(title).elements(self.span.element());
        if let Some(help) = &self.help {
            group = group.element(Level::HELP.message(help.clone()));
        }
        let mut report = vec![group];
        if let Some((note, span)) = self.related.as_deref().filter(|(_, span)| !span.is_unknown_place()) {
            let title = Level::NOTE.secondary_title(note.clone());
            report.push(Group::with_title(title).elements(span.element()));
        }
        report
    }

    fn render(&self, renderer: &Renderer) -> String {
        let mut text = renderer.render(&self.group());
        text.push('\n');
        text
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(&Renderer::plain().term_width(MAX_WIDTH)))
    }
}

/// All diagnostics, in the order of the files and their lines, then the environment.
#[derive(Debug, Clone, Default)]
pub struct Diagnostics(Vec<Diagnostic>);

impl Diagnostics {
    pub(super) fn sorted(mut found: Vec<Diagnostic>) -> Self {
        found.sort_by(|a, b| a.span.order().cmp(&b.span.order()));
        Self(found)
    }

    /// Whether there is an error.
    pub fn has_errors(&self) -> bool {
        self.0.iter().any(|found| found.severity == Severity::Error)
    }

    /// Whether there is an error about a key that begins with `prefix`.
    pub(crate) fn blames(&self, prefix: &str) -> bool {
        let begins = format!("`{prefix}");
        self.0.iter().any(|found| found.severity == Severity::Error && found.message.starts_with(&begins))
    }

    /// Keeps the errors, and warnings that may explain them: a variable that was ignored.
    pub(crate) fn leave_errors(&mut self) {
        self.0.retain(|found| found.severity == Severity::Error || found.name == "variable-not-taken");
    }

    /// Appends more, without the warnings with these names.
    pub(crate) fn extend(&mut self, silenced: &[String], more: impl IntoIterator<Item = Diagnostic>) {
        self.0.extend(more.into_iter().filter(|found| !silenced.iter().any(|name| name == found.name)));
    }

    /// Splits into errors and warnings.
    pub(crate) fn split(self) -> (Diagnostics, Diagnostics) {
        let (errors, warnings) = self.0.into_iter().partition(|found| found.severity == Severity::Error);
        (Diagnostics(errors), Diagnostics(warnings))
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The number of diagnostics.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Iterates in order.
    pub fn iter(&self) -> std::slice::Iter<'_, Diagnostic> {
        self.0.iter()
    }
}

impl From<Diagnostic> for Diagnostics {
    fn from(diagnostic: Diagnostic) -> Self {
        Self(vec![diagnostic])
    }
}

impl<'a> IntoIterator for &'a Diagnostics {
    type Item = &'a Diagnostic;
    type IntoIter = std::slice::Iter<'a, Diagnostic>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// Every diagnostic, separated by empty lines; with colours in the alternate form (`{:#}`).
impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let renderer =
            if f.alternate() { Renderer::styled() } else { Renderer::plain() }.term_width(MAX_WIDTH);
        for (i, diagnostic) in self.iter().enumerate() {
            let gap = if i == 0 { "" } else { "\n" };
            write!(f, "{gap}{}", diagnostic.render(&renderer))?;
        }
        Ok(())
    }
}

impl std::error::Error for Diagnostics {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_diagnostic_without_a_file_is_message_arrow_help() {
        let diagnostic =
            Diagnostic::error("no").at(SourceSpan::Variable("AUTH_GATEWAY__X".into())).help("say yes");
        assert_eq!(diagnostic.record(), "environment variable AUTH_GATEWAY__X: no; say yes");
        assert_eq!(
            diagnostic.to_string(),
            "error: no\n--> environment variable AUTH_GATEWAY__X\n = help: say yes\n"
        );
    }

    #[test]
    fn a_second_place_follows_as_a_note() {
        let diagnostic = Diagnostic::warning("no-effect", "twice")
            .related("first here", SourceSpan::File("a.toml".into()));
        assert_eq!(diagnostic.to_string(), "warning[no-effect]: twice\n |\nnote: first here\n--> a.toml\n");
        assert_eq!(diagnostic.location(), None);
    }
}
