//! Source spans: the place of a value, and how it is shown without its secrets.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use annotate_snippets::{AnnotationKind, Element, Origin, Snippet};

use super::toml_file::secrets_in_text;

/// A file's text, with the ranges that must not be printed.
#[derive(Debug)]
pub(crate) struct SourceText {
    /// As the operator named it.
    pub(super) path: PathBuf,
    pub(super) text: String,
    /// Byte ranges of secrets.
    pub(super) hidden: Vec<Range<usize>>,
    /// The index of the file, for sorting diagnostics in the order of the command line.
    pub(super) number: usize,
}

/// The place of a value or of its key.
#[derive(Debug, Clone, Default)]
pub(crate) enum SourceSpan {
    /// A range in a file.
    Text { source: Arc<SourceText>, span: Range<usize>, part: Part },
    /// A file as a whole, because it could not be read.
    File(PathBuf),
    /// An environment variable.
    Variable(String),
    /// No place: a default, or something that is missing.
    #[default]
    Nowhere,
}

/// What a span in a file points at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// The key. The value after it is not shown: an unknown key may be a misspelt secret.
    Key,
    /// The value.
    Value,
}

/// The line of a file that a span points into, redacted.
struct Line {
    number: usize,
    column: usize,
    text: String,
    underlined: Range<usize>,
}

/// Maximum length of a line's context and of the underlined part, in characters.
const MAX_SHOWN: usize = 200;

impl SourceSpan {
    /// Sorts by file, then by line, then the environment, and last what has no place.
    pub(super) fn order(&self) -> (usize, usize, &str) {
        match self {
            SourceSpan::File(_) => (0, 0, ""),
            SourceSpan::Text { source, span, .. } => (1 + source.number, span.start, ""),
            SourceSpan::Variable(name) => (usize::MAX - 1, 0, name),
            SourceSpan::Nowhere => (usize::MAX, 0, ""),
        }
    }

    /// A line, from 1, of a file that is not part of the configuration.
    pub(super) fn line_of(path: &Path, line: usize) -> SourceSpan {
        let Ok(text) = std::fs::read_to_string(path) else { return SourceSpan::File(path.into()) };
        let start = text.split_inclusive('\n').take(line - 1).map(str::len).sum::<usize>();
        let end = text[start..].find('\n').map_or(text.len(), |n| start + n);
        let hidden = secrets_in_text(&text);
        let source = Arc::new(SourceText { path: path.into(), text, hidden, number: usize::MAX - 3 });
        SourceSpan::Text { source, span: start..end, part: Part::Value }
    }

    pub(super) fn is_unknown_place(&self) -> bool {
        matches!(self, SourceSpan::Nowhere)
    }

    /// What is rendered below a title: the source line with the span underlined, or the name of the place.
    pub(super) fn element(&self) -> Option<Element<'static>> {
        let line = match self {
            SourceSpan::Nowhere => return None,
            SourceSpan::Text { .. } => self.line()?,
            _ => return Some(Origin::path(self.to_string()).into()),
        };
        let SourceSpan::Text { source, .. } = self else { return None };
        let annotation = AnnotationKind::Primary.span(line.underlined);
        let snippet = Snippet::source(line.text).line_start(line.number).fold(false).annotation(annotation);
        Some(snippet.path(source.path.display().to_string()).into())
    }

    fn line(&self) -> Option<Line> {
        let SourceSpan::Text { source, span, part } = self else { return None };
        let text = source.text.as_str();
        let start = text.floor_char_boundary(span.start);
        let line_start = text[..start].rfind('\n').map_or(0, |n| n + 1);
        let line_end = text[start..].find('\n').map_or(text.len(), |n| start + n);
        let span_end = text.floor_char_boundary(span.end).clamp(start, line_end);

        let mut shown_end = if *part == Part::Key { span_end } else { line_end };
        for hidden in &source.hidden {
            if hidden.start < line_end && hidden.end > line_start {
                shown_end = shown_end.min(text.floor_char_boundary(hidden.start).max(line_start));
            }
        }
        let cut = |from: usize, to: usize| {
            text[from..to].char_indices().nth(MAX_SHOWN).map_or(to, |(offset, _)| from + offset)
        };
        let underlined_end = cut(start.min(shown_end), span_end.min(shown_end).max(start.min(shown_end)));
        let shown_end = cut(underlined_end, shown_end);

        let mut shown = text[line_start..shown_end].trim_end_matches('\r').to_owned();
        let begin = (start - line_start).min(shown.len());
        let underlined = text[start.min(shown_end)..underlined_end].trim_end().len();
        if !text[shown_end..line_end].trim().is_empty() {
            shown.push('…');
        }
        let end = (begin + underlined.max(1)).min(shown.len()).max(begin);
        Some(Line {
            number: text[..line_start].matches('\n').count() + 1,
            column: text[line_start..start].chars().count() + 1,
            underlined: begin..shown.ceil_char_boundary(end),
            text: shown,
        })
    }
}

impl fmt::Display for SourceSpan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SourceSpan::Text { source, .. } => {
                let (line, column) = self.line().map_or((1, 1), |s| (s.number, s.column));
                write!(f, "{}:{line}:{column}", source.path.display())
            }
            SourceSpan::File(path) => write!(f, "{}", path.display()),
            SourceSpan::Variable(name) => write!(f, "environment variable {}", name.escape_debug()),
            SourceSpan::Nowhere => f.write_str("not given"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Diagnostic;

    fn show(text: &str, span: Range<usize>, part: Part, hidden: Option<Range<usize>>) -> String {
        let hidden = hidden.into_iter().collect();
        let source = SourceText { path: "a.toml".into(), text: text.into(), hidden, number: 0 };
        let at = SourceSpan::Text { source: Arc::new(source), span, part };
        Diagnostic::error("x").at(at).to_string().replacen("error: x\n", "", 1)
    }

    #[test]
    fn a_value_is_underlined_in_its_line() {
        let shown = show("a = 1\nbcd = 22\n", 12..14, Part::Value, None);
        assert_eq!(shown, " --> a.toml:2:7\n  |\n2 | bcd = 22\n  |       ^^\n");
    }

    #[test]
    fn a_line_number_of_two_digits_widens_the_gutter() {
        let shown = show(&format!("{}x = 1", "\n".repeat(11)), 11..12, Part::Value, None);
        assert_eq!(shown, "  --> a.toml:12:1\n   |\n12 | x = 1\n   | ^\n");
    }

    #[test]
    fn the_value_of_an_underlined_key_is_not_shown() {
        let shown = show("secert = \"hunter2\"", 0..6, Part::Key, None);
        assert!(shown.contains("secert…") && !shown.contains("hunter2"), "{shown}");
    }

    #[test]
    fn a_hidden_stretch_is_cut_off_and_still_pointed_at() {
        let shown = show("secret = \"hunter2\" # x", 9..18, Part::Value, Some(9..18));
        assert_eq!(shown, " --> a.toml:1:10\n  |\n1 | secret = …\n  |          ^\n");
    }

    #[test]
    fn a_line_inside_a_hidden_stretch_shows_nothing() {
        let shown = show("s = \"\"\"\nhunter2\n\"\"\"", 10..11, Part::Value, Some(4..19));
        assert!(!shown.contains("hunter2"), "{shown}");
    }

    #[test]
    fn a_line_without_end_is_cut() {
        let text = format!("a = [{}] # {}", "1, ".repeat(400_000), "x".repeat(1000));
        for (span, part) in
            [(4..text.len() - 1, Part::Value), (900_000..900_001, Part::Value), (0..1, Part::Key)]
        {
            let shown = show(&text, span, part, None);
            assert!(shown.len() < 1500 && shown.contains("a.toml:1:"), "{} {shown}", shown.len());
        }
    }

    #[test]
    fn control_characters_and_positions_off_a_character_do_no_harm() {
        let shown = show("é\u{1b}[31m = 1\r\n", 1..900, Part::Value, None);
        assert!(!shown.contains('\u{1b}') && shown.contains(":1:1"), "{shown}");
    }
}
