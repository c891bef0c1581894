//! The stack called in-process, without sockets: upstream requests and responses.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use http::StatusCode;
use http_body_util::BodyExt;
use tower::{ServiceExt, service_fn};

use super::request_stack;
use crate::client_addr::ClientAddr;
use crate::clock::{UnixMillis, UnixSeconds};
use crate::config::test_support::settings;
use crate::http1::HeadLimits;
use crate::rejection::Rejection;
use crate::request::{Authorized, Incoming};
use crate::request_body::RequestBody;
use crate::response::{self, Response};
use crate::runtime::Worker;
use crate::server::prepare;
use crate::services::endpoints::EndpointService;
use crate::services::proxy::{outgoing_request, upstream_host};
use crate::services::target::TargetService;
use crate::sessions::{SessionId, TokenId};
use crate::stream_state::StreamState;
use crate::tokens::{TokenRequest, TokenType};
use crate::upstream::UpstreamRequest;

const NOW: u64 = 1_800_000_000;
const ROUTES: &str = r#"
[cors]
allowed_origins = ["https://page.example"]
[upstreams.app]
urls = ["http://127.0.0.1:9"]
[[routes]]
path = "/"
upstream = "app"
[[routes]]
path = "/public"
upstream = "app"
access = "public"
[[routes]]
path = "/admin"
upstream = "app"
roles = ["admin"]
[[routes]]
path = "/panic"
access = "public"
upstream = "app"
[[routes]]
path = "/own-cors"
upstream = "app"
methods = ["GET", "PUT"]
cors = { pass_through = true, allowed_origins = [] }
[[routes]]
path = "/edited"
upstream = "app"
access = "optional"
response_headers = { set = { X-Host = "{host}", X-User = "{claims.username}" } }
"#;

/// An upstream that captures its requests.
#[derive(Clone, Default)]
struct CapturedUpstream(Rc<RefCell<Vec<String>>>);

impl CapturedUpstream {
    fn capture(&self, request: &Authorized) -> Result<Response, Rejection> {
        assert_ne!(
            request.view().target().as_str(),
            "/panic/later",
            "injected, while the response is awaited"
        );
        if let UpstreamRequest::Http1(head) = outgoing_request(request, None, &upstream_host(request)?)? {
            self.0.borrow_mut().push(String::from_utf8_lossy(&head).into_owned());
        }
        Ok(response::empty(StatusCode::OK))
    }
}

/// One worker at a fixed time.
struct Fixture {
    worker: Rc<Worker>,
    upstream: CapturedUpstream,
}

struct Answer {
    status: u16,
    headers: http::HeaderMap,
    code: Option<String>,
}

impl Fixture {
    fn new() -> Fixture {
        let secret = "[tokens]\nalgorithm = \"HS256\"\nissuer = \"http://gw.test\"\naudience = \"a\"\n\
                      secret = \"quite long, quite secret, 7f3a9c15e0\"\n[store]\nkind = \"memory\"\n";
        let users = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../config/users.toml");
        let settings = settings(format!("{secret}[users]\nfile = {users:?}\n{ROUTES}"));
        // It creates a runtime, which cannot be nested in that of a test.
        let gateway = std::thread::spawn(move || prepare(settings).unwrap()).join().unwrap();
        let gateway = Arc::new(gateway);
        let worker = Rc::new(Worker::new(gateway, 0).at(UnixMillis::of_seconds(UnixSeconds::new(NOW))));
        Fixture { worker, upstream: CapturedUpstream::default() }
    }

    fn token(&self, roles: &[&str], expires_at: u64) -> String {
        let roles: Vec<String> = roles.iter().map(|role| (*role).to_owned()).collect();
        let token = self.worker.state().config.issuer.issue(TokenRequest {
            token_type: TokenType::Access,
            jti: &TokenId::random().to_string(),
            sid: &SessionId::random().to_string(),
            subject: "1",
            username: "alice",
            roles: &roles,
            further: &serde_json::Map::new(),
            fresh: false,
            csrf: None,
            key: None,
            cookie_session: false,
            authentication: None,
            issued_at: UnixSeconds::new(NOW.min(expires_at - 60)),
            expires_at: UnixSeconds::new(expires_at),
            session_expires_at: UnixSeconds::new(NOW + 600),
        });
        token.unwrap()
    }

    async fn ask(&self, head: &str) -> Answer {
        let upstream = self.upstream.clone();
        let target = TargetService::new(service_fn(move |request: Authorized| {
            assert_ne!(request.view().target().as_str(), "/panic", "injected, at the call");
            let upstream = upstream.clone();
            async move { upstream.capture(&request) }
        }));
        let stack = request_stack(Rc::clone(&self.worker), EndpointService, target);
        let mut parsed = self.worker.take_head();
        parsed.parse(head.as_bytes(), &HeadLimits::default()).unwrap().unwrap();
        let incoming = Incoming {
            head: parsed,
            refused: None,
            body: RequestBody::default(),
            client: Rc::new(ClientAddr::new(([192, 0, 2, 7], 1).into(), &[], false)),
            stream: StreamState::of_http1_connection(),
        };
        let (parts, body) = stack.oneshot(incoming).await.unwrap().into_parts();
        let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
        let problem: Option<serde_json::Value> = serde_json::from_slice(&body).ok();
        let code = problem.and_then(|problem| problem["code"].as_str().map(str::to_owned));
        Answer { status: parts.status.as_u16(), headers: parts.headers, code }
    }
}

fn get(path: &str, fields: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: gw.test\r\n{fields}\r\n")
}

#[tokio::test]
async fn each_layer_refuses_with_its_own_code_and_nothing_refused_reaches_the_upstream() {
    let fixture = Fixture::new();
    let expired = format!("Authorization: Bearer {}\r\n", fixture.token(&[], NOW - 10));
    let user = format!("Authorization: Bearer {}\r\n", fixture.token(&["user"], NOW + 60));
    for (head, status, code) in [
        (get("/a/../b", ""), 400, "ambiguous_target"),
        ("GET / HTTP/1.1\r\n\r\n".to_owned(), 400, "bad_request"),
        ("TRACE / HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), 405, "method_not_allowed"),
        ("LOCK /public HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), 405, "method_not_allowed"),
        // An endpoint takes its own method; others go on to the routes.
        (get("/login", ""), 401, "missing_token"),
        (get("/", ""), 401, "missing_token"),
        (get("/", "Authorization: Bearer x.y.z\r\n"), 401, "invalid_token"),
        (get("/", &expired), 401, "token_expired"),
        (get("/admin", &user), 403, "insufficient_scope"),
        (get("/panic", ""), 500, "internal"),
        (get("/panic/later", ""), 500, "internal"),
    ] {
        let answer = fixture.ask(&head).await;
        assert_eq!((answer.status, answer.code.as_deref()), (status, Some(code)), "{head}");
        assert!(answer.headers.contains_key("x-request-id"), "{head}");
    }
    assert!(fixture.upstream.0.borrow().is_empty());
}

#[tokio::test]
async fn what_reaches_the_upstream_is_cleaned_and_carries_the_verified_identity() {
    let fixture = Fixture::new();
    let token = fixture.token(&["user"], NOW + 60);
    let fields = format!(
        "Authorization: Bearer {token}\r\nX-Auth-User: root\r\nx_auth_user: root\r\nConnection: X-Hop\r\nX-Hop: 1\r\n\
         X-Forwarded-For: 10.0.0.1\r\nAccept: */*\r\n"
    );
    assert_eq!(fixture.ask(&get("/app?q=%2e", &fields)).await.status, 200);
    let head = fixture.upstream.0.borrow_mut().pop().unwrap();
    assert!(head.starts_with("GET /app?q=%2e HTTP/1.1\r\nHost: gw.test\r\nAccept: */*\r\n"), "{head}");
    assert!(head.contains("\r\nX-Auth-User: alice\r\n"), "{head}");
    assert!(head.contains("\r\nX-Forwarded-For: 192.0.2.7\r\n"), "{head}");
    for gone in ["root", "X-Hop", "Authorization", "10.0.0.1"] {
        assert!(!head.contains(gone), "{gone} in {head}");
    }
}

#[tokio::test]
async fn cross_origin_fields_decorate_responses_and_refusals_alike() {
    let fixture = Fixture::new();
    let origin = "Origin: https://page.example\r\n";
    for (path, status) in
        [("/public", 200), ("/", 401), ("/none", 401), ("/panic", 500), ("/panic/later", 500)]
    {
        let answer = fixture.ask(&get(path, origin)).await;
        assert_eq!(answer.status, status, "{path}");
        let allowed = answer.headers.get("access-control-allow-origin");
        assert_eq!(allowed.unwrap(), "https://page.example", "{path}");
        // Neither what the upstream says nor what went wrong here is for pages of others.
        let stranger = fixture.ask(&get(path, "Origin: https://evil.example\r\n")).await;
        assert_eq!(stranger.status, status, "{path}");
        assert!(!stranger.headers.contains_key("access-control-allow-origin"), "{path}");
        assert_eq!(stranger.headers.get("vary").unwrap(), "Origin", "{path}");
    }
    let preflight = "OPTIONS /admin HTTP/1.1\r\nHost: a\r\nOrigin: https://page.example\r\n\
                     Access-Control-Request-Method: GET\r\n\r\n";
    assert_eq!(fixture.ask(preflight).await.status, 204, "a preflight needs no token");
}

#[tokio::test]
async fn a_preflight_reaches_an_app_that_answers_it_itself_and_the_401_stays_readable() {
    let fixture = Fixture::new();
    let preflight = |method: &str, more: &str| {
        format!("OPTIONS /own-cors HTTP/1.1\r\nHost: a\r\nOrigin: https://any.example\r\n{more}{method}\r\n")
    };
    let put = "Access-Control-Request-Method: PUT\r\n";
    let answer = fixture.ask(&preflight(put, "")).await;
    assert_eq!((answer.status, answer.headers.get("access-control-allow-origin")), (200, None));
    let head = fixture.upstream.0.borrow_mut().pop().unwrap();
    assert!(head.starts_with("OPTIONS /own-cors HTTP/1.1\r\n") && !head.contains("X-Auth-User"), "{head}");
    // What is no preflight needs its token, or its method.
    assert_eq!(fixture.ask(&preflight(put, "Content-Length: 1\r\n")).await.status, 405);
    assert_eq!(fixture.ask(&preflight("", "")).await.status, 405);
    let refused = fixture.ask(&get("/own-cors", "Origin: https://any.example\r\n")).await;
    assert_eq!(
        (refused.status, refused.headers.get("access-control-allow-origin").unwrap().as_bytes()),
        (401, &b"*"[..])
    );
    assert!(fixture.upstream.0.borrow().is_empty());
}

#[tokio::test]
async fn a_routes_edits_apply_to_its_responses_and_not_to_refusals() {
    let fixture = Fixture::new();
    let token = format!("Authorization: Bearer {}\r\n", fixture.token(&["user"], NOW + 60));
    for (path, fields, status, host, user) in [
        ("/edited", "", 200, Some("gw.test"), None),
        ("/edited", token.as_str(), 200, Some("gw.test"), Some("alice")),
        ("/edited", "Authorization: Bearer x.y.z\r\n", 401, None, None),
        ("/public", "", 200, None, None),
    ] {
        let answer = fixture.ask(&get(path, fields)).await;
        assert_eq!(answer.status, status, "{path} {fields}");
        let field = |name| answer.headers.get(name).map(|value| value.to_str().unwrap());
        assert_eq!((field("x-host"), field("x-user")), (host, user), "{path} {fields}");
    }
}

#[tokio::test]
async fn a_request_of_http_1_0_may_come_without_a_host() {
    let fixture = Fixture::new();
    assert_eq!(fixture.ask("GET /public HTTP/1.0\r\n\r\n").await.status, 200);
    let head = fixture.upstream.0.borrow_mut().pop().unwrap();
    assert!(head.contains("\r\nHost: 127.0.0.1:9\r\n") && !head.contains("X-Forwarded-Host"), "{head}");
}
