//! Media types by file extension, from the mime_guess crate's list.

use http::HeaderValue;

use super::text;

/// Extensions of assets: loaded by pages, and no pages themselves.
const ASSETS: [&str; 19] = [
    "js",
    "mjs",
    "cjs",
    "css",
    "map",
    "json",
    "wasm",
    "webmanifest",
    "ico",
    "svg",
    "png",
    "jpg",
    "jpeg",
    "gif",
    "webp",
    "avif",
    "woff",
    "woff2",
    "ttf",
];

/// The `Content-Type`. Text is UTF-8.
pub(super) fn content_type(path: &str) -> HeaderValue {
    let extension = path.rsplit_once('.').map(|(_, extension)| extension).unwrap_or_default();
    let guessed = match extension {
        // RFC 9239.
        "mjs" | "cjs" => "text/javascript",
        // A source map (ECMA-426); the crate takes it for a linker's map.
        "map" => "application/json",
        _ => mime_guess::from_path(path).first_raw().unwrap_or("application/octet-stream"),
    };
    match guessed.starts_with("text/") {
        true => text(format!("{guessed}; charset=utf-8")),
        false => HeaderValue::from_static(guessed),
    }
}

/// Whether files with this extension are assets.
pub(super) fn is_of_asset(extension: &str) -> bool {
    ASSETS.iter().any(|asset| asset.eq_ignore_ascii_case(extension))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::content_coding::is_compressible;

    #[test]
    fn types_follow_endings_and_text_is_utf_8() {
        for (path, expected, compressible) in [
            ("index.html", "text/html; charset=utf-8", true),
            ("app.js", "text/javascript; charset=utf-8", true),
            ("app.mjs", "text/javascript; charset=utf-8", true),
            ("APP.JS", "text/javascript; charset=utf-8", true),
            ("app.js.map", "application/json", true),
            ("style.css", "text/css; charset=utf-8", true),
            ("notes.txt", "text/plain; charset=utf-8", true),
            ("data.json", "application/json", true),
            ("logo.svg", "image/svg+xml", true),
            ("site.webmanifest", "application/manifest+json", true),
            ("x.wasm", "application/wasm", true),
            ("f.ttf", "font/ttf", true),
            ("f.woff2", "font/woff2", false),
            ("p.png", "image/png", false),
            ("p.avif", "image/avif", false),
            ("v.mp4", "video/mp4", false),
            ("a.zip", "application/zip", false),
            ("d.pdf", "application/pdf", false),
            ("folder.d/none", "application/octet-stream", false),
            ("none", "application/octet-stream", false),
        ] {
            let content_type = content_type(path);
            assert_eq!(content_type, expected, "{path}");
            assert_eq!(is_compressible(content_type.as_bytes()), compressible, "{path}");
        }
    }
}
