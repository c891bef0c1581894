//! Remedies for text that is not TOML: what was probably meant at the place of a syntax error.
//!
//! No remedy quotes a value, for it may be a secret.

use std::ops::Range;

/// How to correct the text, whose parser reported `message` at `span`.
pub(crate) fn remedy(text: &str, span: &Range<usize>, message: &str) -> String {
    let at = span.start.min(text.len());
    let start = text[..at].rfind('\n').map_or(0, |newline| newline + 1);
    let line = text[start..].lines().next().unwrap_or_default().trim();
    of_file(text)
        .map(str::to_owned)
        .or_else(|| message.contains("duplicate key").then(|| of_duplicate(text, start, line)))
        .or_else(|| of_line(line).map(str::to_owned))
        .or_else(|| of_character(line))
        .or_else(|| of_value(line))
        .or_else(|| of_message(text, at, message))
        .unwrap_or_else(|| {
            "write each setting as key = value on a line of its own, and text in quotes".to_owned()
        })
}

/// Where the file as a whole is something else.
fn of_file(text: &str) -> Option<&'static str> {
    let first = text.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('#'))?;
    if text.matches('\0').count() > text.len() / 4 {
        Some("the file looks like UTF-16: save it as UTF-8")
    } else if !text.contains('\n') && text.contains('\r') {
        Some("its lines end in carriage returns only: save the file with line feeds")
    } else if first.starts_with('{') {
        Some(
            "the file looks like JSON: in TOML a table begins with [server], and its keys follow as key = value",
        )
    } else if first == "---" || (first.ends_with(':') && !first.contains(['=', '"', '\''])) {
        Some(
            "the file looks like YAML: in TOML a table begins with [server], and its keys follow as key = value",
        )
    } else {
        None
    }
}

fn of_line(line: &str) -> Option<&'static str> {
    if line.starts_with("//") || line.starts_with(';') || line.starts_with("--") {
        Some("a comment begins with #")
    } else if line.starts_with("[[[") {
        Some("a table has one pair of brackets, and each element of a list of tables two")
    } else if line.contains(['“', '”', '„', '‘', '’', '«', '»']) {
        Some("write straight quotes, \" or ', in place of the typographic ones")
    } else {
        None
    }
}

/// Where a character that looks like another, or like none, stands outside of quotes.
fn of_character(line: &str) -> Option<String> {
    let mut quote = None;
    for c in line.chars() {
        match quote {
            Some(open) if c == open => quote = None,
            Some(_) => {}
            None if c == '"' || c == '\'' => quote = Some(c),
            None if c == '#' => return None,
            None if !c.is_ascii() => {
                let code = c as u32;
                return Some(format!(
                    "the character U+{code:04X} stands outside of quotes: type the line anew with plain letters and spaces"
                ));
            }
            None => {}
        }
    }
    None
}

/// Where a line is nearly `key = value`.
fn of_value(line: &str) -> Option<String> {
    let is_key =
        |key: &str| !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-. ".contains(&b));
    let equals = line.find('=').unwrap_or(line.len());
    // NAME:$apr1$… and NAME:{SHA}… are lines of Apache's file of passwords.
    if line.split_once(':').is_some_and(|(name, hash)| is_key(name) && hash.starts_with(['$', '{'])) {
        return Some(
            "the file looks like one of htpasswd: name it with kind = \"htpasswd\" in [users]".to_owned(),
        );
    }
    let before = |colon: usize| line[..colon].trim().trim_matches(['"', '\'']);
    if let Some(key) = line.find(':').filter(|colon| *colon < equals).map(before)
        && is_key(key)
    {
        return Some(format!("write an equals sign in place of the colon: {key} = …"));
    }
    let (key, value) = line.split_once('=')?;
    let (key, value) = (key.trim(), value.trim());
    if !is_key(key) {
        return None;
    }
    match value.to_ascii_lowercase().as_str() {
        "" => Some(format!("write the value behind the equals sign: {key} = …")),
        "true" | "yes" | "on" => Some(format!("write {key} = true")),
        "false" | "no" | "off" => Some(format!("write {key} = false")),
        _ if value.starts_with("- ") => Some(format!("write a list in brackets: {key} = [\"…\", \"…\"]")),
        _ if value.ends_with([';', ',']) => Some(
            "leave out what stands behind the value: a line ends without a comma or a semicolon".to_owned(),
        ),
        _ if value.starts_with('"') && value.contains('\\') => Some(format!(
            "a backslash begins an escape in double quotes: write {key} = '…' with single quotes, or \\\\"
        )),
        _ if value.starts_with(|c: char| c.is_alphabetic() || "/.~$<".contains(c)) => {
            Some(format!("put the value in quotes: {key} = \"…\""))
        }
        _ => None,
    }
}

fn of_message(text: &str, at: usize, message: &str) -> Option<String> {
    let remedy = if message.contains("multi-line") {
        let opening = [text.find("\"\"\""), text.find("'''")].into_iter().flatten().min().unwrap_or(at);
        return Some(format!(
            "the text that begins on line {} has no closing quotes: add them",
            line_number(text, opening)
        ));
    } else if message.contains("basic string") || message.contains("literal string") {
        "add the closing quote: a text ends on the line that it begins on"
    } else if message.contains("overflow") {
        "the number is larger than any that is accepted: write a smaller one"
    } else if message.contains("leading zero") {
        "write the number without zeros before it"
    } else if message.contains("array") {
        "a comma or the closing ] is missing, here or on a line above"
    } else if message.contains("inline table") || message.contains("key-value pairs") {
        "a comma or the closing } is missing: an inline table is { key = value, key = value }"
    } else if message.contains("unclosed table") {
        "add the closing bracket: [table], or [[table]] for an element of a list"
    } else if message.contains("expected `=`") {
        "write key = value; the name of a table goes in brackets, [table]"
    } else {
        return None;
    };
    Some(remedy.to_owned())
}

/// Where the key or the table of the line that begins at `start` stands above.
fn of_duplicate(text: &str, start: usize, line: &str) -> String {
    let key = |line: &str| line.split('=').next().unwrap_or_default().trim().to_owned();
    let is_header = line.starts_with('[');
    let above = text[..start].lines().map(str::trim).enumerate();
    let name = line.trim_matches(['[', ']', ' ']);
    let number = |begin: &str| text[..start].lines().position(|other| other.trim().starts_with(begin));
    if let Some(index) = number(&format!("[[{name}]]")).filter(|_| is_header) {
        return format!("write [[{name}]], with two brackets: line {} begins the list", index + 1);
    }
    if let Some(index) = number(&format!("{name}.")).filter(|_| is_header) {
        return format!(
            "line {} sets a key of the same table: move it below this header, without the table",
            index + 1
        );
    }
    let first = if is_header {
        above.filter(|(_, other)| *other == line).map(|(index, _)| index + 1).next()
    } else {
        let above: Vec<_> = above.collect();
        let same_table = above.iter().rev().take_while(|(_, other)| !other.starts_with('['));
        same_table.filter(|(_, other)| key(other) == key(line)).map(|(index, _)| index + 1).last()
    };
    match (first, is_header) {
        (Some(number), true) => format!("line {number} begins the same table: move these keys there"),
        (Some(number), false) => format!("line {number} sets the same key: remove one of them"),
        (None, _) => {
            "each key and each table may stand in the file once: remove one, or merge them".to_owned()
        }
    }
}

fn line_number(text: &str, at: usize) -> usize {
    1 + text[..at].bytes().filter(|byte| *byte == b'\n').count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_slip_gets_its_remedy() {
        for (text, expected) in [
            ("[tokens]\naudience = \"a\"\naudience = \"b\"\n", "line 2 sets the same key"),
            ("[tokens]\nleeway = \"0s\"\n[server]\n[tokens]\n", "line 1 begins the same table"),
            ("server.listen = \"x\"\n[server]\n", "line 1 sets a key of the same table"),
            ("[[routes]]\n[routes]\n", "write [[routes]], with two brackets: line 1"),
            ("[a.b]\nc = 1\n[a]\nb.d = 1\n", "may stand in the file once"),
            ("audience =\u{a0}\"app\"\n", "U+00A0 stands outside of quotes"),
            ("audi\u{200b}ence = \"app\"\n", "U+200B stands outside of quotes"),
            ("\"audience\": \"app\",\n", "in place of the colon: audience = …"),
            ("alice:$apr1$x$y\n", "kind = \"htpasswd\""),
            ("audience = \"app\";\n", "without a comma or a semicolon"),
            ("urls = - http://a\n", "write a list in brackets: urls = ["),
            ("workers = 99999999999999999999\n", "larger than any"),
            ("status = 0404\n", "without zeros before it"),
            ("audience = \"app\nissuer = \"x\"\n", "add the closing quote"),
            ("a = 1\naudience = \"\"\"app\nissuer = 1\n", "begins on line 2 has no closing quotes"),
            ("audience: \"app\"\n", "in place of the colon: audience = …"),
            ("[a]\naudience = app\n", "put the value in quotes: audience = \"…\""),
            ("listen = 127.0.0.1:80\n", "write each setting as key = value"),
            ("file = /etc/users.toml\n", "put the value in quotes: file = \"…\""),
            ("via = True\n", "write via = true"),
            ("via = yes\n", "write via = true"),
            ("audience = “app”\n", "straight quotes"),
            ("file = \"C:\\users\"\n", "write file = '…' with single quotes"),
            ("[tokens\n", "add the closing bracket"),
            ("[[[tokens]]]\n", "two"),
            ("server:\n  listen: x\n", "looks like YAML"),
            ("{\"server\": 1}", "looks like JSON"),
            ("; comment\n", "begins with #"),
            ("// comment\n", "begins with #"),
            ("audience \"app\"\n", "write key = value"),
            ("audience =\n", "behind the equals sign: audience = …"),
            ("urls = [\"a\"\n[[routes]]\n", "closing ] is missing"),
            ("urls = [\"a\" \"b\"]\n", "closing ] is missing"),
            ("a = { b = 1 c = 2 }\n", "closing } is missing"),
            ("[server]\ra = 1\r", "line feeds"),
            ("[\0s\0e\0]\0", "UTF-16"),
        ] {
            let Err(error) = toml_edit::Document::parse(text) else { panic!("is TOML: {text:?}") };
            let found = remedy(text, &error.span().unwrap_or(0..0), error.message());
            assert!(found.contains(expected), "{text:?}: {}: {found}", error.message());
        }
    }

    #[test]
    fn no_remedy_quotes_a_value() {
        for text in
            ["secret = hunter2\n", "secret: hunter2\n", "secret = \"\\hunter2\"\n", "secret = 'hunter2\n"]
        {
            let Err(error) = toml_edit::Document::parse(text) else { panic!("is TOML: {text:?}") };
            let found = remedy(text, &error.span().unwrap_or(0..0), error.message());
            assert!(!found.contains("hunter"), "{found}");
        }
    }
}
