//! How the pages look and what they say: the built-in texts and templates, and the operator's in a folder of their own.
//!
//! Everything is read and tried once, when the configuration is loaded: a mistake stops the start, and not a person.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use minijinja::{Environment, Output, State, UndefinedBehavior, Value, escape_formatter};
use toml_edit::{Document, Item};

/// Templates by their file names; an operator's file of the same name takes their place.
const TEMPLATES: [(&str, &str); 5] = [
    ("layout.html", include_str!("templates/layout.html")),
    ("form.html", include_str!("templates/form.html")),
    ("login.html", include_str!("templates/login.html")),
    ("message.html", include_str!("templates/message.html")),
    ("tokens.html", include_str!("templates/tokens.html")),
];
const STYLE: &str = include_str!("templates/style.css");
/// The languages of the gateway itself. The first has every text.
const LANGUAGES: [(&str, &str); 2] =
    [("en", include_str!("texts/en.toml")), ("de", include_str!("texts/de.toml"))];
/// The colours that `branding.toml` may name, as variables of the style sheet.
const COLORS: [&str; 9] =
    ["accent", "on_accent", "background", "surface", "text", "muted", "border", "error", "error_surface"];
/// A logo travels within each page, so it may have so many bytes.
const MAX_LOGO: u64 = 64 * 1024;
const MAX_FILE: u64 = 256 * 1024;

/// What is wrong with the folder.
#[derive(Debug, thiserror::Error)]
#[error("{}: {problem}", path.display())]
pub struct BrandingError {
    /// The file or folder.
    pub path: PathBuf,
    /// What is wrong with it, and what would be right.
    pub problem: String,
}

/// Texts, templates, colours and logo.
#[derive(Debug)]
pub(crate) struct Branding {
    pub(super) title: String,
    /// A `data:` URL.
    pub(super) logo: Option<String>,
    /// The whole style sheet.
    pub(super) style: String,
    pub(super) templates: Environment<'static>,
    pub(super) languages: Vec<Texts>,
    /// What is missing, and what stands in its place.
    pub(super) warnings: Vec<String>,
}

/// The texts of one language.
#[derive(Debug, Clone)]
pub(crate) struct Texts {
    /// The language's tag, in lower case.
    pub(super) language: String,
    texts: BTreeMap<String, String>,
}

impl Texts {
    /// The text of that name; every name that the gateway uses is in `texts/en.toml`.
    pub(super) fn get(&self, name: &str) -> &str {
        debug_assert!(self.texts.contains_key(name), "there is no text {name}");
        self.texts.get(name).map_or("", String::as_str)
    }

    /// The text with values in place of `{name}`.
    pub(super) fn filled(&self, name: &str, values: &[(&str, &str)]) -> String {
        // One pass, so that a value is never read as a placeholder.
        let mut rest = self.get(name);
        let mut text = String::with_capacity(rest.len() + 32);
        while let Some(start) = rest.find('{') {
            let Some(length) = rest[start..].find('}') else { break };
            let placeholder = &rest[start + 1..start + length];
            text.push_str(&rest[..start]);
            text.push_str(
                values.iter().find(|(known, _)| *known == placeholder).map_or("", |(_, value)| value),
            );
            rest = &rest[start + length + 1..];
        }
        text.push_str(rest);
        text
    }

    pub(super) fn all(&self) -> &BTreeMap<String, String> {
        &self.texts
    }
}

impl Branding {
    /// The built-in pages, with what stands in `folder` in their place.
    ///
    /// # Errors
    ///
    /// A file cannot be read, says something that has no meaning, or is a template that does not run.
    pub(crate) fn load(folder: Option<&Path>) -> Result<Branding, BrandingError> {
        let mut branding = Branding {
            title: "Auth Gateway".to_owned(),
            logo: None,
            style: STYLE.to_owned(),
            templates: Environment::new(),
            languages: Vec::new(),
            warnings: Vec::new(),
        };
        branding.templates.set_undefined_behavior(UndefinedBehavior::SemiStrict);
        branding.templates.set_formatter(write_escaped);
        let english = built_in(LANGUAGES[0].1);
        for (language, texts) in LANGUAGES {
            branding.languages.push(Texts { language: language.to_owned(), texts: built_in(texts) });
        }
        for (name, source) in TEMPLATES {
            // The built-in templates are tried by a test.
            let _ = branding.templates.add_template(name, source);
        }
        if let Some(folder) = folder {
            branding.add_folder(folder, &english)?;
        }
        Ok(branding)
    }

    fn add_folder(&mut self, folder: &Path, english: &BTreeMap<String, String>) -> Result<(), BrandingError> {
        let wrong = |path: &Path, problem: String| BrandingError { path: path.to_owned(), problem };
        let entries = fs::read_dir(folder).map_err(|e| wrong(folder, format!("cannot be read: {e}")))?;
        let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        files.sort();
        for path in files {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
            let read = || read_text(&path).map_err(|problem| wrong(&path, problem));
            if name == "branding.toml" {
                self.read_settings(folder, &read()?).map_err(|problem| wrong(&path, problem))?;
            } else if name == "style.css" {
                self.style.push_str(&style_sheet(&read()?).map_err(|problem| wrong(&path, problem))?);
            } else if let Some(language) = name.strip_prefix("texts.").and_then(|n| n.strip_suffix(".toml")) {
                let texts = texts(&read()?, english).map_err(|problem| wrong(&path, problem))?;
                self.add_texts(language, texts).map_err(|problem| wrong(&path, problem))?;
            } else if TEMPLATES.iter().any(|(known, _)| *known == name) {
                let source = read()?;
                let added = self.templates.add_template_owned(name, source);
                added.map_err(|error| wrong(&path, template_problem(&error)))?;
            } else if name.ends_with(".html") || name.ends_with(".toml") || name.ends_with(".css") {
                let known = "branding.toml, style.css, texts.LANGUAGE.toml, layout.html, login.html, form.html, message.html, tokens.html";
                return Err(wrong(&path, format!("is not used; the files of a branding folder are {known}")));
            }
        }
        self.fill_texts(folder, english);
        Ok(())
    }

    fn add_texts(&mut self, language: &str, texts: BTreeMap<String, String>) -> Result<(), String> {
        let language = language.to_ascii_lowercase();
        let is_tag =
            |part: &str| (1..=8).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_alphanumeric());
        if !language.split('-').all(is_tag) {
            return Err(
                "is not named after a language; write it like texts.de.toml or texts.pt-BR.toml".into()
            );
        }
        match self.languages.iter_mut().find(|known| known.language == language) {
            Some(known) => known.texts.extend(texts),
            None => self.languages.push(Texts { language, texts }),
        }
        Ok(())
    }

    /// Has the next wider language (German for `de-at`), and else English, stand in for texts that a language of the operator's
    /// lacks: an update of the gateway, which may need more texts, must not keep it from starting.
    fn fill_texts(&mut self, folder: &Path, english: &BTreeMap<String, String>) {
        let known = self.languages.clone();
        let wider = |language: &str| {
            let wider = language.rsplit_once('-').map(|(wider, _)| wider)?;
            known.iter().find(|texts| texts.language == wider)
        };
        for Texts { language, texts } in &mut self.languages {
            let mut next = wider(language);
            while let Some(stand_in) = next {
                for (name, text) in &stand_in.texts {
                    texts.entry(name.clone()).or_insert_with(|| text.clone());
                }
                next = wider(&stand_in.language);
            }
            let mut missing = Vec::new();
            for (name, text) in english {
                texts.entry(name.clone()).or_insert_with(|| {
                    missing.push(name.as_str());
                    text.clone()
                });
            }
            if !missing.is_empty() {
                let (folder, missing) = (folder.display(), missing.join(", "));
                self.warnings.push(format!(
                    "{folder}: the language {language} has no text for {missing}, so that its pages have the English ones; add them to texts.{language}.toml"
                ));
            }
        }
    }

    fn read_settings(&mut self, folder: &Path, text: &str) -> Result<(), String> {
        let document: Document<String> =
            Document::parse(text.to_owned()).map_err(|error| error.to_string().trim_end().to_owned())?;
        for (key, item) in document.iter() {
            match (key, item.as_str(), item.as_table_like()) {
                ("title", Some(title), _) => self.title = title.to_owned(),
                ("logo", Some(logo), _) => self.logo = Some(data_url(&folder.join(logo))?),
                ("colors", _, Some(colors)) => {
                    let mut light = String::new();
                    for (name, item) in colors.iter() {
                        match (name, item.as_table_like()) {
                            ("dark", Some(dark)) => {
                                let mut all = String::new();
                                for (name, item) in dark.iter() {
                                    all.push_str(&color(name, item)?);
                                }
                                let rule = format!("@media (prefers-color-scheme:dark){{:root{{{all}}}}}\n");
                                self.style.push_str(&rule);
                            }
                            _ => light.push_str(&color(name, item)?),
                        }
                    }
                    if !light.is_empty() {
                        // Before the dark ones, which else would not count.
                        let rule = format!("@media not (prefers-color-scheme:dark){{:root{{{light}}}}}\n");
                        self.style.push_str(&rule);
                    }
                }
                _ => return Err(format!("`{key}`: expected title = \"…\", logo = \"FILE\" and [colors]")),
            }
        }
        Ok(())
    }
}

/// Writes text as HTML. minijinja's own way escapes slashes too, which makes addresses hard to read.
fn write_escaped(
    out: &mut Output<'_>,
    state: &mut State<'_, '_>,
    value: &Value,
) -> Result<(), minijinja::Error> {
    let Some(text) = value.as_str().filter(|_| !value.is_safe()) else {
        return escape_formatter(out, state, value);
    };
    for piece in text.split_inclusive(['&', '<', '>', '"', '\'']) {
        let (plain, last) = match piece.char_indices().next_back() {
            Some((at, '&')) => (&piece[..at], "&amp;"),
            Some((at, '<')) => (&piece[..at], "&lt;"),
            Some((at, '>')) => (&piece[..at], "&gt;"),
            Some((at, '"')) => (&piece[..at], "&quot;"),
            Some((at, '\'')) => (&piece[..at], "&#x27;"),
            _ => (piece, ""),
        };
        out.write_str(plain).and_then(|()| out.write_str(last))?;
    }
    Ok(())
}

/// A variable of the style sheet.
fn color(name: &str, item: &Item) -> Result<String, String> {
    if !COLORS.contains(&name) {
        return Err(format!(
            "there is no colour `{name}`; there are {} and the table dark",
            COLORS.join(", ")
        ));
    }
    let value = item.as_str().unwrap_or_default();
    let digits = value.strip_prefix('#').unwrap_or_default();
    if !matches!(digits.len(), 3 | 6) || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(format!("the colour `{name}` is not one; write it like \"#0b57d0\""));
    }
    Ok(format!("--{}:{value};", name.replace('_', "-")))
}

/// A style sheet that can stand in a page.
fn style_sheet(text: &str) -> Result<String, String> {
    match text.contains("</") {
        true => Err("has `</`, which would end it within a page".to_owned()),
        false => Ok(format!("{text}\n")),
    }
}

fn read_text(path: &Path) -> Result<String, String> {
    let metadata = fs::metadata(path).map_err(|e| format!("cannot be read: {e}"))?;
    if !metadata.is_file() || metadata.len() > MAX_FILE {
        return Err(format!("is not a file of at most {MAX_FILE} bytes"));
    }
    fs::read_to_string(path).map_err(|e| format!("cannot be read: {e}"))
}

/// An image as it stands in a page.
fn data_url(path: &Path) -> Result<String, String> {
    let kind =
        match path.extension().and_then(|ending| ending.to_str()).map(str::to_ascii_lowercase).as_deref() {
            Some("svg") => "image/svg+xml",
            Some("png") => "image/png",
            Some("jpg" | "jpeg") => "image/jpeg",
            Some("webp") => "image/webp",
            _ => return Err("`logo`: a logo is an .svg, .png, .jpg or .webp file".to_owned()),
        };
    let cannot = |error: std::io::Error| format!("`logo`: {} cannot be read: {error}", path.display());
    if fs::metadata(path).map_err(cannot)?.len() > MAX_LOGO {
        return Err(format!(
            "`logo`: {} has more than {MAX_LOGO} bytes; it travels with each page",
            path.display()
        ));
    }
    Ok(format!("data:{kind};base64,{}", STANDARD.encode(fs::read(path).map_err(cannot)?)))
}

fn built_in(text: &str) -> BTreeMap<String, String> {
    parse_texts(text).unwrap_or_default()
}

fn parse_texts(text: &str) -> Result<BTreeMap<String, String>, String> {
    let document: Document<String> =
        Document::parse(text.to_owned()).map_err(|error| error.to_string().trim_end().to_owned())?;
    let texts = document.iter().map(|(key, item)| match item.as_str() {
        Some(text) => Ok((key.to_owned(), text.to_owned())),
        None => Err(format!("`{key}`: expected a text in quotes")),
    });
    texts.collect()
}

/// An operator's texts: only names that are known, with placeholders that the text of that name has.
fn texts(text: &str, english: &BTreeMap<String, String>) -> Result<BTreeMap<String, String>, String> {
    let texts = parse_texts(text)?;
    for (key, text) in &texts {
        let Some(original) = english.get(key) else {
            return Err(format!("there is no text `{key}`; there are {}", names(english)));
        };
        if let Some(unknown) =
            placeholders(text).find(|name| !placeholders(original).any(|known| known == *name))
        {
            return Err(format!(
                "`{key}`: nothing stands for {{{unknown}}} here; the built-in text is \"{original}\""
            ));
        }
    }
    Ok(texts)
}

fn names(texts: &BTreeMap<String, String>) -> String {
    texts.keys().map(String::as_str).collect::<Vec<_>>().join(", ")
}

fn placeholders(text: &str) -> impl Iterator<Item = &str> {
    text.split('{').skip(1).filter_map(|rest| rest.split_once('}')).map(|(name, _)| name)
}

/// What is wrong with a template, with its line.
pub(super) fn template_problem(error: &minijinja::Error) -> String {
    let line = error.line().map_or(String::new(), |line| format!("line {line}: "));
    let detail = error
        .detail()
        .map_or_else(|| error.kind().to_string(), |detail| format!("{}: {detail}", error.kind()));
    format!("{line}{detail}")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn with(files: &[(&str, &str)]) -> Result<Branding, String> {
        let dir = tempfile::tempdir().unwrap();
        files.iter().for_each(|(name, text)| fs::write(dir.path().join(name), text).unwrap());
        Branding::load(Some(dir.path())).map_err(|error| error.to_string())
    }

    #[test]
    fn every_language_has_every_text_and_the_same_placeholders() {
        let english = built_in(LANGUAGES[0].1);
        assert!(english.len() > 30);
        for (language, text) in LANGUAGES {
            let found = texts(text, &english).unwrap();
            assert_eq!(found.keys().collect::<Vec<_>>(), english.keys().collect::<Vec<_>>(), "{language}");
            for (key, text) in &found {
                let sorted = |text: &str| {
                    let mut names: Vec<String> = placeholders(text).map(str::to_owned).collect();
                    names.sort();
                    names
                };
                assert_eq!(sorted(text), sorted(&english[key]), "{language} {key}");
            }
        }
    }

    #[test]
    fn values_are_never_read_as_placeholders() {
        let texts = BTreeMap::from([("a".to_owned(), "{user} of {roles} {".to_owned())]);
        let texts = Texts { language: "en".into(), texts };
        assert_eq!(texts.filled("a", &[("user", "{roles}"), ("roles", "x")]), "{roles} of x {");
    }

    #[test]
    fn an_operators_folder_takes_the_place_of_what_is_built_in() {
        let branding = with(&[
            ("branding.toml", "title = \"Lab\"\nlogo = \"logo.svg\"\n[colors]\naccent = \"#123456\"\n[colors.dark]\naccent = \"#abc\""),
            ("logo.svg", "<svg/>"),
            ("texts.de.toml", "sign_in = \"Einloggen\""),
            ("style.css", "main{border:0}"),
            ("message.html", "{{ heading }}"),
            ("notes.txt", "is left alone"),
        ])
        .unwrap();
        assert_eq!(
            (&*branding.title, branding.logo.as_deref()),
            ("Lab", Some("data:image/svg+xml;base64,PHN2Zy8+"))
        );
        assert!(branding.style.contains("--accent:#123456;") && branding.style.ends_with("main{border:0}\n"));
        let german = branding.languages.iter().find(|texts| texts.language == "de").unwrap();
        assert_eq!((german.get("sign_in"), german.get("sign_out")), ("Einloggen", "Abmelden"));
    }

    #[test]
    fn mistakes_are_named_with_their_file_and_what_would_be_right() {
        for (file, text, expected) in [
            ("branding.toml", "title = ", "branding.toml: TOML parse error at line 1"),
            ("branding.toml", "titel = \"x\"", "`titel`: expected title"),
            ("branding.toml", "logo = \"logo.exe\"", "a logo is an .svg"),
            ("branding.toml", "logo = \"gone.svg\"", "cannot be read"),
            ("branding.toml", "[colors]\naccent = \"red;}\"", "the colour `accent` is not one"),
            ("branding.toml", "[colors]\naccents = \"#fff\"", "there is no colour `accents`"),
            ("texts.de.toml", "sign_inn = \"x\"", "there is no text `sign_inn`"),
            ("texts.de.toml", "signed_in_as = \"{name}\"", "nothing stands for {name} here"),
            ("texts.de.toml", "sign_in = 1", "expected a text in quotes"),
            ("texts.x_y.toml", "", "is not named after a language"),
            ("style.css", "</style>", "has `</`"),
            ("login.html", "{% if %}", "line 1: syntax error"),
            ("lgoin.html", "x", "is not used"),
        ] {
            let error = with(&[(file, text)]).unwrap_err();
            assert!(error.contains(expected), "{file}: {error}");
        }
    }

    #[test]
    fn wider_languages_and_then_english_stand_in_for_missing_texts() {
        let branding = with(&[
            ("texts.fr.toml", "sign_in = \"Se connecter\""),
            ("texts.de-AT.toml", "sign_out = \"Tschüss\""),
            ("texts.de-AT-wien.toml", "sign_in = \"Servus\""),
        ])
        .unwrap();
        let of = |language: &str, name: &str| {
            let texts = branding.languages.iter().find(|texts| texts.language == language).unwrap();
            texts.get(name).to_owned()
        };
        for (language, name, expected) in [
            ("fr", "sign_in", "Se connecter"),
            ("fr", "sign_out", "Sign out"),
            ("de-at", "sign_out", "Tschüss"),
            ("de-at", "sign_in", "Anmelden"),
            ("de-at-wien", "sign_in", "Servus"),
            ("de-at-wien", "sign_out", "Tschüss"),
            ("de-at-wien", "username", "Benutzername"),
        ] {
            assert_eq!(of(language, name), expected, "{language} {name}");
        }
        let [warning] = &branding.warnings[..] else { panic!("{:?}", branding.warnings) };
        assert!(warning.contains("the language fr has no text for account_locked,"), "{warning}");
        assert!(warning.contains("texts.fr.toml") && !warning.contains(" sign_in,"), "{warning}");
    }
}
