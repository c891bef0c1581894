//! `[cors]`: cross-origin requests from browsers.

use std::net::Ipv6Addr;

use crate::config::declaration::{section, texts};
use crate::config::entry::{InvalidValue, quoted};

section! {
    /// Cross-origin requests from browsers (CORS).
    pub struct Cors {
        /// Origins whose pages may call the gateway, each exactly as browsers send it: no "*", no path.
        allowed_origins: Vec<String> = texts(origin).or_empty().example("[\"http://localhost:5173\"]");
    }
}

/// An origin exactly as browsers send it (Fetch, RFC 6454 section 6.2): it is compared byte for byte.
fn origin(text: &str) -> Result<String, InvalidValue> {
    let example = "write it like \"https://app.example\" or \"http://localhost:5173\"";
    let refuse = |why: String, help: &str| Err(InvalidValue::new(format!("the origin {why}")).help(help));
    if text.contains('*') {
        let why = "may not be a pattern: any page on the web could then act with its visitor's tokens".into();
        return refuse(why, "list every origin by its full name");
    }
    if text == "null" {
        let why = "may not be `null`: sandboxed frames and local files of anyone send that".into();
        return refuse(why, "serve the page from an http:// or https:// origin");
    }
    let Some((scheme, rest)) = text.split_once("://") else {
        return refuse(format!("{} has no scheme", quoted(text)), example);
    };
    if let Some(end) = rest.find(['/', '?', '#']) {
        let origin = format!("write \"{}\"", &text[..scheme.len() + 3 + end]);
        return refuse(format!("{} goes on after host and port", quoted(text)), &origin);
    }
    if rest.contains('@') {
        return refuse("contains a user name or a password".into(), example);
    }
    let lower = text.to_ascii_lowercase();
    if lower != text {
        return refuse(
            format!("{} has capital letters", quoted(text)),
            &format!("browsers send \"{lower}\""),
        );
    }
    let (host, port) = match rest.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (rest, None),
    };
    if !is_scheme(scheme) || !is_host(host) || port.is_some_and(|port| !is_port(port)) {
        return refuse(format!("{} is not scheme://host or scheme://host:port", quoted(text)), example);
    }
    if matches!((scheme, port), ("http", Some("80")) | ("https", Some("443"))) {
        let help = format!("browsers leave it out: write \"{scheme}://{host}\"");
        return refuse(format!("{} names the port that its scheme has anyway", quoted(text)), &help);
    }
    Ok(text.to_owned())
}

fn is_scheme(scheme: &str) -> bool {
    scheme.starts_with(|c: char| c.is_ascii_lowercase())
        && scheme.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "+-.".contains(c))
}

fn is_host(host: &str) -> bool {
    match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(address) => address.parse::<Ipv6Addr>().is_ok(),
        None => !host.is_empty() && host.chars().all(|c| c.is_ascii_alphanumeric() || ".-_".contains(c)),
    }
}

fn is_port(port: &str) -> bool {
    !port.starts_with('0') && port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::super::test_support::{load_diagnostics, minimal, settings};

    #[test]
    fn exact_origins_pass() {
        let origins =
            ["http://localhost:5173", "https://app.example", "http://[::1]:80", "tauri://localhost"];
        // The default port of http is rejected only for http.
        let accepted = [origins[0], origins[1], "https://[::1]:80", origins[3]];
        let config = format!("[cors]\nallowed_origins = {accepted:?}");
        assert_eq!(settings(minimal() + &config).cors.allowed_origins, accepted);
    }

    #[test]
    fn everything_that_a_browser_never_sends_is_refused() {
        for (origin, message, help) in [
            ("*", "may not be a pattern", "full name"),
            ("https://*.example", "may not be a pattern", "full name"),
            ("null", "may not be `null`", "serve the page"),
            ("localhost:5173", "has no scheme", "http://localhost:5173"),
            ("http://a.example/", "goes on after host and port", "write \"http://a.example\""),
            ("http://a.example/x?y", "goes on after", "write \"http://a.example\""),
            ("http://u:hunter2@a.example", "a user name or a password", ""),
            ("http://A.example", "capital letters", "\"http://a.example\""),
            ("http://a.example:80", "names the port", "\"http://a.example\""),
            ("https://a.example:443", "names the port", "\"https://a.example\""),
            ("http://a.example:", "is not scheme://host", ""),
            ("http://a.example:99999", "is not scheme://host", ""),
            ("http://", "is not scheme://host", ""),
            ("http://ä.example", "is not scheme://host", ""),
            ("", "has no scheme", ""),
        ] {
            let complaints =
                load_diagnostics(minimal() + &format!("[cors]\nallowed_origins = [\"{origin}\"]"));
            complaints.only(message, help);
            complaints.only("`cors.allowed_origins[0]`", "");
            assert!(!complaints.text().contains("hunter2"));
        }
    }
}
