//! Generates the reference of all keys, and the default configuration with all keys as comments, from the
//! declarations.

use super::declaration::{Fallback, KeyInfo, Section, Shape};
use super::schema::duration_range;
use super::sections::Settings;

const HEAD: &str = include_str!("text/reference.md");

impl KeyInfo {
    /// The description, on one line.
    pub(crate) fn sentences(&self) -> String {
        one_line(&self.about)
    }

    /// The default as it is written in TOML.
    pub(crate) fn default_toml(&self) -> Option<String> {
        let Fallback::Text(text) = self.default else { return None };
        if self.required.is_some() {
            return None;
        }
        let is_number = || text.parse::<u64>().is_ok();
        Some(match &self.shape {
            Shape::List(_) if text.is_empty() => "[]".to_owned(),
            Shape::Map(_) | Shape::Table(_) if text.is_empty() => "{}".to_owned(),
            Shape::Text | Shape::TextOrTable(..) | Shape::Choice(_) | Shape::Duration(_) => {
                format!("\"{text}\"")
            }
            Shape::Size(_) if !is_number() => format!("\"{text}\""),
            _ => text.to_owned(),
        })
    }

    fn takes(&self) -> String {
        takes(&self.shape)
    }

    fn fallback(&self) -> String {
        match (&self.default, self.default_toml()) {
            (_, Some(toml)) => format!("`{toml}`"),
            (Fallback::Computed(words), _) => (*words).to_owned(),
            _ if self.required.is_some() => "has to be given".to_owned(),
            _ => "none".to_owned(),
        }
    }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn takes(shape: &Shape) -> String {
    match shape {
        Shape::Text => "text".to_owned(),
        Shape::Boolean => "`true` or `false`".to_owned(),
        Shape::Choice(words) => {
            words.iter().map(|word| format!("`\"{word}\"`")).collect::<Vec<_>>().join(", ")
        }
        Shape::Integer(range) => format!("whole number, {} to {}", range.start(), range.end()),
        Shape::Ratio => "number, 0 to 1".to_owned(),
        Shape::Size(range) => format!("size, {} to {} bytes", range.start(), range.end()),
        Shape::Duration(range) => format!("duration, {}", duration_range(range)),
        Shape::List(inner) => format!("list of {}", takes(inner)),
        Shape::Table(_) | Shape::Names(..) => "table".to_owned(),
        Shape::Map(inner) => format!("table of names, each with {}", takes(inner)),
        Shape::TextOrTable(..) => "text, a table, or a list of them".to_owned(),
        Shape::Json => "any value".to_owned(),
        Shape::Any => "text, a whole number, `true`, `false`, or a list of them".to_owned(),
    }
}

/// The reference page, in Markdown.
pub fn reference() -> String {
    let mut page = HEAD.to_owned();
    for section in Settings::keys() {
        add_table(&mut page, &header(&section), &section);
    }
    page
}

/// The header of a table.
fn header(key: &KeyInfo) -> String {
    match key.shape {
        Shape::List(_) => format!("[[{}]]", key.name),
        Shape::Map(_) => format!("[{}.NAME]", key.name),
        _ => format!("[{}]", key.name),
    }
}

fn add_table(page: &mut String, header: &str, section: &KeyInfo) {
    let Some(table) = section.shape.table() else { return };
    let keys = (table.keys)();
    page.push_str(&format!("\n## `{header}`\n\n{}\n", wrapped(&one_line(table.about), "", 100)));
    if let Shape::Names(..) = section.shape {
        page.push_str("\nMore keys can be added.\n");
    }
    let env = format!("AUTH_GATEWAY__{}", header.trim_matches(['[', ']']).replace('.', "__").to_uppercase());
    page.push_str("\n| key | takes | default | |\n| --- | --- | --- | --- |\n");
    let (tables, plain): (Vec<_>, Vec<_>) = keys.into_iter().partition(|key| key.shape.table().is_some());
    for key in &plain {
        page.push_str(&row(key, section.restart));
    }
    if !header.starts_with("[[") {
        page.push_str(&format!("\nIn the environment: `{env}__KEY`.\n"));
    }
    for key in &tables {
        let inner = header.trim_matches(['[', ']']);
        let header = match key.shape {
            Shape::List(_) => format!("[[{inner}.{}]]", key.name),
            _ => format!("[{inner}.{}]", key.name),
        };
        add_table(page, &header, &KeyInfo { restart: key.restart || section.restart, ..key.clone() });
    }
}

fn row(key: &KeyInfo, restart: bool) -> String {
    let mut about = key.sentences();
    if let Some(example) = key.example.filter(|_| !key.secret) {
        about.push_str(&format!(" Example: `{} = {example}`.", key.name));
    }
    let marks = [(key.restart || restart, " *restart*"), (key.secret, " *secret: never printed*")];
    about.extend(marks.iter().filter(|(is, _)| *is).map(|(_, mark)| *mark));
    let cell = |text: String| text.replace('|', "\\|");
    format!("| `{}` | {} | {} | {} |\n", key.name, cell(key.takes()), cell(key.fallback()), cell(about))
}

/// Wraps to at most `width` columns per line, each beginning with `prefix`, without a final line break.
fn wrapped(text: &str, prefix: &str, width: usize) -> String {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(format!("{prefix}{word}")),
        }
    }
    lines.join("\n")
}

const TEMPLATE_HEAD: &str = include_str!("text/gateway_head.toml");

/// What the demo needs: `section.key` and its value.
const DEMO: &str = include_str!("text/demo.toml");

const TEMPLATE_TAIL: &str = include_str!("text/gateway_tail.toml");

/// The default configuration: what the demo needs, with every other key and its description as comments.
pub fn default_configuration() -> String {
    let mut file = TEMPLATE_HEAD.to_owned();
    for section in Settings::keys() {
        let header = match section.name.as_str() {
            "upstreams" => "[upstreams.demo]".to_owned(),
            _ => header(&section),
        };
        // A list of which the demo has no element is a comment as a whole: an empty element would be one all the same.
        if matches!(section.shape, Shape::List(_)) && section.name != "routes" {
            let mut element = String::new();
            add_commented(&mut element, &header, &section);
            let line = |line: &str| match line.strip_prefix('#') {
                Some(text) => format!("#  {text}\n"),
                None if line.is_empty() => "\n".to_owned(),
                None => format!("# {line}\n"),
            };
            file.extend(element.lines().map(line));
            continue;
        }
        add_commented(&mut file, &header, &section);
    }
    file.push_str(TEMPLATE_TAIL);
    file
}

fn add_commented(file: &mut String, header: &str, section: &KeyInfo) {
    let Some(table) = section.shape.table() else { return };
    let keys = (table.keys)();
    file.push_str(&format!("\n{}\n{header}\n", wrapped(&one_line(table.about), "# ", 120)));
    // Tables within an element of a list would stand on their own in a file: they are shown on one line.
    let is_inline = |key: &KeyInfo| key.shape.table().is_none() || key.example.is_some();
    for key in keys.iter().filter(|key| is_inline(key)) {
        let path = format!("{}.{} = ", section.name, key.name);
        let said = DEMO.lines().find_map(|line| line.strip_prefix(&path)).map(str::to_owned);
        let mut about = key.sentences();
        if let Fallback::Computed(words) = key.default {
            about.push_str(&format!(" Default: {words}."));
        }
        file.push_str(&wrapped(&about, "# ", 120));
        file.push_str(&match (said, key.example, key.default_toml()) {
            (Some(value), ..) => format!("\n{} = {value}\n", key.name),
            (None, Some(example), _) => format!("\n# {} = {example} # example\n", key.name),
            (None, None, Some(default)) => format!("\n# {} = {default}\n", key.name),
            (None, None, None) => "\n".to_owned(),
        });
    }
    for key in keys.iter().filter(|key| !is_inline(key)) {
        add_commented(file, &format!("[{}.{}]", header.trim_matches(['[', ']']), key.name), key);
    }
}
