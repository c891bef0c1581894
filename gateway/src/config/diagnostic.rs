//! What is wrong with a configuration, where, and what to do about it, printed the way rustc prints.

use std::fmt;

use annotate_snippets::{Group, Level, Renderer};

use super::source_span::SourceSpan;

type Report = Vec<Group<'static>>;

/// Longer source lines are cut to what surrounds the place. In columns.
const MAX_WIDTH: usize = 160;

/// One thing that is wrong, or looks wrong.
#[derive(Debug, Clone)]
pub struct Diagnostic {
    severity: Severity,
    message: String,
    span: SourceSpan,
    related: Option<Box<(String, SourceSpan)>>,
    help: Option<String>,
}

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// The gateway does not start.
    Error,
    /// The gateway starts, though this is probably not what was meant.
    Warning,
}

impl Diagnostic {
    pub(super) fn error(message: impl Into<String>) -> Self {
        Self::new(Severity::Error, message.into())
    }

    pub(super) fn warning(message: impl Into<String>) -> Self {
        Self::new(Severity::Warning, message.into())
    }

    fn new(severity: Severity, message: String) -> Self {
        Self { severity, message, span: SourceSpan::Nowhere, related: None, help: None }
    }

    pub(super) fn at(self, span: SourceSpan) -> Self {
        Self { span, ..self }
    }

    /// Names a second place that has to do with it.
    pub(super) fn related(self, note: impl Into<String>, span: SourceSpan) -> Self {
        Self { related: Some(Box::new((note.into(), span))), ..self }
    }

    pub(super) fn help(self, help: impl Into<String>) -> Self {
        Self { help: Some(help.into()), ..self }
    }

    pub(super) fn maybe_help(self, help: Option<String>) -> Self {
        Self { help, ..self }
    }

    /// Whether it stops the start.
    pub fn severity(&self) -> Severity {
        self.severity
    }

    /// What is wrong, in one line.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Where: `FILE:LINE:COLUMN`, a file, or `environment variable NAME`. `None` when it stands nowhere, such as a
    /// key that is missing.
    pub fn location(&self) -> Option<String> {
        (!self.span.is_nowhere()).then(|| self.span.to_string())
    }

    /// What to do.
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
        let mut group =
            Group::with_title(level.primary_title(self.message.clone())).elements(self.span.element());
        if let Some(help) = &self.help {
            group = group.element(Level::HELP.message(help.clone()));
        }
        let mut report = vec![group];
        if let Some((note, span)) = self.related.as_deref().filter(|(_, span)| !span.is_nowhere()) {
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

/// All that is wrong, in the order of the files and their lines, then the environment.
#[derive(Debug, Clone, Default)]
pub struct Diagnostics(Vec<Diagnostic>);

impl Diagnostics {
    pub(super) fn sorted(mut found: Vec<Diagnostic>) -> Self {
        found.sort_by(|a, b| a.span.order().cmp(&b.span.order()));
        Self(found)
    }

    /// Whether there is nothing to say.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// One after the other.
    pub fn iter(&self) -> std::slice::Iter<'_, Diagnostic> {
        self.0.iter()
    }
}

impl<'a> IntoIterator for &'a Diagnostics {
    type Item = &'a Diagnostic;
    type IntoIter = std::slice::Iter<'a, Diagnostic>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// Every diagnostic, with an empty line between two; with colours where the alternate form (`{:#}`) is asked for.
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
        assert_eq!(
            diagnostic.to_string(),
            "error: no\n--> environment variable AUTH_GATEWAY__X\n = help: say yes\n"
        );
    }

    #[test]
    fn a_second_place_follows_as_a_note() {
        let diagnostic =
            Diagnostic::warning("twice").related("first here", SourceSpan::File("a.toml".into()));
        assert_eq!(diagnostic.to_string(), "warning: twice\n |\nnote: first here\n--> a.toml\n");
        assert_eq!(diagnostic.location(), None);
    }
}
