//! Static files: tower-http's `ServeDir` opens and streams files; this module decides which are served,
//! evaluates preconditions and ranges, negotiates the content coding, and adds security headers.

mod body;
mod compression;
mod conditional;
mod lookup;
mod media_type;
#[cfg(test)]
mod tests;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use http::header::{
    ACCEPT, ACCEPT_ENCODING, ACCEPT_RANGES, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE,
    CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, LAST_MODIFIED, LOCATION, RANGE, REFERRER_POLICY, VARY,
    X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Empty;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use tower_http::services::ServeDir;
use tower_http::services::fs::ServeFileSystemResponseBody;

use crate::content_coding::{ContentCoding, is_compressible};
use crate::rejection::Rejection;

pub(crate) use body::StaticBody;

use compression::CompressedFiles;
use conditional::{ByteRange, Precondition};
use lookup::{Found, Lookup};

/// Characters that a path may contain unescaped beside letters and digits (RFC 3986 section 3.3).
const PATH: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'/')
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b'@')
    .remove(b':')
    .remove(b'+')
    .remove(b',')
    .remove(b'=');

/// Security headers of every response from a folder, beside its Content-Security-Policy.
const SECURITY_FIELDS: [(HeaderName, &str); 5] = [
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (REFERRER_POLICY, "no-referrer"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    (HeaderName::from_static("permissions-policy"), "camera=(), geolocation=(), microphone=()"),
];

/// A folder whose files are served.
#[derive(Debug)]
pub(crate) struct StaticRoot {
    /// With links in its own path resolved.
    folder: PathBuf,
    serve_dir: ServeDir,
    content_security_policy: Option<HeaderValue>,
    compressed: Arc<CompressedFiles>,
}

/// A request for a file.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FileRequest<'r> {
    pub(crate) method: &'r Method,
    pub(crate) headers: &'r HeaderMap,
    /// The whole path, percent-decoded once, without dot segments, backslashes and NUL.
    pub(crate) path: &'r str,
    /// The raw query, without the question mark.
    pub(crate) query: Option<&'r str>,
    /// The path of the route, which maps to the folder.
    pub(crate) route_path: &'r str,
    /// Whether paths that match no file get the folder's `index.html` (single-page app).
    pub(crate) index_fallback: bool,
}

impl StaticRoot {
    /// Prepares a folder. `content_security_policy`, if set, is sent with every file.
    ///
    /// # Errors
    ///
    /// The folder cannot be found, or the policy is not a valid field value.
    pub(crate) fn open(folder: &Path, content_security_policy: Option<&str>) -> io::Result<StaticRoot> {
        let folder = folder.canonicalize()?;
        let content_security_policy =
            content_security_policy.map(HeaderValue::from_str).transpose().map_err(io::Error::other)?;
        Ok(StaticRoot {
            serve_dir: ServeDir::new(&folder).append_index_html_on_directories(false),
            folder,
            content_security_policy,
            compressed: Arc::default(),
        })
    }

    /// Responds with the file that the request names below the route's path. The response to HEAD has the
    /// `Content-Length` of GET and no body.
    ///
    /// # Errors
    ///
    /// `method_not_allowed` for all but GET and HEAD, `not_found` for what does not exist or is not served,
    /// 412 for a failed precondition, `internal` for a file system error.
    pub(crate) async fn serve(&self, request: FileRequest<'_>) -> Result<Response<StaticBody>, Rejection> {
        if !matches!(*request.method, Method::GET | Method::HEAD) {
            return Err(Rejection::FileMethod);
        }
        let below = match request.route_path {
            "/" => request.path,
            route_path => request.path.strip_prefix(route_path).unwrap_or(request.path),
        };
        if lookup::is_closed(below, request.route_path == "/") {
            return Err(Rejection::FileNotFound);
        }
        let may_fall_back =
            request.index_fallback && lookup::may_be_page(below) && prefers_html(request.headers);
        let (found, fell_back) = match self.look_up(below).await {
            Ok(Lookup::File(found)) => (found, false),
            Ok(Lookup::Directory) => return Ok(self.redirect_to_directory(request)),
            Err(error) if may_fall_back && error.kind() != io::ErrorKind::PermissionDenied => {
                match self.look_up("/").await {
                    Ok(Lookup::File(index)) => (index, true),
                    _ => return Err(Rejection::FileNotFound),
                }
            }
            Err(error) => return Err(failure(&error)),
        };
        let mut response = self.represent(request, &found).await?;
        let headers = response.headers_mut();
        if fell_back {
            // A path that matches no file is a page for clients that accept HTML, and 404 for scripts.
            headers.append(VARY, HeaderValue::from_static("Accept"));
        }
        self.decorate(headers);
        if *request.method == Method::HEAD {
            *response.body_mut() = StaticBody::empty();
        }
        Ok(response)
    }

    /// The representation for the client: content coding, range, or 304.
    async fn represent(
        &self,
        request: FileRequest<'_>,
        found: &Found,
    ) -> Result<Response<StaticBody>, Rejection> {
        let content_type = media_type::content_type(&found.path);
        // Range is defined for GET only (RFC 9110 section 14.2).
        let range = (*request.method == Method::GET).then(|| ByteRange::of(request.headers)).flatten();
        let compressible =
            CompressedFiles::SIZES.contains(&found.plain.len) && is_compressible(content_type.as_bytes());
        let accepted = compression::accepted(request.headers);
        let stored = accepted.iter().copied().find(|coding| found.stored(*coding).is_some());
        // Bytes compressed on the fly may differ between instances, so ranges are of files only.
        let made = accepted.first().copied().filter(|_| stored.is_none() && compressible && range.is_none());
        let state = stored.and_then(|coding| found.stored(coding)).unwrap_or(found.plain);
        let etag = state.etag(stored, made.is_some());

        let mut headers = HeaderMap::new();
        headers.insert(ETAG, etag.clone());
        headers.insert(LAST_MODIFIED, state.last_modified());
        if compressible || compression::CODINGS.into_iter().any(|coding| found.stored(coding).is_some()) {
            headers.insert(VARY, HeaderValue::from_static("Accept-Encoding"));
        }
        match conditional::evaluate(request.headers, &etag, state.modified) {
            Precondition::Holds => {}
            Precondition::NotModified => return Ok(bodiless(StatusCode::NOT_MODIFIED, headers)),
            Precondition::Failed => {
                return Err(Rejection::FileChanged);
            }
        }
        headers.insert(CONTENT_TYPE, content_type);
        if let Some(coding) = stored.or(made) {
            headers.insert(CONTENT_ENCODING, coding.value());
        }
        if let Some(coding) = made {
            let key = (found.path.clone(), etag, coding);
            let bytes = match self.compressed.get(&key) {
                Some(bytes) => bytes,
                None => {
                    let plain = self.fetch(found, None, None).await?.into_body();
                    self.compressed.insert(key, plain).await.map_err(|error| failure(&error))?
                }
            };
            headers.insert(CONTENT_LENGTH, bytes.len().into());
            return Ok(with_headers(StatusCode::OK, headers, StaticBody::memory(bytes)));
        }
        headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
        let range = range.filter(|_| conditional::if_range_holds(request.headers, &etag, state.modified));
        let range = match range.map(|range| range.within(state.len)) {
            Some(None) => {
                headers.insert(CONTENT_RANGE, text(format!("bytes */{}", state.len)));
                headers.insert(CONTENT_LENGTH, 0.into());
                return Ok(bodiless(StatusCode::RANGE_NOT_SATISFIABLE, headers));
            }
            range => range.flatten(),
        };
        let mut response = self.fetch(found, stored, range).await?;
        if !state.is_of(response.headers()) {
            // The file was replaced after the lookup: the validators belong to the other state.
            headers.remove(ETAG);
            response = self.fetch(found, stored, None).await?;
        }
        for name in [CONTENT_LENGTH, CONTENT_RANGE, LAST_MODIFIED] {
            if let Some(value) = response.headers_mut().remove(&name) {
                headers.insert(name, value);
            }
        }
        let len = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
        let status = response.status();
        let body = StaticBody::file(response.into_body(), len.unwrap_or(0));
        Ok(with_headers(status, headers, body))
    }

    /// Opens the file, or its precompressed variant, through `ServeDir`. The range is satisfiable.
    async fn fetch(
        &self,
        found: &Found,
        coding: Option<ContentCoding>,
        range: Option<(u64, u64)>,
    ) -> Result<Response<ServeFileSystemResponseBody>, Rejection> {
        let mut request = Request::new(Empty::<bytes::Bytes>::new());
        let path = format!("/{}", utf8_percent_encode(&found.path, PATH));
        *request.uri_mut() = path.parse().map_err(|_| Rejection::FileNotFound)?;
        if let Some((first, last)) = range {
            request.headers_mut().insert(RANGE, text(format!("bytes={first}-{last}")));
        }
        let mut serve_dir = self.serve_dir.clone();
        if let Some(coding) = coding {
            request.headers_mut().insert(ACCEPT_ENCODING, coding.value());
            serve_dir = match coding {
                ContentCoding::Brotli => serve_dir.precompressed_br(),
                ContentCoding::Gzip => serve_dir.precompressed_gzip(),
                // Not among the codings of files.
                ContentCoding::Zstd => serve_dir,
            };
        }
        let response = serve_dir.try_call(request).await.map_err(|error| failure(&error))?;
        match response.status() {
            StatusCode::OK | StatusCode::PARTIAL_CONTENT => Ok(response),
            _ => Err(Rejection::FileNotFound),
        }
    }

    /// Looks a file up, on the blocking pool.
    async fn look_up(&self, below: &str) -> io::Result<Lookup> {
        let (folder, below) = (self.folder.clone(), below.to_owned());
        let found = tokio::task::spawn_blocking(move || lookup::look_up(&folder, &below)).await;
        found.unwrap_or_else(|error| Err(io::Error::other(error)))
    }

    /// Redirects `/docs` to `/docs/`, so that relative references in `docs/index.html` resolve within its
    /// folder.
    fn redirect_to_directory(&self, request: FileRequest<'_>) -> Response<StaticBody> {
        // A single slash at the beginning, or the first segment would be another host.
        let path = utf8_percent_encode(request.path.trim_start_matches('/'), PATH);
        let query = request.query.map(|query| format!("?{query}")).unwrap_or_default();
        let mut headers = HeaderMap::new();
        headers.insert(LOCATION, text(format!("/{path}/{query}")));
        headers.insert(CONTENT_LENGTH, 0.into());
        self.decorate(&mut headers);
        bodiless(StatusCode::PERMANENT_REDIRECT, headers)
    }

    fn decorate(&self, headers: &mut HeaderMap) {
        // Names do not change with the content, so a cached copy has to be revalidated.
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        if let Some(policy) = &self.content_security_policy {
            headers.insert(CONTENT_SECURITY_POLICY, policy.clone());
        }
        for (name, value) in SECURITY_FIELDS {
            headers.insert(name, HeaderValue::from_static(value));
        }
    }
}

/// Browsers that navigate accept HTML explicitly; `fetch` accepts anything (`*/*`), for which a page would
/// hide the 404.
fn prefers_html(headers: &HeaderMap) -> bool {
    let fields = headers.get_all(ACCEPT).into_iter();
    fields.flat_map(|value| value.as_bytes().split(|&b| b == b',')).any(|member| {
        let kind = member.split(|&b| b == b';').next().unwrap_or(member);
        kind.trim_ascii().eq_ignore_ascii_case(b"text/html")
    })
}

/// 404 for what does not exist or may not be read; 500 for any other error.
fn failure(error: &io::Error) -> Rejection {
    if lookup::is_absence(error) {
        return Rejection::FileNotFound;
    }
    tracing::warn!(%error, "a static file could not be read");
    Rejection::FileUnreadable
}

fn bodiless(status: StatusCode, headers: HeaderMap) -> Response<StaticBody> {
    with_headers(status, headers, StaticBody::empty())
}

fn with_headers(status: StatusCode, headers: HeaderMap, body: StaticBody) -> Response<StaticBody> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

/// A field value of visible characters.
fn text(value: String) -> HeaderValue {
    HeaderValue::try_from(value).unwrap_or_else(|_| HeaderValue::from_static(""))
}
