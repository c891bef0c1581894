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

use crate::http1::{BodyError, HeaderKind};
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
pub(crate) async fn respond(authorized: Authorized) -> Result<Response, Rejection> {
    let (request, route) = (authorized.view(), authorized.route());
    let Target::Static { root, index_fallback } = &route.target else {
        return Err(Rejection::new(Code::NotFound, "the route has no files"));
    };
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return Err(Rejection::new(Code::MethodNotAllowed, "files can only be read").allow("GET, HEAD"));
    }
    let path = request.decoded_path();
    let below = if route.path() == "/" { path } else { path.strip_prefix(route.path()).unwrap_or(path) };
    let below = if below.is_empty() { "/".to_owned() } else { below.to_owned() };
    let fallback = *index_fallback && is_page(&below) && wants_html(request);
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
        .headers()
        .of_kind(HeaderKind::IfNoneMatch)
        .any(|f| f.members().any(|m| m == b"*" || m.strip_prefix(b"W/").unwrap_or(m) == etag.as_bytes()));
    let mut response = response::empty(if unchanged { StatusCode::NOT_MODIFIED } else { StatusCode::OK });
    let mut field = |name: &'static str, value: &str| {
        response.headers_mut().append(name, response::header_value(value));
    };
    field("etag", &etag);
    field("cache-control", "no-cache");
    field("content-security-policy", CSP);
    field("x-content-type-options", "nosniff");
    field("referrer-policy", "no-referrer");
    field("cross-origin-opener-policy", "same-origin");
    field("cross-origin-resource-policy", "same-origin");
    field("permissions-policy", "camera=(), geolocation=(), microphone=()");
    if fallback {
        field("vary", "Accept");
    }
    if !unchanged {
        field("content-type", content_type(&path));
        let file = FileBody::new(File::from_std(file), metadata.len());
        *response.body_mut() = Body::File(Box::new(file));
    }
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
fn wants_html(request: RequestView<'_>) -> bool {
    let accepts = request.headers().iter().filter(|f| f.name.eq_ignore_ascii_case(b"accept"));
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
    left: u64,
    buffer: Box<[u8]>,
}

impl FileBody {
    fn new(file: File, len: u64) -> FileBody {
        let size = len.min(READ_SIZE as u64) as usize;
        FileBody { file, left: len, buffer: vec![0; size].into() }
    }

}

/// The body of a file.
pub(crate) type StaticBody = FileBody;

impl http_body::Body for FileBody {
    type Data = bytes::Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<http_body::Frame<bytes::Bytes>>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        let this = &mut *self;
        let mut buffer = ReadBuf::new(&mut this.buffer);
        ready!(Pin::new(&mut this.file).poll_read(cx, &mut buffer))?;
        let n = (buffer.filled().len() as u64).min(this.left);
        if n == 0 {
            return Poll::Ready(Some(Err(io::ErrorKind::UnexpectedEof.into())));
        }
        this.left -= n;
        let piece = bytes::Bytes::copy_from_slice(&this.buffer[..n as usize]);
        Poll::Ready(Some(Ok(http_body::Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> http_body::SizeHint {
        http_body::SizeHint::with_exact(self.left)
    }
}
