//! JSON escaping of untrusted text in log lines (log injection).

use std::fmt::Write as _;

/// Maximum length of a value in a log line, in bytes; longer ones are truncated.
const MAX_LEN: usize = 1024;

/// Appends `text` as the inside of a JSON string, truncated to [`MAX_LEN`]. Control characters, among them
/// line breaks and terminal escape sequences, become `\u00XX`, so no text can forge a line.
pub(super) fn push_escaped(line: &mut String, text: &str) {
    // Fast path for plain text. The fold runs to the end without an early exit, so that it is vectorised.
    if text.len() <= MAX_LEN && text.bytes().fold(true, |plain, byte| plain & is_plain(byte)) {
        return line.push_str(text);
    }
    let end = (0..=MAX_LEN.min(text.len())).rev().find(|&end| text.is_char_boundary(end)).unwrap_or(0);
    for c in text[..end].chars() {
        match c {
            '"' => line.push_str("\\\""),
            '\\' => line.push_str("\\\\"),
            '\n' => line.push_str("\\n"),
            '\r' => line.push_str("\\r"),
            '\t' => line.push_str("\\t"),
            // Writing to a String does not fail.
            c if c.is_control() || is_invisible(c) => drop(write!(line, "\\u{:04x}", c as u32)),
            c => line.push(c),
        }
    }
    if end < text.len() {
        line.push('…');
    }
}

/// Whether a byte needs no escaping: visible ASCII and space, except quote and backslash.
fn is_plain(byte: u8) -> bool {
    matches!(byte, b' '..=b'~') & (byte != b'"') & (byte != b'\\')
}

/// Characters that change how others are displayed: line and paragraph separators, bidirectional overrides.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{061c}' | '\u{2028}' | '\u{2029}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_cannot_leave_its_string_nor_move_a_cursor() {
        let mut line = String::new();
        push_escaped(&mut line, "a\"\\\r\n\u{1b}[2J\u{202e}\u{61c}é");
        assert_eq!(line, "a\\\"\\\\\\r\\n\\u001b[2J\\u202e\\u061cé");
    }

    #[test]
    fn long_text_is_cut_between_characters() {
        let mut line = String::new();
        push_escaped(&mut line, &"é".repeat(2000));
        assert_eq!(line, format!("{}…", "é".repeat(512)));
    }
}
