//! Tests of static files, called directly, on temporary folders.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::io::Read as _;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{ACCEPT_ENCODING, IF_NONE_MATCH};
use http_body::Body as _;
use http_body_util::BodyExt;
use tempfile::TempDir;

use super::*;

const HTML: (&str, &str) = ("accept", "text/html,application/xhtml+xml,*/*;q=0.8");
const ANY: (&str, &str) = ("accept", "*/*");

struct Site {
    dir: TempDir,
    root: StaticRoot,
}

struct Reply {
    status: u16,
    headers: HeaderMap,
    body: Bytes,
}

impl Reply {
    fn field(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

impl Site {
    fn new(files: &[(&str, &[u8])]) -> Site {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("site");
        fs::create_dir(&folder).unwrap();
        for (name, content) in files {
            let path = folder.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        let root = StaticRoot::open(&folder, Some("default-src 'self'")).unwrap();
        Site { dir, root }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join("site").join(name)
    }

    fn touch(&self, name: &str, modified: SystemTime) {
        fs::File::options().append(true).open(self.path(name)).unwrap().set_modified(modified).unwrap();
    }

    async fn request(&self, method: Method, target: &str, fields: &[(&str, &str)], route: &str) -> Reply {
        let headers = fields
            .iter()
            .map(|(name, value)| (HeaderName::try_from(*name).unwrap(), value.parse().unwrap()))
            .collect::<Vec<_>>();
        let headers = headers.into_iter().fold(HeaderMap::new(), |mut map, (name, value)| {
            map.append(name, value);
            map
        });
        let (path, query) =
            target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
        let (route_path, index_fallback) = match route.strip_suffix('*') {
            Some(route_path) => (route_path, true),
            None => (route, false),
        };
        let request =
            FileRequest { method: &method, headers: &headers, path, query, route_path, index_fallback };
        // A blocked lookup fails the test instead of hanging it.
        let answer = tokio::time::timeout(Duration::from_secs(10), self.root.serve(request)).await.unwrap();
        match answer {
            Ok(answer) => {
                let (parts, body) = answer.into_parts();
                assert!(body.size_hint().exact().is_some());
                let body = body.collect().await.unwrap().to_bytes();
                Reply { status: parts.status.as_u16(), headers: parts.headers, body }
            }
            Err(rejection) => {
                let (parts, _) = rejection.to_response("id").into_parts();
                Reply { status: parts.status.as_u16(), headers: parts.headers, body: Bytes::new() }
            }
        }
    }

    async fn get(&self, target: &str, fields: &[(&str, &str)]) -> Reply {
        self.request(Method::GET, target, fields, "/").await
    }

    /// With `index_fallback`.
    async fn page(&self, target: &str, fields: &[(&str, &str)]) -> Reply {
        self.request(Method::GET, target, fields, "/*").await
    }
}

/// Compressible text.
fn long_text() -> Vec<u8> {
    (0..500).flat_map(|n| format!("line {n} of a file that is long enough\n").into_bytes()).collect()
}

fn gunzip(bytes: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    flate2::read::GzDecoder::new(bytes).read_to_end(&mut plain).unwrap();
    plain
}

fn unbrotli(bytes: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    brotli::Decompressor::new(bytes, 4096).read_to_end(&mut plain).unwrap();
    plain
}

#[tokio::test]
async fn a_file_comes_with_its_type_its_validators_and_the_security_fields() {
    let site =
        Site::new(&[("index.html", b"<p>hi"), ("a b/\u{e4}100%?#.txt", b"odd name"), ("empty.css", b"")]);
    let page = site.get("/", &[]).await;
    assert_eq!((page.status, &page.body[..]), (200, &b"<p>hi"[..]));
    for (name, value) in [
        ("content-type", "text/html; charset=utf-8"),
        ("content-length", "5"),
        ("accept-ranges", "bytes"),
        ("cache-control", "no-cache"),
        ("content-security-policy", "default-src 'self'"),
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "no-referrer"),
        ("cross-origin-opener-policy", "same-origin"),
        ("cross-origin-resource-policy", "same-origin"),
        ("vary", ""),
    ] {
        assert_eq!(page.field(name), value, "{name}");
    }
    assert!(page.field("etag").starts_with('"'), "{:?}", page.headers);
    assert!(page.field("last-modified").ends_with(" GMT"), "{:?}", page.headers);
    let (method, headers) = (Method::GET, HeaderMap::new());
    let odd = FileRequest {
        method: &method,
        headers: &headers,
        path: "/a b/\u{e4}100%?#.txt",
        query: None,
        route_path: "/",
        index_fallback: false,
    };
    assert_eq!(site.root.serve(odd).await.unwrap().status(), 200);
    let empty = site.get("/empty.css", &[("range", "bytes=0-")]).await;
    assert_eq!((empty.status, empty.field("content-range")), (416, "bytes */0"));
    assert_eq!(site.get("/empty.css", &[]).await.field("content-length"), "0");
}

#[tokio::test]
async fn head_has_the_headers_of_get() {
    let site = Site::new(&[("a.png", b"0123456789"), ("a.txt", &long_text())]);
    for (path, fields) in [
        ("/a.png", &[][..]),
        ("/a.txt", &[]),
        ("/a.txt", &[("accept-encoding", "gzip")]),
        ("/a.txt", &[("accept-encoding", "br")]),
    ] {
        let head = site.request(Method::HEAD, path, fields, "/").await;
        let get = site.get(path, fields).await;
        assert_eq!((head.status, head.body.len()), (200, 0), "{path}");
        assert_eq!(head.headers, get.headers, "{path}");
        assert_eq!(get.field("content-length"), get.body.len().to_string(), "{path}");
    }
    let head = site.request(Method::HEAD, "/a.png", &[("range", "bytes=0-1")], "/").await;
    assert_eq!((head.status, head.field("content-length")), (200, "10"), "ranges are for GET");
}

#[tokio::test]
async fn files_are_only_read() {
    let site = Site::new(&[("index.html", b"<p>hi")]);
    for method in [Method::POST, Method::PUT, Method::DELETE, Method::OPTIONS, Method::PATCH] {
        let reply = site.request(method, "/index.html", &[], "/").await;
        assert_eq!((reply.status, reply.field("allow")), (405, "GET, HEAD"));
    }
}

#[tokio::test]
async fn one_range_is_a_part_and_all_else_is_the_whole() {
    let site = Site::new(&[("v.mp4", b"0123456789"), ("t.txt", &long_text())]);
    let etag = site.get("/v.mp4", &[]).await.field("etag").to_owned();
    let date = site.get("/v.mp4", &[]).await.field("last-modified").to_owned();
    for (range, if_range, status, content_range, body) in [
        ("bytes=2-5", "", 206, "bytes 2-5/10", "2345"),
        ("bytes=7-", "", 206, "bytes 7-9/10", "789"),
        ("bytes=-4", "", 206, "bytes 6-9/10", "6789"),
        ("bytes=-40", "", 206, "bytes 0-9/10", "0123456789"),
        ("bytes=8-400", "", 206, "bytes 8-9/10", "89"),
        ("bytes=10-", "", 416, "bytes */10", ""),
        ("bytes=-0", "", 416, "bytes */10", ""),
        ("bytes=0-1,4-5", "", 200, "", "0123456789"),
        ("bytes=5-2", "", 200, "", "0123456789"),
        ("pages=1-2", "", 200, "", "0123456789"),
        ("bytes=2-5", &etag, 206, "bytes 2-5/10", "2345"),
        ("bytes=2-5", &date, 206, "bytes 2-5/10", "2345"),
        ("bytes=2-5", "\"other\"", 200, "", "0123456789"),
        ("bytes=2-5", "Sun, 06 Nov 1994 08:49:37 GMT", 200, "", "0123456789"),
        ("bytes=10-", "\"other\"", 200, "", "0123456789"),
    ] {
        let mut fields = vec![("range", range), ("accept-encoding", "gzip, br")];
        if !if_range.is_empty() {
            fields.push(("if-range", if_range));
        }
        let reply = site.get("/v.mp4", &fields).await;
        assert_eq!(
            (reply.status, reply.field("content-range")),
            (status, content_range),
            "{range} {if_range}"
        );
        assert_eq!(&reply.body[..], body.as_bytes(), "{range} {if_range}");
        assert_eq!(reply.field("content-length"), body.len().to_string(), "{range} {if_range}");
        assert_eq!((reply.field("etag"), reply.field("content-encoding")), (&etag[..], ""), "{range}");
    }
    // A range is sent without on-the-fly compression.
    let part = site.get("/t.txt", &[("range", "bytes=0-3"), ("accept-encoding", "gzip")]).await;
    assert_eq!((part.status, &part.body[..], part.field("content-encoding")), (206, &b"line"[..], ""));
    assert_eq!(part.field("vary"), "Accept-Encoding");
}

#[tokio::test]
async fn what_has_not_changed_is_not_sent_again() {
    let site = Site::new(&[("a.txt", &long_text())]);
    let first = site.get("/a.txt", &[]).await;
    let coded = site.get("/a.txt", &[("accept-encoding", "gzip")]).await;
    assert_eq!(coded.field("etag"), format!("W/{}", first.field("etag")));
    let (etag, weak, date) = (first.field("etag"), coded.field("etag"), first.field("last-modified"));
    for (fields, status) in [
        (&[("if-none-match", etag)][..], 304),
        (&[("if-none-match", weak)], 304),
        (&[("if-none-match", "*")], 304),
        (&[("if-none-match", etag), ("accept-encoding", "gzip")], 304),
        (&[("if-none-match", weak), ("accept-encoding", "br")], 304),
        (&[("if-none-match", "\"x\"")], 200),
        (&[("if-modified-since", date)], 304),
        (&[("if-modified-since", date), ("if-none-match", "\"x\"")], 200),
        (&[("if-modified-since", "Sun, 06 Nov 1994 08:49:37 GMT")], 200),
        (&[("if-match", etag)], 200),
        (&[("if-match", "\"x\"")], 412),
        (&[("if-unmodified-since", "Sun, 06 Nov 1994 08:49:37 GMT")], 412),
        (&[("if-none-match", etag), ("range", "bytes=0-1")], 304),
    ] {
        let reply = site.get("/a.txt", fields).await;
        assert_eq!(reply.status, status, "{fields:?}");
        if status == 304 {
            assert!(reply.body.is_empty() && reply.field("content-length").is_empty(), "{fields:?}");
            assert!(reply.field("etag").ends_with(etag), "{fields:?}");
            assert_eq!(reply.field("vary"), "Accept-Encoding", "{fields:?}");
            assert_eq!(reply.field("content-security-policy"), "default-src 'self'", "{fields:?}");
        }
    }
    // The same length and the same second.
    let modified = fs::metadata(site.path("a.txt")).unwrap().modified().unwrap();
    site.touch("a.txt", modified + Duration::from_nanos(1));
    assert_eq!(site.get("/a.txt", &[("if-none-match", etag)]).await.status, 200);
}

#[tokio::test]
async fn a_compressed_file_beside_the_file_is_sent_to_who_takes_it() {
    let site = Site::new(&[
        ("both.js", &long_text()),
        ("both.js.br", b"as brotli"),
        ("both.js.gz", b"as gzip"),
        ("small.bin", b"plain"),
        ("small.bin.gz", b"gz"),
        ("index.html", b"<p>"),
        ("index.html.br", b"page"),
        ("lone.txt.gz", b"lone"),
    ]);
    for (path, accepts, body, coding) in [
        ("/both.js", "gzip, br", "as brotli", "br"),
        ("/both.js", "br;q=0.1, gzip", "as gzip", "gzip"),
        ("/both.js", "gzip", "as gzip", "gzip"),
        ("/both.js", "br", "as brotli", "br"),
        ("/small.bin", "gzip, br", "gz", "gzip"),
        ("/small.bin", "br", "plain", ""),
        ("/", "br", "page", "br"),
    ] {
        let reply = site.get(path, &[("accept-encoding", accepts)]).await;
        assert_eq!((reply.status, &reply.body[..]), (200, body.as_bytes()), "{path} {accepts}");
        assert_eq!(reply.field("content-encoding"), coding, "{path} {accepts}");
        assert_eq!(reply.field("vary"), "Accept-Encoding", "{path} {accepts}");
        assert_eq!(reply.field("content-length"), body.len().to_string(), "{path} {accepts}");
    }
    let (br, gzip, plain) = (
        site.get("/both.js", &[("accept-encoding", "br")]).await,
        site.get("/both.js", &[("accept-encoding", "gzip")]).await,
        site.get("/both.js", &[]).await,
    );
    assert_eq!(
        (br.field("content-type"), &plain.body[..]),
        ("text/javascript; charset=utf-8", &long_text()[..])
    );
    assert_ne!(br.field("etag"), gzip.field("etag"));
    assert_ne!(br.field("etag"), plain.field("etag"));
    assert!(br.field("etag").starts_with('"'), "its bytes are a file's");
    let part = [("accept-encoding", "br"), ("range", "bytes=3-"), ("if-range", br.field("etag"))];
    let part = site.get("/both.js", &part).await;
    assert_eq!((part.status, &part.body[..], part.field("content-encoding")), (206, &b"brotli"[..], "br"));
    assert_eq!(part.field("content-range"), "bytes 3-8/9");
    let other = [("accept-encoding", "gzip"), ("range", "bytes=3-"), ("if-range", br.field("etag"))];
    assert_eq!(site.get("/both.js", &other).await.status, 200, "a part of another file");
    // A precompressed variant without its file is not served.
    assert_eq!(site.get("/lone.txt", &[("accept-encoding", "gzip")]).await.status, 404);
    let itself = site.get("/lone.txt.gz", &[("accept-encoding", "gzip")]).await;
    assert_eq!((itself.field("content-type"), itself.field("content-encoding")), ("application/gzip", ""));
}

#[tokio::test]
async fn text_is_compressed_on_the_way_and_once() {
    let text = long_text();
    let site = Site::new(&[
        ("app.js", &text),
        ("data.json", &text),
        ("logo.svg", &text),
        ("photo.jpg", &text),
        ("font.woff2", &text),
        ("short.txt", b"short"),
    ]);
    for path in ["/app.js", "/data.json", "/logo.svg"] {
        for (accepts, coding, decode) in
            [("gzip, br", "br", unbrotli as fn(&[u8]) -> Vec<u8>), ("gzip", "gzip", gunzip)]
        {
            let reply = site.get(path, &[("accept-encoding", accepts)]).await;
            assert_eq!(reply.field("content-encoding"), coding, "{path}");
            assert!(reply.body.len() < text.len() / 4, "{path} {}", reply.body.len());
            assert_eq!(decode(&reply.body), text, "{path} {coding}");
            assert_eq!(reply.field("vary"), "Accept-Encoding", "{path}");
            assert_eq!(reply.field("accept-ranges"), "", "{path}");
            assert!(reply.field("etag").starts_with("W/"), "{path}");
        }
        let plain = site.get(path, &[("accept-encoding", "identity, gzip;q=0")]).await;
        assert_eq!((&plain.body[..], plain.field("vary")), (&text[..], "Accept-Encoding"), "{path}");
    }
    for path in ["/photo.jpg", "/font.woff2", "/short.txt"] {
        let reply = site.get(path, &[("accept-encoding", "gzip, br")]).await;
        assert_eq!((reply.field("content-encoding"), reply.field("vary")), ("", ""), "{path}");
    }
    // Cached, so the second response shares the memory of the first; changed, so compressed anew.
    let ask = || site.get("/app.js", &[("accept-encoding", "br")]);
    let (first, second) = tokio::join!(ask(), ask());
    assert_eq!(first.body.as_ptr(), second.body.as_ptr());
    fs::write(site.path("app.js"), [&text[..], b"more"].concat()).unwrap();
    assert_eq!(unbrotli(&ask().await.body), [&text[..], b"more"].concat());
}

/// Workers have runtimes of this kind.
#[test]
fn compressing_works_on_a_worker_with_few_threads() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(1)
        .build_local(Default::default())
        .unwrap();
    runtime.block_on(async {
        let text = long_text();
        let sites: Vec<Site> = (0..4).map(|_| Site::new(&[("a.txt", &text)])).collect();
        let ask = |n: usize| sites[n].get("/a.txt", &[("accept-encoding", "gzip")]);
        let replies = tokio::join!(ask(0), ask(1), ask(2), ask(3), ask(0));
        assert_eq!(gunzip(&replies.0.body), text);
        assert_eq!(gunzip(&replies.3.body), text);
    });
}

#[tokio::test]
async fn what_is_closed_stays_closed() {
    let site = Site::new(&[
        ("index.html", b"<p>"),
        (".env", b"x"),
        (".git/config", b"x"),
        ("a/.htpasswd", b"x"),
        ("node_modules/x/index.js", b"x"),
        ("listing/a.txt", b"x"),
        (".well-known/security.txt", b"contact"),
        (".well-known/acme-challenge/token", b"proof"),
        (".well-known/.git/config", b"x"),
        ("a/.well-known/x", b"x"),
        ("file.txt", b"x"),
    ]);
    fs::write(site.dir.path().join("outside.txt"), "secret").unwrap();
    fs::write(site.dir.path().join("outside.txt.gz"), "secret").unwrap();
    fs::create_dir(site.dir.path().join("beside")).unwrap();
    fs::write(site.dir.path().join("beside/index.html"), "secret").unwrap();
    // A sibling whose path has the folder's as a prefix.
    fs::write(site.dir.path().join("site-backup"), "secret").unwrap();
    symlink("../outside.txt", site.path("link.txt")).unwrap();
    symlink(site.dir.path().join("beside"), site.path("linked")).unwrap();
    symlink("../site-backup", site.path("backup.txt")).unwrap();
    symlink("../outside.txt.gz", site.path("file.txt.gz")).unwrap();
    symlink("loop.txt", site.path("loop.txt")).unwrap();
    for path in [
        "/.env",
        "/.git/config",
        "/.git",
        "/a/.htpasswd",
        "/node_modules/x/index.js",
        "/listing",
        "/listing/",
        "/.well-known/.git/config",
        "/a/.well-known/x",
        "/link.txt",
        "/linked",
        "/linked/",
        "/linked/index.html",
        "/backup.txt",
        "/loop.txt",
        "/file.txt/",
        "/file.txt/x",
        "/nothing",
        "/a\0b",
        &format!("/{}", "x".repeat(300)),
        &format!("/{}", "x/".repeat(3000)),
    ] {
        assert_eq!(site.get(path, &[HTML]).await.status, 404, "{path:?}");
        assert_eq!(site.get(path, &[ANY]).await.status, 404, "{path:?}");
    }
    for path in ["/.env", "/.git/config", "/node_modules/x", "/.well-known/nothing", "/a/.x"] {
        assert_eq!(site.page(path, &[HTML]).await.status, 404, "{path}: no page either");
    }
    let inside = site.get("/file.txt", &[("accept-encoding", "gzip")]).await;
    assert_eq!(
        (&inside.body[..], inside.field("content-encoding")),
        (&b"x"[..], ""),
        "the link beside is closed"
    );
    assert_eq!(&site.get("/.well-known/security.txt", &[]).await.body[..], b"contact");
    assert_eq!(&site.get("/.well-known/acme-challenge/token", &[]).await.body[..], b"proof");
    let below = site.request(Method::GET, "/x/.well-known/security.txt", &[], "/x").await;
    assert_eq!(below.status, 404, "it is at the root of an origin only");
}

#[tokio::test]
async fn links_within_the_folder_are_followed() {
    // As Kubernetes mounts a ConfigMap.
    let site = Site::new(&[("..2024/app.js", b"let x"), ("..2024/app.js.gz", b"gz")]);
    symlink("..2024", site.path("..data")).unwrap();
    symlink("..data/app.js", site.path("app.js")).unwrap();
    symlink("..data/app.js", site.path("page.html")).unwrap();
    symlink("..data/app.js.gz", site.path("app.js.gz")).unwrap();
    let script = site.get("/app.js", &[]).await;
    assert_eq!((script.status, &script.body[..]), (200, &b"let x"[..]));
    assert_eq!(&site.get("/app.js", &[("accept-encoding", "gzip")]).await.body[..], b"gz");
    assert_eq!(site.get("/page.html", &[]).await.field("content-type"), "text/html; charset=utf-8");
    assert_eq!(site.get("/..2024/app.js", &[]).await.status, 404);
}

#[tokio::test]
async fn what_is_no_regular_file_is_not_there_and_blocks_nothing() {
    let site = Site::new(&[("index.html", b"<p>"), ("file.txt", &long_text()), ("dir/x", b"x")]);
    for fifo in ["fifo", "fifo.txt", "file.txt.gz", "file.txt.br", "dir/index.html"] {
        assert!(std::process::Command::new("mkfifo").arg(site.path(fifo)).status().unwrap().success());
    }
    let _socket = UnixListener::bind(site.path("socket")).unwrap();
    symlink("/dev/zero", site.path("zero")).unwrap();
    for path in ["/fifo", "/fifo.txt", "/fifo.txt/", "/dir", "/dir/", "/dir/index.html", "/socket", "/zero"] {
        for method in [Method::GET, Method::HEAD] {
            let fields = [("accept-encoding", "gzip, br"), ("range", "bytes=0-")];
            assert_eq!(site.request(method, path, &fields, "/").await.status, 404, "{path}");
        }
    }
    let beside = site.get("/file.txt", &[("accept-encoding", "gzip")]).await;
    assert_eq!((beside.status, gunzip(&beside.body)), (200, long_text()), "a FIFO beside it is none");
    assert_eq!(site.page("/fifo", &[HTML]).await.field("content-type"), "text/html; charset=utf-8");
}

#[tokio::test]
async fn a_folder_redirects_to_its_path_with_a_slash() {
    let site = Site::new(&[
        ("index.html", b"root"),
        ("docs/index.html", b"docs"),
        ("docs/\u{e4} b/index.html", b"x"),
    ]);
    for (target, route, status, expected) in [
        ("/docs", "/", 308, "/docs/"),
        ("/docs?a=b&c", "/", 308, "/docs/?a=b&c"),
        ("/docs?", "/", 308, "/docs/?"),
        ("/docs", "/*", 308, "/docs/"),
        ("//docs", "/", 308, "/docs/"),
        ("/docs/\u{e4} b", "/", 308, "/docs/%C3%A4%20b/"),
        ("/app", "/app", 308, "/app/"),
        ("/app?x", "/app", 308, "/app/?x"),
        ("/app/docs", "/app", 308, "/app/docs/"),
        ("/docs/", "/", 200, "docs"),
        ("/app/", "/app", 200, "root"),
        ("/app/docs/", "/app", 200, "docs"),
        ("/", "/", 200, "root"),
    ] {
        for fields in [&[HTML][..], &[ANY]] {
            let reply = site.request(Method::GET, target, fields, route).await;
            assert_eq!(reply.status, status, "{target}");
            match status {
                308 => assert_eq!((reply.field("location"), reply.body.len()), (expected, 0), "{target}"),
                _ => assert_eq!(&reply.body[..], expected.as_bytes(), "{target}"),
            }
        }
    }
}

#[tokio::test]
async fn an_app_gets_its_page_for_addresses_of_its_own() {
    let site = Site::new(&[("index.html", b"<p>app"), ("app.js", b"x"), ("empty/a.txt", b"x")]);
    for (path, accept, status) in [
        ("/settings", HTML, 200),
        ("/settings/", HTML, 200),
        ("/users/jane.doe", HTML, 200),
        ("/users/jane@example.com", HTML, 200),
        ("/v1.2.3/notes", HTML, 200),
        ("/docs/v1.2", HTML, 200),
        ("/reports/q3.pdf", HTML, 200),
        ("/empty", HTML, 200),
        ("/app.js/more", HTML, 200),
        ("/users/jane.doe", ANY, 404),
        ("/settings", ("accept", "application/json"), 404),
        ("/settings", ("x-nothing", ""), 404),
        ("/settings", ("accept", "text/htmlx"), 404),
        ("/missing.js", HTML, 404),
        ("/missing.js", ANY, 404),
        ("/missing.css", ("accept", "text/css,*/*;q=0.1"), 404),
        ("/missing.png", ("accept", "image/avif,image/webp,*/*"), 404),
        ("/assets/x.4f3a.mjs", HTML, 404),
    ] {
        let reply = site.page(path, &[accept]).await;
        assert_eq!(reply.status, status, "{path} {accept:?}");
        if status == 200 {
            assert_eq!((&reply.body[..], reply.field("vary")), (&b"<p>app"[..], "Accept"), "{path}");
        }
        assert_eq!(site.get(path, &[accept]).await.status, 404, "{path}: without index_fallback");
    }
    let page = site.page("/settings", &[HTML]).await;
    let unchanged = [HTML, ("if-none-match", page.field("etag"))];
    assert_eq!(site.page("/other", &unchanged).await.status, 304);
    assert_eq!(site.page("/app.js", &[HTML]).await.field("vary"), "");
}

#[tokio::test]
async fn a_file_that_changes_while_it_is_sent_keeps_the_declared_length() {
    let site = Site::new(&[("grows.bin", &[b'a'; 200_000]), ("shrinks.bin", &[b'a'; 200_000])]);
    let open = async |name: &'static str| {
        let headers = HeaderMap::from_iter([(ACCEPT_ENCODING, HeaderValue::from_static("gzip"))]);
        let request = FileRequest {
            method: &Method::GET,
            headers: &headers,
            path: name,
            query: None,
            route_path: "/",
            index_fallback: false,
        };
        site.root.serve(request).await.unwrap().into_body()
    };
    let mut body = open("/grows.bin").await;
    assert!(body.frame().await.unwrap().is_ok());
    fs::write(site.path("grows.bin"), [b'a'; 300_000]).unwrap();
    let first = 200_000 - body.size_hint().exact().unwrap();
    assert_eq!(first + body.collect().await.unwrap().to_bytes().len() as u64, 200_000);
    let mut body = open("/shrinks.bin").await;
    assert!(body.frame().await.unwrap().is_ok());
    fs::write(site.path("shrinks.bin"), b"a").unwrap();
    assert_eq!(body.collect().await.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
}

#[tokio::test]
async fn a_policy_is_sent_where_there_is_one() {
    let site = Site::new(&[("index.html", b"<p>")]);
    let bare = StaticRoot::open(&site.path(""), None).unwrap();
    let site = Site { root: bare, ..site };
    let page = site.get("/", &[]).await;
    assert_eq!(
        (page.field("content-security-policy"), page.field("x-content-type-options")),
        ("", "nosniff")
    );
    let unchanged = site.get("/", &[(IF_NONE_MATCH.as_str(), page.field("etag"))]).await;
    assert_eq!(unchanged.status, 304);
}
