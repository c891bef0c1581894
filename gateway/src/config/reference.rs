//! Generates the reference of all keys, and the default configuration with all keys as comments, from the
//! declarations.

use super::declaration::{Fallback, KeyInfo, Section, Shape};
use super::schema::duration_range;
use super::sections::Settings;

const HEAD: &str = "\
# Configuration reference

<!-- Made by `auth-gateway config reference`; a test holds this page to the declarations. -->

Every key, in the order of `config/gateway.toml`. A key that is not given has its default.
A variable of the environment wins over the files: `AUTH_GATEWAY__TOKENS__ACCESS_TTL=5s` is
`tokens.access_ttl`. Changes of keys marked *restart* take effect after a restart; all others are
hot-reloaded. Durations are written like `\"500ms\"`, `\"60s\"`, `\"10m\"` or `\"1h 30m\"`; sizes are
bytes, or text such as `\"8KiB\"` (1024) or `\"8kB\"` (1000). Relative paths start at the working
directory.
";

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

const TEMPLATE_HEAD: &str = r##"#:schema ./gateway.schema.json
# The default configuration: it runs as it is, with the demo, and it is the reference of every key there is.
#
# A key that is commented out shows its default, or, where the line ends with "# example", how it could look.
# Later files (`--config A --config B`) and then the environment override what stands here, key by key:
#
#     AUTH_GATEWAY__TOKENS__ACCESS_TTL=5s
#     AUTH_GATEWAY__SERVER__LISTEN=127.0.0.1:8081
#     AUTH_GATEWAY__UPSTREAMS__DEMO__URLS='["http://127.0.0.1:9001"]'
#
# Lists, [[routes]] among them, are replaced whole. Relative paths start at the working directory. Durations are written
# like "500ms", "60s", "10m" or "1h 30m"; sizes are bytes, or text such as "8KiB" (1024) or "8kB" (1000). Every secret `x`
# can also stand alone in a file: `x_file`. `auth-gateway check --config FILE` reports everything that is wrong at once.
"##;

/// What the demo needs: `section.key` and its value.
const DEMO: &str = r#"
server.listen = "127.0.0.1:8080"
admin.listen = "127.0.0.1:9090"
tokens.issuer = "http://127.0.0.1:8080"
tokens.audience = "demo"
tokens.access_ttl = "60s"
tokens.refresh_ttl = "10m"
tokens.leeway = "0s"
tokens.algorithm = "EdDSA"
tokens.rotation = "on-use"
tokens.reuse_grace = "10s"
endpoints.prefix = ""
store.kind = "embedded"
store.path = "var/state.redb"
users.file = "config/users.toml"
lockout.max_failures = 5
lockout.window = "15m"
lockout.duration = "15m"
upstreams.urls = ["http://127.0.0.1:9000"]
routes.path = "/protected"
routes.upstream = "demo"
routes.access = "authenticated"
"#;

const TEMPLATE_TAIL: &str = r#"
[[routes]]
path = "/"
# A folder, its files are served as they are.
static = "spa"
# Nothing but what this page needs: no inline scripts or styles, nothing from elsewhere.
content_security_policy = "default-src 'none'; script-src 'self'; connect-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; manifest-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; require-trusted-types-for 'script'"
access = "public"
"#;

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
