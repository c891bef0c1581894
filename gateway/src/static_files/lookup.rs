//! Lookup of static files: no dotfiles, no `node_modules`, no directory listings, no links out of the folder,
//! regular files only.

use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::HeaderValue;
use http::header::{CONTENT_LENGTH, CONTENT_RANGE, LAST_MODIFIED};

use super::compression::extension;
use super::{media_type, text};
use crate::content_coding::ContentCoding;

/// Where npm puts third-party pages and scripts: served, they would run with the origin's tokens.
const PACKAGES: &str = "node_modules";
/// The one dotted name that is served (RFC 8615), at the root of an origin.
const WELL_KNOWN: &str = ".well-known";

/// The result of a lookup.
#[derive(Debug)]
pub(super) enum Lookup {
    File(Found),
    /// A folder with an `index.html`, requested without a trailing slash.
    Directory,
}

/// A file that is served.
#[derive(Debug)]
pub(super) struct Found {
    /// Its path relative to the folder.
    pub(super) path: String,
    pub(super) plain: FileState,
    /// The precompressed file `.br`.
    br: Option<FileState>,
    /// The precompressed file `.gz`.
    gzip: Option<FileState>,
}

impl Found {
    /// The precompressed file with that content coding.
    pub(super) fn stored(&self, coding: ContentCoding) -> Option<FileState> {
        match coding {
            ContentCoding::Brotli => self.br,
            ContentCoding::Gzip => self.gzip,
            ContentCoding::Zstd => None,
        }
    }
}

/// The state of a file, for validators.
#[derive(Debug, Clone, Copy)]
pub(super) struct FileState {
    /// In bytes.
    pub(super) len: u64,
    pub(super) modified: SystemTime,
}

impl FileState {
    /// The entity tag of the stored file; a weak one where it is compressed on the fly.
    pub(super) fn etag(self, stored: Option<ContentCoding>, weak: bool) -> HeaderValue {
        let modified = self.modified.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos());
        let suffix = stored.map(extension).unwrap_or_default().replace('.', "-");
        text(format!("{}\"{:x}-{modified:x}{suffix}\"", if weak { "W/" } else { "" }, self.len))
    }

    pub(super) fn last_modified(self) -> HeaderValue {
        text(httpdate::fmt_http_date(self.modified))
    }

    /// Whether response fields belong to this state of the file.
    pub(super) fn is_of(self, fields: &http::HeaderMap) -> bool {
        let len = match fields.get(CONTENT_RANGE).map(|range| range.to_str()) {
            Some(range) => range.ok().and_then(|range| range.rsplit('/').next()),
            None => fields.get(CONTENT_LENGTH).and_then(|len| len.to_str().ok()),
        };
        len.and_then(|len| len.parse().ok()) == Some(self.len)
            && fields.get(LAST_MODIFIED) == Some(&self.last_modified())
    }
}

/// Whether the path is never served, whatever is there. `at_root` is whether the folder is the root of an
/// origin.
pub(super) fn is_closed(below: &str, at_root: bool) -> bool {
    segments(below).enumerate().any(|(place, segment)| {
        let well_known = at_root && place == 0 && segment == WELL_KNOWN;
        (segment.starts_with('.') && !well_known) || segment == PACKAGES || segment.contains(['\\', '\0'])
    })
}

/// Whether a path can be a client-side route of a single-page app, such as `/users/jane.doe`: not an asset,
/// and not a path that scanners probe.
pub(super) fn may_be_page(below: &str) -> bool {
    let last = below.rsplit('/').next().unwrap_or(below);
    let extension = last.rsplit_once('.').map(|(_, extension)| extension);
    segments(below).next() != Some(WELL_KNOWN) && !extension.is_some_and(media_type::is_of_asset)
}

/// Whether the error means that the file does not exist or may not be read.
pub(super) fn is_absence(error: &io::Error) -> bool {
    use io::ErrorKind::{InvalidFilename, InvalidInput, NotADirectory, NotFound, PermissionDenied};
    matches!(error.kind(), NotFound | NotADirectory | PermissionDenied | InvalidInput | InvalidFilename)
        || error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error())
}

/// Looks a path up. Blocking. Opens nothing, as opening a FIFO would block.
///
/// # Errors
///
/// Those of the file system; `NotFound` for what exists and is not served.
pub(super) fn look_up(folder: &Path, below: &str) -> io::Result<Lookup> {
    let path = segments(below).collect::<Vec<_>>().join("/");
    let metadata = within(folder, &path)?;
    if !metadata.is_dir() {
        if below.ends_with('/') {
            return Err(io::ErrorKind::NotFound.into());
        }
        return found(folder, path).map(Lookup::File);
    }
    let index = if path.is_empty() { "index.html".to_owned() } else { format!("{path}/index.html") };
    let found = found(folder, index)?;
    Ok(if below.ends_with('/') { Lookup::File(found) } else { Lookup::Directory })
}

fn found(folder: &Path, path: String) -> io::Result<Found> {
    let plain = state(folder, &path)?;
    let beside = |coding: ContentCoding| state(folder, &format!("{path}{}", extension(coding))).ok();
    let (br, gzip) = (beside(ContentCoding::Brotli), beside(ContentCoding::Gzip));
    Ok(Found { path, plain, br, gzip })
}

/// The state of a regular file.
fn state(folder: &Path, path: &str) -> io::Result<FileState> {
    let metadata = within(folder, path)?;
    if !metadata.is_file() {
        return Err(io::ErrorKind::NotFound.into());
    }
    // The epoch where the file system has no times, and for times before it, which HTTP dates cannot
    // represent.
    let modified = metadata.modified().unwrap_or(UNIX_EPOCH).max(UNIX_EPOCH);
    // HTTP dates have a year of four digits.
    let latest = UNIX_EPOCH + Duration::from_secs(253_402_300_799);
    Ok(FileState { len: metadata.len(), modified: modified.min(latest) })
}

/// The metadata of the path, if it is within the folder after resolving links.
fn within(folder: &Path, path: &str) -> io::Result<std::fs::Metadata> {
    let target = folder.join(path).canonicalize()?;
    if !target.starts_with(folder) {
        return Err(io::ErrorKind::NotFound.into());
    }
    std::fs::metadata(target)
}

fn segments(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter(|segment| !segment.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dotfiles_are_closed_and_well_known_is_not() {
        for (path, at_root, closed) in [
            ("/", true, false),
            ("/a/b.c", true, false),
            ("/.env", true, true),
            ("/a/.git/config", true, true),
            ("/.well-known/security.txt", true, false),
            ("/.well-known/.git/config", true, true),
            ("/a/.well-known/x", true, true),
            ("/.well-known/x", false, true),
            ("/.Well-Known/x", true, true),
            ("/.well-knownx", true, true),
            ("/node_modules/x", true, true),
            ("/a/node_modules", false, true),
            ("/a\\..\\b", true, true),
            ("/a\0b", true, true),
        ] {
            assert_eq!(is_closed(path, at_root), closed, "{path} {at_root}");
        }
    }

    #[test]
    fn pages_may_have_dots_and_what_pages_load_is_no_page() {
        for (path, page) in [
            ("/settings", true),
            ("/settings/", true),
            ("/users/jane.doe", true),
            ("/users/jane@example.com", true),
            ("/v1.2/notes", true),
            ("/docs/v1.2", true),
            ("/reports/2024.pdf", true),
            ("/old/index.php", true),
            ("/app.js", false),
            ("/assets/x.JS", false),
            ("/x.css", false),
            ("/favicon.ico", false),
            ("/.well-known/openid-configuration", false),
        ] {
            assert_eq!(may_be_page(path), page, "{path}");
        }
    }
}
