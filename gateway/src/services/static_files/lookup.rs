//! Which files of a folder are served: no dotfiles, nothing that npm installed, no listings, no links out of the folder, and
//! nothing but regular files.

use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::HeaderValue;
use http::header::{CONTENT_LENGTH, CONTENT_RANGE, LAST_MODIFIED};

use super::compression::ContentCoding;
use super::{media_type, text};

/// Where npm puts other people's pages and scripts: served, they would run with the origin's tokens.
const PACKAGES: &str = "node_modules";
/// The one name with a dot that is meant to be read (RFC 8615), at the root of an origin.
const WELL_KNOWN: &str = ".well-known";

/// What a path stands for.
#[derive(Debug)]
pub(super) enum Lookup {
    File(Found),
    /// A folder with an `index.html`, named without a slash at its end.
    Directory,
}

/// A file that is served.
#[derive(Debug)]
pub(super) struct Found {
    /// Its name below the folder, without a slash at the beginning.
    pub(super) path: String,
    pub(super) plain: FileState,
    /// The file with `.br` behind its name.
    br: Option<FileState>,
    /// The file with `.gz` behind its name.
    gzip: Option<FileState>,
}

impl Found {
    /// The state of the file beside this one that has the content coding.
    pub(super) fn stored(&self, coding: ContentCoding) -> Option<FileState> {
        match coding {
            ContentCoding::Brotli => self.br,
            ContentCoding::Gzip => self.gzip,
        }
    }
}

/// What tells one state of a file from another.
#[derive(Debug, Clone, Copy)]
pub(super) struct FileState {
    /// In bytes.
    pub(super) len: u64,
    pub(super) modified: SystemTime,
}

impl FileState {
    /// The entity tag of the file as it is stored; a weak one where its bytes are coded on the way.
    pub(super) fn etag(self, stored: Option<ContentCoding>, weak: bool) -> HeaderValue {
        let modified = self.modified.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos());
        let suffix = stored.map(ContentCoding::extension).unwrap_or_default().replace('.', "-");
        text(format!("{}\"{:x}-{modified:x}{suffix}\"", if weak { "W/" } else { "" }, self.len))
    }

    pub(super) fn last_modified(self) -> HeaderValue {
        text(httpdate::fmt_http_date(self.modified))
    }

    /// Whether the fields are those of an answer with a file in this state, or with a part of it.
    pub(super) fn is_of(self, fields: &http::HeaderMap) -> bool {
        let len = match fields.get(CONTENT_RANGE).map(|range| range.to_str()) {
            Some(range) => range.ok().and_then(|range| range.rsplit('/').next()),
            None => fields.get(CONTENT_LENGTH).and_then(|len| len.to_str().ok()),
        };
        len.and_then(|len| len.parse().ok()) == Some(self.len)
            && fields.get(LAST_MODIFIED) == Some(&self.last_modified())
    }
}

/// Whether nothing at the path is served, whatever is there. `at_root` says that the folder is the root of an origin.
pub(super) fn is_closed(below: &str, at_root: bool) -> bool {
    segments(below).enumerate().any(|(place, segment)| {
        let well_known = at_root && place == 0 && segment == WELL_KNOWN;
        (segment.starts_with('.') && !well_known) || segment == PACKAGES || segment.contains(['\\', '\0'])
    })
}

/// Whether a path can be a page of an app that has its own idea of addresses, such as `/users/jane.doe`: it is no file that
/// pages load, and nothing that programs look for.
pub(super) fn may_be_page(below: &str) -> bool {
    let last = below.rsplit('/').next().unwrap_or(below);
    let extension = last.rsplit_once('.').map(|(_, extension)| extension);
    segments(below).next() != Some(WELL_KNOWN) && !extension.is_some_and(media_type::is_of_asset)
}

/// Whether the error says that there is no such file, or none for us.
pub(super) fn is_absence(error: &io::Error) -> bool {
    use io::ErrorKind::{InvalidFilename, InvalidInput, NotADirectory, NotFound, PermissionDenied};
    matches!(error.kind(), NotFound | NotADirectory | PermissionDenied | InvalidInput | InvalidFilename)
        || error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error())
}

/// Looks for the file that a path names; blocks. Nothing is opened, for opening a FIFO waits for who writes to it.
///
/// # Errors
///
/// Those of the file system; `NotFound` for what is there and not served.
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
    let beside = |coding: ContentCoding| state(folder, &format!("{path}{}", coding.extension())).ok();
    let (br, gzip) = (beside(ContentCoding::Brotli), beside(ContentCoding::Gzip));
    Ok(Found { path, plain, br, gzip })
}

/// The state of a regular file.
fn state(folder: &Path, path: &str) -> io::Result<FileState> {
    let metadata = within(folder, path)?;
    if !metadata.is_file() {
        return Err(io::ErrorKind::NotFound.into());
    }
    // The epoch where the file system knows no times, and for times before it: dates in header fields begin there.
    let modified = metadata.modified().unwrap_or(UNIX_EPOCH).max(UNIX_EPOCH);
    // Dates in header fields have four digits for the year.
    let latest = UNIX_EPOCH + Duration::from_secs(253_402_300_799);
    Ok(FileState { len: metadata.len(), modified: modified.min(latest) })
}

/// What is at the path, if that lies in the folder. A link may lead anywhere; what it leads to counts.
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
