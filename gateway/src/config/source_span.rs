//! Where a value stands, and how that place is shown without showing a secret.

use std::fmt;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

/// A file's text, with the parts of it that must not be printed.
#[derive(Debug)]
pub(super) struct SourceText {
    /// As the operator named it.
    pub(super) path: PathBuf,
    pub(super) text: String,
    /// Byte ranges that hold secrets.
    pub(super) hidden: Vec<Range<usize>>,
    /// Which of the files it is, to list problems in the order of the command line.
    pub(super) number: usize,
}

/// Where a value, or the key of one, was given.
#[derive(Debug, Clone, Default)]
pub(super) enum SourceSpan {
    /// A stretch of a file.
    Text { source: Arc<SourceText>, span: Range<usize>, part: Part },
    /// A file as a whole, because it could not be read.
    File(PathBuf),
    /// An environment variable.
    Variable(String),
    /// Given nowhere: a default, or something that is missing.
    #[default]
    Nowhere,
}

/// What a place in a file points at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// The key. The value after it is not shown: an unknown key may be a misspelt secret.
    Key,
    /// The value.
    Value,
}

/// The line of a file that a place points into.
struct Snippet {
    number: usize,
    column: usize,
    line: String,
    underline: String,
}

impl SourceSpan {
    /// Sorts by file, then by line, then the environment, and at last what stands nowhere.
    pub(super) fn order(&self) -> (usize, usize, &str) {
        match self {
            SourceSpan::File(_) => (0, 0, ""),
            SourceSpan::Text { source, span, .. } => (1 + source.number, span.start, ""),
            SourceSpan::Variable(name) => (usize::MAX - 1, 0, name),
            SourceSpan::Nowhere => (usize::MAX, 0, ""),
        }
    }

    pub(super) fn is_nowhere(&self) -> bool {
        matches!(self, SourceSpan::Nowhere)
    }

    /// The arrow with the place's name, and the source line with the place underlined.
    pub(super) fn render(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(snippet) = self.snippet() else { return writeln!(f, " --> {self}") };
        let number = snippet.number.to_string();
        let gutter = " ".repeat(number.len());
        writeln!(f, "{gutter}--> {self}")?;
        writeln!(f, "{gutter} |")?;
        writeln!(f, "{number} | {}", snippet.line)?;
        writeln!(f, "{gutter} | {}", snippet.underline)
    }

    /// How wide the line number is that [`SourceSpan::render`] prints.
    pub(super) fn gutter(&self) -> usize {
        self.snippet().map_or(1, |s| s.number.to_string().len())
    }

    fn snippet(&self) -> Option<Snippet> {
        let SourceSpan::Text { source, span, part } = self else { return None };
        let text = source.text.as_str();
        let start = floor_char_boundary(text, span.start);
        let line_start = text[..start].rfind('\n').map_or(0, |n| n + 1);
        let line_end = text[start..].find('\n').map_or(text.len(), |n| start + n);

        let mut shown_end = line_end;
        if *part == Part::Key {
            shown_end = shown_end.min(floor_char_boundary(text, span.end));
        }
        for hidden in &source.hidden {
            if hidden.start < line_end && hidden.end > line_start {
                shown_end = shown_end.min(floor_char_boundary(text, hidden.start).max(line_start));
            }
        }

        let mut line = printable(text[line_start..shown_end].trim_end_matches('\r'));
        if !text[shown_end..line_end].trim().is_empty() {
            line.push('…');
        }
        let before = printable(&text[line_start..start.min(shown_end)]).chars().count();
        let until = floor_char_boundary(text, span.end).clamp(start, line_end).min(shown_end);
        let width = text.get(start..until).map_or(0, |s| printable(s.trim_end()).chars().count());
        Some(Snippet {
            number: text[..line_start].matches('\n').count() + 1,
            column: text[line_start..start].chars().count() + 1,
            line,
            underline: format!("{}{}", " ".repeat(before), "^".repeat(width.max(1))),
        })
    }
}

impl fmt::Display for SourceSpan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SourceSpan::Text { source, .. } => {
                let (line, column) = self.snippet().map_or((1, 1), |s| (s.number, s.column));
                write!(f, "{}:{line}:{column}", source.path.display())
            }
            SourceSpan::File(path) => write!(f, "{}", path.display()),
            SourceSpan::Variable(name) => write!(f, "environment variable {name}"),
            SourceSpan::Nowhere => f.write_str("not given"),
        }
    }
}

/// The nearest position at or before `index` where `text` may be cut.
fn floor_char_boundary(text: &str, index: usize) -> usize {
    let mut index = index.min(text.len());
    while !text.is_char_boundary(index) {
        index -= 1;
    }
    index
}

/// The text without anything that could steer a terminal.
fn printable(text: &str) -> String {
    text.replace('\t', "    ").chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Shown(SourceSpan);

    impl fmt::Display for Shown {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            self.0.render(f)
        }
    }

    fn show(text: &str, span: Range<usize>, part: Part, hidden: Option<Range<usize>>) -> String {
        let hidden = hidden.into_iter().collect();
        let source = SourceText { path: "a.toml".into(), text: text.into(), hidden, number: 0 };
        Shown(SourceSpan::Text { source: Arc::new(source), span, part }).to_string()
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
    fn control_characters_and_positions_off_a_character_do_no_harm() {
        let shown = show("é\u{1b}[31m = 1\r\n", 1..900, Part::Value, None);
        assert!(!shown.contains('\u{1b}') && shown.contains(":1:1"), "{shown}");
    }
}
