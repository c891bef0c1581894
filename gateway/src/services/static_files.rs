//! Files of a folder, such as a single-page app, served with headers that keep its tokens safe.

use std::fs::Metadata;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::UNIX_EPOCH;

use http::{Method, StatusCode};
use tokio::fs::File;
use tokio::io::{AsyncRead, ReadBuf};

use crate::http1::{BodyError, FieldKind};
use crate::layers::admission::Admitted;
use crate::rejection::{Code, Rejection};
use crate::response::{Response, ResponseBody};

const CSP: &str = "default-src 'none'; script-src 'self'; connect-src 'self'; style-src 'self'; \
    img-src 'self' data:; font-src 'self'; manifest-src 'self'; object-src 'none'; base-uri 'none'; \
    form-action 'self'; frame-ancestors 'none'; require-trusted-types-for 'script'";
const READ_SIZE: usize = 64 * 1024;
/// Where npm puts other people's pages and scripts: served, they would run with the origin's tokens.
const NEVER_SERVED: &str = "node_modules";

/// A folder whose files are served.
#[derive(Debug)]
pub(crate) struct StaticRoot {
    root: PathBuf,
}

impl StaticRoot {
    /// The folder, with links on its own path resolved once.
    pub(crate) fn open(root: &Path) -> io::Result<StaticRoot> {
        Ok(StaticRoot { root: root.canonicalize()? })
    }

    /// The file a path names; none for dotfiles and what npm installed. Looking may block, so this runs on the
    /// blocking pool.
    fn find(&self, path: &str) -> io::Result<(std::fs::File, Metadata, PathBuf)> {
        let not_found = || io::Error::from(io::ErrorKind::NotFound);
        let segments = || path.split('/').filter(|s| !s.is_empty());
        if segments().any(is_never_served) {
            return Err(not_found());
        }
        let mut file = self.root.clone();
        file.extend(segments());
        if path.ends_with('/') {
            file.push("index.html");
        }
        // A link may lead anywhere; what it leads to must lie in the folder.
        let file = file.canonicalize()?;
        if !file.starts_with(&self.root) {
            return Err(not_found());
        }
        let opened = std::fs::File::open(&file)?;
        let metadata = opened.metadata()?;
        if metadata.is_file() { Ok((opened, metadata, file)) } else { Err(not_found()) }
    }
}

/// Serves the file that the request names below the route's path.
pub(crate) async fn serve<'c>(
    root: &Arc<StaticRoot>,
    index_fallback: bool,
    route_path: &str,
    request: &Admitted<'_>,
) -> Result<Response<'c>, Rejection> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return Err(Rejection::new(Code::MethodNotAllowed, "files can only be read").allow("GET, HEAD"));
    }
    let path = request.target().decoded_path();
    let below = if route_path == "/" { path } else { path.strip_prefix(route_path).unwrap_or(path) };
    let below = if below.is_empty() { "/".to_owned() } else { below.to_owned() };
    let fallback = index_fallback && is_page(&below) && wants_html(request);
    let (root, found) = (Arc::clone(root), below);
    let found = tokio::task::spawn_blocking(move || match root.find(&found) {
        Err(error) if fallback && error.kind() != io::ErrorKind::PermissionDenied => root.find("/"),
        found => found,
    });
    let Ok(Ok((file, metadata, path))) = found.await else {
        return Err(Rejection::new(Code::NotFound, "no such file"));
    };
    let etag = etag(&metadata);
    let unchanged = request
        .head()
        .fields()
        .of_kind(FieldKind::IfNoneMatch)
        .any(|f| f.members().any(|m| m == b"*" || m.strip_prefix(b"W/").unwrap_or(m) == etag.as_bytes()));
    let status = if unchanged { StatusCode::NOT_MODIFIED } else { StatusCode::OK };
    let response = Response::new(status)
        .field("ETag", &etag)
        // The names do not change with the content, so a copy is good only after a look here.
        .field("Cache-Control", "no-cache")
        .field("Content-Security-Policy", CSP)
        .field("X-Content-Type-Options", "nosniff")
        .field("Referrer-Policy", "no-referrer")
        .field("Cross-Origin-Opener-Policy", "same-origin")
        .field("Cross-Origin-Resource-Policy", "same-origin")
        .field("Permissions-Policy", "camera=(), geolocation=(), microphone=()");
    // What is no file is a page to who asks for pages, and 404 to scripts.
    let response = if fallback { response.field("Vary", "Accept") } else { response };
    if unchanged {
        return Ok(response);
    }
    let mut response = response.field("Content-Type", content_type(&path));
    response.body = ResponseBody::File(Box::new(FileBody::new(File::from_std(file), metadata.len())));
    Ok(response)
}

/// Whether a path could be a page of an app that has its own idea of addresses: no file by its ending, and nothing that is
/// never served.
fn is_page(path: &str) -> bool {
    let last = path.rsplit('/').next().unwrap_or(path);
    !last.contains('.') && !path.split('/').any(is_never_served)
}

fn is_never_served(segment: &str) -> bool {
    segment.starts_with('.') || segment == NEVER_SERVED || segment.contains(['\\', '\0'])
}

/// Browsers that open a page say so; `fetch` and others that want data take anything (`*/*`), and a page would hide from
/// them that there is nothing.
fn wants_html(request: &Admitted<'_>) -> bool {
    let accepts = request.head().fields().iter().filter(|f| f.name.eq_ignore_ascii_case(b"accept"));
    accepts.into_iter().any(|field| {
        field.members().any(|member| {
            let kind = member.split(|&b| b == b';').next().unwrap_or(member);
            kind.trim_ascii().eq_ignore_ascii_case(b"text/html")
        })
    })
}

fn etag(metadata: &Metadata) -> String {
    let modified = metadata.modified().ok().and_then(|t| t.duration_since(UNIX_EPOCH).ok());
    format!("\"{:x}-{:x}\"", metadata.len(), modified.map_or(0, |d| d.as_nanos()))
}

fn content_type(path: &Path) -> &'static str {
    match path.extension().and_then(|e| e.to_str()) {
        Some("html") => "text/html; charset=utf-8",
        Some("js" | "mjs") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("json" | "map") => "application/json",
        Some("svg") => "image/svg+xml",
        Some("png") => "image/png",
        Some("jpg" | "jpeg") => "image/jpeg",
        Some("gif") => "image/gif",
        Some("webp") => "image/webp",
        Some("ico") => "image/x-icon",
        Some("woff2") => "font/woff2",
        Some("txt" | "md") => "text/plain; charset=utf-8",
        Some("webmanifest") => "application/manifest+json",
        Some("wasm") => "application/wasm",
        Some("xml") => "application/xml",
        Some("pdf") => "application/pdf",
        _ => "application/octet-stream",
    }
}

/// A file on its way out, read piece by piece.
#[derive(Debug)]
pub(crate) struct FileBody {
    file: File,
    len: u64,
    left: u64,
    buffer: Box<[u8]>,
    used: usize,
    filled: usize,
}

impl FileBody {
    fn new(file: File, len: u64) -> FileBody {
        let size = len.min(READ_SIZE as u64) as usize;
        FileBody { file, len, left: len, buffer: vec![0; size].into(), used: 0, filled: 0 }
    }

    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    pub(crate) fn is_complete(&self) -> bool {
        self.left == 0
    }

    pub(crate) fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<Result<&[u8], BodyError>> {
        if self.used == self.filled && self.left > 0 {
            let mut buffer = ReadBuf::new(&mut self.buffer);
            ready!(Pin::new(&mut self.file).poll_read(cx, &mut buffer))?;
            (self.used, self.filled) = (0, buffer.filled().len());
            if self.filled == 0 {
                // The file became shorter than it was when its length was told.
                return Poll::Ready(Err(BodyError::Truncated));
            }
        }
        Poll::Ready(Ok(self.buffered()))
    }

    /// What was read and not consumed. A file that grew meanwhile is cut at the length that was told.
    pub(crate) fn buffered(&self) -> &[u8] {
        let end = self.filled.min(self.used.saturating_add(usize::try_from(self.left).unwrap_or(usize::MAX)));
        &self.buffer[self.used..end]
    }

    pub(crate) fn consume(&mut self, n: usize) {
        self.used += n;
        self.left -= n as u64;
    }
}
