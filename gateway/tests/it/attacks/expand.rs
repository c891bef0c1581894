//! Placeholders of the attack cases: `{{NAME}}`, `{{NAME:argument}}`, `{{NOW+300}}`, innermost first.

use std::collections::HashMap;
use std::time::{SystemTime, UNIX_EPOCH};

/// The values that placeholders stand for.
#[derive(Debug, Clone, Default)]
pub(super) struct Values {
    pub(super) named: HashMap<&'static str, String>,
    pub(super) leeway: i64,
}

/// `LEN` stands for the length of what follows the empty line, so it is filled in last.
const LENGTH: &str = "\u{0}LEN\u{0}";

impl Values {
    pub(super) fn set(&mut self, name: &'static str, value: impl Into<String>) {
        self.named.insert(name, value.into());
    }

    /// The text with all placeholders replaced, as bytes: one character is one byte.
    pub(super) fn expand_bytes(&self, template: &str) -> Vec<u8> {
        let mut text = self.expand(template);
        if text.contains(LENGTH) {
            let body = text.split_once("\r\n\r\n").map_or(0, |(_, body)| body.chars().count());
            text = text.replace(LENGTH, &body.to_string());
        }
        text.chars().map(|c| u8::try_from(c as u32).unwrap_or_else(|_| panic!("{c:?} is no byte"))).collect()
    }

    pub(super) fn expand(&self, template: &str) -> String {
        let mut text = template.to_owned();
        let mut from = 0;
        while let Some(end) = text[from..].find("}}").map(|at| from + at) {
            let Some(start) = text[..end].rfind("{{") else {
                from = end + 2;
                continue;
            };
            let inner = &text[start + 2..end];
            let name_end = inner.find([':', '+', '-']).unwrap_or(inner.len());
            let name = &inner[..name_end];
            let is_name = !name.is_empty()
                && name.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_');
            if !is_name {
                from = end + 2;
                continue;
            }
            let value = self.value(name, &inner[name_end..]);
            text.replace_range(start..end + 2, &value);
            // What was filled in may close an outer placeholder.
            from = start;
        }
        text
    }

    fn value(&self, name: &str, argument: &str) -> String {
        let argument = || argument.strip_prefix(':').unwrap_or(argument);
        let counted =
            || argument().split_once(':').map(|(n, rest)| (n.parse::<usize>().unwrap(), rest)).unwrap();
        match name {
            "LEN" => LENGTH.to_owned(),
            "NOW" => {
                let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64;
                (now + self.sum(argument())).to_string()
            }
            "REPEAT" => {
                let (n, text) = counted();
                text.repeat(n)
            }
            "REPEATSEQ" => {
                let (n, text) = counted();
                text.replace("\\r", "\r").replace("\\n", "\n").replace("\\t", "\t").repeat(n)
            }
            "JSONKEYS" => {
                let members: Vec<_> =
                    (0..argument().parse().unwrap()).map(|i: usize| format!("\"k{i}\":1")).collect();
                format!("{{{}}}", members.join(","))
            }
            "LIST" => {
                let (n, prefix) = counted();
                serde_json::to_string(&(0..n).map(|i| format!("{prefix}{i}")).collect::<Vec<_>>()).unwrap()
            }
            // A gzip member of one stored block of zeros (decompression bomb).
            "GZIP" => "\u{1f}\u{8b}\u{8}\0\0\0\0\0\0\u{3}\u{1}\u{4}\0\u{fb}\u{ff}\0\0\0\0".to_owned(),
            _ => self.named.get(name).unwrap_or_else(|| panic!("no value for {{{{{name}}}}}")).clone(),
        }
    }

    /// A sum such as `-LEEWAY-1` or `+300`.
    fn sum(&self, text: &str) -> i64 {
        let text = text.replace("LEEWAY", &self.leeway.to_string());
        let mut sum = 0;
        let mut rest = text.as_str();
        while !rest.is_empty() {
            let end = rest[1..].find(['+', '-']).map_or(rest.len(), |at| at + 1);
            sum += rest[..end].trim_start_matches('+').parse::<i64>().unwrap();
            rest = &rest[end..];
        }
        sum
    }
}

#[test]
fn placeholders_are_replaced_from_the_inside_out() {
    let mut values = Values { leeway: 30, ..Values::default() };
    values.set("HOST", "h");
    let text = values
        .expand_bytes("A {{HOST}} {{REPEATSEQ:2:1;{{REPEAT:3:a}}\\r\\n}}{{LEN}}\r\n\r\n\u{ff}{{REPEAT:3:x}}");
    assert_eq!(text, b"A h 1;aaa\r\n1;aaa\r\n4\r\n\r\n\xffxxx");
    let now: i64 = values.expand("{{NOW}}").parse().unwrap();
    let past: i64 = values.expand("{{NOW-LEEWAY-1}}").parse().unwrap();
    assert!((31..=32).contains(&(now - past)));
    assert_eq!(values.expand("{\"a\":{\"b\":1}}"), "{\"a\":{\"b\":1}}");
}
