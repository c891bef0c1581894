//! `[browser]`: sessions in cookies and sign-in pages, for people who use apps that know nothing of tokens.

use super::cors::origin;
use super::prelude::*;
use super::upstreams::is_host;
use crate::http1::Host;

section! {
    /// Sessions in cookies, and sign-in pages, for people who use apps that know nothing of tokens.
    pub struct Browser {
        /// A person who opens a page without a session is led to a sign-in page and back. The gateway keeps the session in
        /// cookies that no upstream sees, refreshes it by itself, and shows pages instead of JSON.
        enabled: bool = boolean().default("false");
        /// One sign-in for this name and every host below it: the cookies are sent to all of them, so all of them have to be
        /// yours. Without it, each host has sessions of its own, which no other host can set.
        domain: Option<String> = text(domain).example("\"example.org\"");
        /// Other hosts that a sign-in may lead back to, with a port where that is not the usual one. An address that leads
        /// anywhere else is dropped.
        return_hosts: Vec<String> = texts(host).or_empty().example("[\"app.example.org\"]");
        /// Origins besides each host's own whose pages may send requests that change something with the session's cookie, and
        /// open WebSockets, each exactly as browsers send it.
        trusted_origins: Vec<String> = texts(origin).or_empty().example("[\"https://portal.example.org\"]");
        /// The host that has the sign-in page for all others. With `domain` they share its cookies; without, it hands each of them
        /// in return_hosts a session of its own, by an address that counts once.
        login_host: Option<String> = text(host).example("\"login.example.org\"");
        /// Whether a session outlives the browser, up to tokens.refresh_ttl: "off", "ask" (a box to tick), or "always".
        remember_me: RememberMe = choice().default("off");
        /// Where a sign-in leads that came from nowhere: a path.
        home: String = text(home).default("/");
        /// What the names of the cookies begin with. Gateways on different ports of one host need different ones, for browsers
        /// do not tell cookies of ports apart.
        cookie_name: String = text(cookie_name).default("auth_gateway");
        /// A folder with your title, logo, colours, texts and templates for the pages: branding.toml, texts.LANGUAGE.toml,
        /// style.css, layout.html, login.html, form.html, message.html, tokens.html, each of which may be missing.
        branding_dir: Option<PathBuf> = text(existing_folder).example("\"branding\"");
    }
}

/// Whether a session outlives the browser.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RememberMe {
    /// It does not.
    Off,
    /// The person who signs in says.
    Ask,
    /// It does.
    Always,
}

impl RememberMe {
    /// Whether the session outlives the browser of a person who asked for it or not.
    pub fn applies(self, asked: bool) -> bool {
        match self {
            RememberMe::Always => true,
            RememberMe::Ask => asked,
            RememberMe::Off => false,
        }
    }
}

impl Browser {
    pub(super) fn check(&self, table: &Table<'_>) {
        let of = |key: &str| table.entry(key);
        let login_host = of("login_host");
        if let (Some(host), Some(domain)) = (&self.login_host, &self.domain)
            && let Ok(parsed) = Host::parse(host.as_bytes())
            && !parsed.is(domain)
            && !parsed.is_below(domain)
        {
            login_host.error(
                format!("is not below the domain {}", quoted(domain)),
                "browsers would not take its cookies: name a host below the domain",
            );
        }
        if self.login_host.is_some() && self.return_hosts.is_empty() {
            login_host.error(
                "a sign-in there could lead back to no other host",
                "name the apps' hosts in `return_hosts`",
            );
        }
    }
}

/// A name that browsers take for `Domain`.
fn domain(text: &str) -> Result<String, InvalidValue> {
    let lower = text.strip_prefix('.').unwrap_or(text).to_ascii_lowercase();
    let refuse = |why: &str| {
        refused(
            format!("the domain {} {why}", quoted(text)),
            "write a name that your hosts are below, like \"example.org\"",
        )
    };
    if !is_host(&lower) || lower.ends_with('.') {
        return refuse("is not a host name");
    }
    if !lower.contains('.') || lower.parse::<std::net::Ipv4Addr>().is_ok() {
        return refuse("cannot have cookies for the hosts below it");
    }
    Ok(lower)
}

/// A host with or without a port, in lower case.
fn host(text: &str) -> Result<String, InvalidValue> {
    let lower = text.to_ascii_lowercase();
    match Host::parse(lower.as_bytes()) {
        Ok(_) if !lower.is_empty() => Ok(lower),
        _ => refused(
            format!("{} is not a host", quoted(text)),
            "write the name, and a port where it is not the usual one, like \"app.example.org\" or \"localhost:8080\"",
        ),
    }
}

fn home(text: &str) -> Result<String, InvalidValue> {
    let is_path = text.starts_with('/') && !text.starts_with("//") && !text.contains('\\');
    accept(
        text,
        is_path && text.bytes().all(|byte| byte.is_ascii_graphic()),
        "is not a path",
        "write it like \"/lab\"",
    )
}

fn cookie_name(text: &str) -> Result<String, InvalidValue> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    accept(
        text,
        (1..=40).contains(&text.len()) && text.bytes().all(fits) && !text.starts_with("__"),
        "cannot begin a cookie's name",
        "write up to 40 letters, digits, `_` and `-`; the prefixes __Host- and __Secure- are added where they apply",
    )
}

#[cfg(test)]
mod tests {
    use super::super::test_support::{load_diagnostics, minimal, settings};
    use super::*;

    #[test]
    fn it_is_off_and_needs_one_key_to_be_on() {
        let browser = |config: &str| settings(minimal() + "[browser]\n" + config).browser;
        let off = settings(minimal()).browser;
        assert_eq!((off.enabled, off.remember_me, &*off.home), (false, RememberMe::Off, "/"));
        assert!(browser("enabled = true").enabled);
        let full = browser(
            "enabled = true\ndomain = \".Example.org\"\nreturn_hosts = [\"App.example.org\", \"[::1]:8080\"]\n\
             login_host = \"login.example.org\"\nremember_me = \"ask\"\nhome = \"/lab?x\"\ncookie_name = \"gw\"\nbranding_dir = \"src\"",
        );
        assert_eq!(full.domain.as_deref(), Some("example.org"));
        assert_eq!(full.return_hosts, ["app.example.org", "[::1]:8080"]);
    }

    #[test]
    fn what_browsers_would_not_take_is_refused() {
        for (config, message, help) in [
            ("domain = \"localhost\"", "cannot have cookies", "like \"example.org\""),
            ("domain = \"10.0.0.1\"", "cannot have cookies", ""),
            ("domain = \"https://a.example\"", "is not a host name", ""),
            ("return_hosts = [\"https://a.example\"]", "is not a host", "the name"),
            ("return_hosts = [\"a.example/x\"]", "is not a host", ""),
            ("trusted_origins = [\"a.example\"]", "has no scheme", ""),
            (
                "login_host = \"l.other.org\"\ndomain = \"example.org\"\nreturn_hosts = [\"a.example.org\"]",
                "is not below the domain",
                "",
            ),
            (
                "login_host = \"l.example.org\"\ndomain = \"example.org\"",
                "could lead back to no other host",
                "return_hosts",
            ),
            ("remember_me = true", "expected a string", ""),
            ("remember_me = \"on\"", "unknown value `on`", ""),
            ("home = \"https://a.example\"", "is not a path", "\"/lab\""),
            ("home = \"//a.example\"", "is not a path", ""),
            ("cookie_name = \"__Host-x\"", "cannot begin a cookie's name", ""),
            ("cookie_name = \"a=b\"", "cannot begin a cookie's name", ""),
            ("branding_dir = \"nowhere\"", "does not exist", ""),
        ] {
            load_diagnostics(minimal() + "[browser]\nenabled = true\n" + config).only(message, help);
        }
    }
}
