//! Whether a person opens a page: only then is a login page an answer. To an image, a script or an API call it would be an error
//! that is hard to see.

use http::Method;

use crate::http1::{HeaderField, HeaderKind, Headers};

/// What a request is to a browser.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RequestPurpose {
    /// A page is opened.
    Navigation,
    /// A form was sent: the person sees what comes back, and a redirect would lose what was typed.
    FormSubmission,
    /// No person waits for it, or what it becomes is no response: a prefetch, a service worker's script, a WebSocket, gRPC.
    Background,
    /// An image, a script, an event stream, an API call, or a program.
    Other,
}

/// Finds out by `Sec-Fetch-Mode` (Fetch Metadata). Where a browser sends none, a GET or HEAD that prefers HTML opens a page.
pub(crate) fn purpose(method: &Method, headers: &Headers) -> RequestPurpose {
    let mut said = Said::default();
    headers.iter().for_each(|field| said.read(&field));
    let is_read = matches!(*method, Method::GET | Method::HEAD);
    if said.background || headers.asks_for_upgrade() {
        return RequestPurpose::Background;
    }
    let shown = match (said.fetch_mode, said.is_part) {
        (Some(mode), _) => mode == b"navigate",
        (None, true) => false,
        (None, false) => !said.by_script && prefers_html(&said.accept),
    };
    match (shown, is_read) {
        (true, true) => RequestPurpose::Navigation,
        (true, false) => RequestPurpose::FormSubmission,
        (false, _) => RequestPurpose::Other,
    }
}

/// What `Sec-Fetch-Dest` says of pages, in a window and in another page.
const PAGES: [&[u8]; 6] = [b"document", b"iframe", b"frame", b"fencedframe", b"embed", b"object"];

/// What the fields of a request say of its purpose.
#[derive(Default)]
struct Said<'h> {
    fetch_mode: Option<&'h [u8]>,
    /// `Sec-Fetch-Dest` names what is no page: an image, say, or what a script asks for.
    is_part: bool,
    accept: Vec<&'h [u8]>,
    /// `X-Requested-With: XMLHttpRequest`, as libraries write it.
    by_script: bool,
    background: bool,
}

impl<'h> Said<'h> {
    fn read(&mut self, field: &HeaderField<'h>) {
        let is = |name: &[u8]| field.name.eq_ignore_ascii_case(name);
        let has = |word: &[u8]| {
            let words = field.value.split(|b| b";, ".contains(b));
            words.into_iter().any(|found| found.eq_ignore_ascii_case(word))
        };
        match field.name.len() {
            6 if is(b"accept") => self.accept.extend(field.members()),
            14 if is(b"sec-fetch-mode") => self.fetch_mode = Some(field.value),
            14 if is(b"sec-fetch-dest") => self.is_part = !PAGES.contains(&field.value),
            16 if is(b"x-requested-with") => self.by_script |= has(b"xmlhttprequest"),
            11 if is(b"sec-purpose") => self.background |= has(b"prefetch") || has(b"prerender"),
            // The same of earlier browsers.
            7 if is(b"purpose") => self.background |= has(b"prefetch"),
            9 if is(b"x-purpose") => self.background |= has(b"preview") || has(b"prefetch"),
            5 if is(b"x-moz") => self.background |= has(b"prefetch"),
            14 if is(b"service-worker") => self.background = true,
            12 if field.kind == HeaderKind::ContentType => {
                self.background |=
                    field.value.len() >= 16 && field.value[..16].eq_ignore_ascii_case(b"application/grpc");
            }
            _ => {}
        }
    }
}

/// Whether HTML is named and nothing is liked better (RFC 9110 section 12.5.1). Of types that are liked alike, the first counts:
/// programs that take both write theirs first.
fn prefers_html(accept: &[&[u8]]) -> bool {
    let mut best: Option<(u32, bool)> = None;
    for member in accept {
        let mut parts = member.split(|&b| b == b';').map(<[u8]>::trim_ascii);
        let media_type = parts.next().unwrap_or_default();
        let quality = parts
            .find_map(|part| part.strip_prefix(b"q=").or_else(|| part.strip_prefix(b"Q=")))
            .map_or(Some(1.0), |q| std::str::from_utf8(q).ok()?.parse::<f32>().ok());
        let Some(quality) = quality.filter(|q| (0.0..=1.0).contains(q)) else { continue };
        let is_html = media_type.eq_ignore_ascii_case(b"text/html")
            || media_type.eq_ignore_ascii_case(b"application/xhtml+xml");
        let thousandths = (quality * 1000.0) as u32;
        if thousandths > best.map_or(0, |(best, _)| best) {
            best = Some((thousandths, is_html));
        }
    }
    best.is_some_and(|(_, is_html)| is_html)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::RequestPurpose::*;
    use super::*;
    use crate::http1::{HeadLimits, RequestHead};

    fn of(method: &str, fields: &str) -> RequestPurpose {
        let mut head = RequestHead::default();
        let text = format!("{method} / HTTP/1.1\r\n{}\r\n", fields.replace('|', "\r\n") + "\r\n");
        head.parse(text.trim_start().as_bytes(), &HeadLimits::default()).unwrap().unwrap();
        purpose(head.method(), head.headers())
    }

    #[test]
    fn a_person_opens_pages_and_sends_forms_and_the_rest_is_not_for_eyes() {
        let html = "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8";
        for (method, fields, expected) in [
            ("GET", "Sec-Fetch-Mode: navigate|Sec-Fetch-Dest: document".to_owned(), Navigation),
            ("HEAD", "Sec-Fetch-Mode: navigate".to_owned(), Navigation),
            ("GET", "Sec-Fetch-Mode: navigate|Sec-Fetch-Dest: iframe".to_owned(), Navigation),
            ("POST", format!("Sec-Fetch-Mode: navigate|{html}"), FormSubmission),
            ("GET", format!("Sec-Fetch-Mode: no-cors|Sec-Fetch-Dest: image|{html}"), Other),
            ("GET", format!("Sec-Fetch-Mode: cors|{html}"), Other),
            ("GET", format!("Sec-Fetch-Mode: same-origin|{html}"), Other),
            ("GET", "Sec-Fetch-Mode: no-cors|Sec-Fetch-Dest: script|Accept: */*".to_owned(), Other),
            ("GET", "Sec-Fetch-Mode: cors|Accept: text/event-stream".to_owned(), Other),
            // Speculation, and what browsers do by themselves.
            ("GET", "Sec-Fetch-Mode: navigate|Sec-Purpose: prefetch".to_owned(), Background),
            ("GET", "Sec-Fetch-Mode: navigate|Sec-Purpose: prefetch;prerender".to_owned(), Background),
            ("GET", format!("Purpose: prefetch|{html}"), Background),
            ("GET", format!("X-Moz: prefetch|{html}"), Background),
            ("GET", format!("X-Purpose: preview|{html}"), Background),
            ("GET", format!("Sec-Fetch-Mode: same-origin|Service-Worker: script|{html}"), Background),
            ("GET", format!("Service-Worker: script|{html}"), Background),
            (
                "GET",
                "Sec-Fetch-Mode: websocket|Upgrade: websocket|Connection: Upgrade".to_owned(),
                Background,
            ),
            ("GET", format!("Upgrade: websocket|Connection: Upgrade|{html}"), Background),
            ("GET", format!("Upgrade: h2c|Connection: Upgrade, HTTP2-Settings|{html}"), Navigation),
            ("POST", format!("Content-Type: application/grpc|{html}"), Background),
            ("POST", "Content-Type: application/grpc-web+proto".to_owned(), Background),
            ("GET", format!("Sec-Fetch-Dest: image|{html}"), Other),
            ("GET", format!("Sec-Fetch-Dest: empty|{html}"), Other),
            ("POST", format!("Sec-Fetch-Dest: audioworklet|{html}"), Other),
            ("GET", format!("Sec-Fetch-Dest: document|{html}"), Navigation),
            ("GET", "Sec-Fetch-Dest: document|Accept: */*".to_owned(), Other),
            // Browsers without Sec-Fetch, and plain HTTP.
            ("GET", html.to_owned(), Navigation),
            ("HEAD", html.to_owned(), Navigation),
            ("POST", html.to_owned(), FormSubmission),
            ("GET", "Accept: TEXT/HTML".to_owned(), Navigation),
            ("GET", "Accept: application/json;q=0.5|Accept: text/html".to_owned(), Navigation),
            ("GET", "Accept: text/html;q=0.9, application/json;q=0.8".to_owned(), Navigation),
            ("GET", format!("X-Requested-With: XMLHttpRequest|{html}"), Other),
            ("GET", "Accept: text/html, */*; q=0.01|X-Requested-With: XMLHttpRequest".to_owned(), Other),
            ("GET", "Accept: application/json, text/html".to_owned(), Other),
            ("GET", "Accept: application/json, text/html;q=0.9".to_owned(), Other),
            ("GET", "Accept: application/json, text/plain, */*".to_owned(), Other),
            ("GET", "Accept: text/html;q=0".to_owned(), Other),
            ("GET", "Accept: text/html;q=x".to_owned(), Other),
            ("GET", "Accept: text/htmlx".to_owned(), Other),
            ("GET", "Accept: text/*".to_owned(), Other),
            ("GET", "Accept: */*".to_owned(), Other),
            ("GET", "Accept: image/avif,image/webp,*/*;q=0.8".to_owned(), Other),
            ("GET", "Accept: text/event-stream".to_owned(), Other),
            ("GET", "Host: a".to_owned(), Other),
        ] {
            assert_eq!(of(method, &fields), expected, "{method} {fields}");
        }
    }
}
