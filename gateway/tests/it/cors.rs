//! Pages of other origins: what a browser's calls need, over HTTP/1.1 and HTTP/2, from preflight to answer.

use http::Request;

use crate::fixture::{Gateway, PASSWORD, Upstream, exchange, get, request, tokens, users_file, wait_until};

const ORIGIN: &str = "https://page.example";

/// Calls of common clients: method, and the names that a browser lists in the preflight.
const CALLS: [(&str, &str); 12] = [
    ("POST", "content-type,x-csrf-token"),
    ("POST", "content-type,x-xsrf-token,x-requested-with"),
    ("PUT", "authorization,if-match"),
    ("GET", "if-none-match,range"),
    ("GET", "traceparent,tracestate"),
    ("POST", "tus-resumable,upload-length,upload-metadata"),
    ("PATCH", "content-type,tus-resumable,upload-offset"),
    ("HEAD", "tus-resumable"),
    ("POST", "content-type,grpc-timeout,x-grpc-web,x-user-agent"),
    ("POST", "connect-protocol-version,connect-timeout-ms,content-type"),
    ("POST", "authorization,content-type,idempotency-key"),
    ("DELETE", "authorization"),
];

fn start(upstream: &Upstream) -> Gateway {
    let config = format!(
        "[server]\nh2c = true\n[cors]\nallowed_origins = [\"{ORIGIN}\"]\n[upstreams.app]\nurls = [\"http://{}\"]\n\
         [[routes]]\npath = \"/api\"\nupstream = \"app\"\n\
         [[routes]]\npath = \"/tenant\"\nupstream = \"app\"\n\
         cors = {{ allow_headers = [\"X-Tenant\"], expose_headers = [\"X-Own\"], allow_credentials = true, max_age = \"1h\" }}\n\
         [[routes]]\npath = \"/app\"\nupstream = \"app\"\ncors = {{ pass_through = true }}\n",
        upstream.address
    );
    Gateway::start_with(&config, &users_file(&[("1", "alice", PASSWORD, &["user"])]), &[])
}

/// Whether a browser would send the request behind a preflight, by what was answered (Fetch section 4.9).
fn goes_on(origin: &str, methods: &str, names: &str, method: &str, wanted: &str) -> bool {
    let has = |list: &str, name: &str| list.split(", ").any(|known| known.eq_ignore_ascii_case(name));
    origin == ORIGIN
        && (["GET", "HEAD", "POST"].contains(&method) || has(methods, method))
        && wanted.split(',').all(|name| has(names, name))
}

#[test]
fn the_calls_of_common_clients_pass_their_preflight_over_both_protocols() {
    let upstream = Upstream::start();
    let gateway = start(&upstream);
    for (method, names) in CALLS {
        let fields = [
            ("Origin", ORIGIN),
            ("Access-Control-Request-Method", method),
            ("Access-Control-Request-Headers", names),
        ];
        let reply = request(gateway.address, "OPTIONS", "/api/x", &fields, b"").unwrap();
        let field = |name: &str| reply.field(name).unwrap_or_default();
        let (origin, methods) = (field("access-control-allow-origin"), field("access-control-allow-methods"));
        let allowed = field("access-control-allow-headers");
        assert!(goes_on(origin, methods, allowed, method, names), "{method} {names}: {reply:?}");
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let socket = tokio::net::TcpStream::connect(gateway.address).await.unwrap();
        let client = crate::fixture::http2::http2(socket).await;
        for (method, names) in CALLS {
            let request = Request::options(format!("http://{}/api/x", gateway.address))
                .header("origin", ORIGIN)
                .header("access-control-request-method", method)
                .header("access-control-request-headers", names);
            let reply = crate::fixture::http2::ask(&client, request.body(()).unwrap(), b"").await.unwrap();
            let (origin, methods) =
                (reply.field("access-control-allow-origin"), reply.field("access-control-allow-methods"));
            let allowed = reply.field("access-control-allow-headers");
            assert!(goes_on(origin, methods, allowed, method, names), "{method} {names}: {reply:?}");
        }
    });
    assert!(upstream.requests().is_empty(), "a preflight needs no token and reaches no app");
}

#[test]
fn a_route_has_its_own_policy_or_leaves_cors_to_its_app() {
    let upstream = Upstream::start();
    let gateway = start(&upstream);
    let (access, _) = tokens(gateway.address, "alice", PASSWORD);
    let preflight = |path: &str, name: &str| {
        let fields = [
            ("Origin", ORIGIN),
            ("Access-Control-Request-Method", "PUT"),
            ("Access-Control-Request-Headers", name),
        ];
        request(gateway.address, "OPTIONS", path, &fields, b"").unwrap()
    };
    let own = preflight("/tenant", "x-tenant");
    assert_eq!(own.field("access-control-allow-headers"), Some("X-Tenant"));
    assert_eq!(own.field("access-control-allow-credentials"), Some("true"));
    assert_eq!(own.field("access-control-max-age"), Some("3600"));
    let bearer = format!("Bearer {access}");
    let answer = get(gateway.address, "/tenant", &[("Origin", ORIGIN), ("Authorization", &bearer)]).unwrap();
    assert_eq!(
        answer.field("access-control-expose-headers"),
        Some("WWW-Authenticate, Retry-After, X-Request-Id, X-Own")
    );
    upstream.clear();

    let passed = preflight("/app", "x-whatever");
    assert_eq!((passed.status, passed.field("access-control-allow-origin")), (200, None));
    assert_eq!(upstream.last().values("access-control-request-headers"), ["x-whatever"]);
    assert!(upstream.last().values("x-auth-user").is_empty());
    let refused = get(gateway.address, "/app", &[("Origin", ORIGIN)]).unwrap();
    assert_eq!((refused.status, refused.field("access-control-allow-origin")), (401, Some(ORIGIN)));
    for outcome in ["\"cors\":\"preflight_allowed\"", "\"cors\":\"preflight_passed\""] {
        wait_until("the access line", || gateway.log().contains(outcome));
    }
    let gone = exchange(
        gateway.address,
        b"OPTIONS /app HTTP/1.1\r\nHost: a\r\nOrigin: https://page.example\r\nConnection: close\r\n\r\n",
    );
    assert_eq!(gone.replies[0].status, 401, "what is no preflight needs its token");
}

#[test]
fn explain_says_what_becomes_of_a_preflight() {
    let upstream = Upstream::start();
    let gateway = start(&upstream);
    for (path, name, expected) in [
        ("/api", "if-match", "preflight is answered here: the browser goes on"),
        ("/api", "x-tenant", "preflight is answered here: refused, x-tenant is not among cors.allow_headers"),
        ("/app", "x-tenant", "preflight is left to the app, without a token"),
    ] {
        let (names, origin) =
            (format!("Access-Control-Request-Headers: {name}"), format!("Origin: {ORIGIN}"));
        let arguments = ["explain", "--config", "gateway.toml", "OPTIONS", path, "-H", &origin];
        let arguments =
            [&arguments[..], &["-H", "Access-Control-Request-Method: PUT", "-H", &names]].concat();
        let (code, output, notes) = Gateway::command(gateway.path("").as_path(), &arguments, "");
        assert_eq!(code, 0, "{notes}");
        assert!(output.contains(expected), "{output}");
    }
}

/// A credential of the gateway's own goes only with requests that were authenticated, and so do upgrades.
#[test]
fn a_preflight_that_is_passed_on_carries_no_credential_and_opens_no_tunnel() {
    let upstream = Upstream::start();
    let config = format!(
        "[upstreams.app]\nurls = [\"http://{}\"]\n[[routes]]\npath = \"/app\"\nupstream = \"app\"\n\
         cors = {{ pass_through = true }}\nupgrade = [\"tcp\"]\nupstream_authorization = \"Basic b3duOnNlY3JldA==\"\n",
        upstream.address
    );
    let gateway = Gateway::start_with(&config, &users_file(&[("1", "alice", PASSWORD, &["user"])]), &[]);
    let preflight = [("Origin", ORIGIN), ("Access-Control-Request-Method", "GET")];
    let reply = request(gateway.address, "OPTIONS", "/app/x", &preflight, b"").unwrap();
    assert_eq!(reply.status, 200, "{reply:?}");
    assert!(upstream.last().values("authorization").is_empty(), "no credential without authentication");
    let (token, _) = tokens(gateway.address, "alice", PASSWORD);
    let bearer = format!("Bearer {token}");
    let fields = [("Authorization", bearer.as_str())];
    assert_eq!(request(gateway.address, "GET", "/app/x", &fields, b"").unwrap().status, 200);
    assert_eq!(upstream.last().values("authorization"), ["Basic b3duOnNlY3JldA=="]);
    upstream.clear();
    for upgrade in [("tcp", "Upgrade"), ("TCP", "upgrade"), ("x, tcp", "x, Upgrade")] {
        let fields = [preflight[0], preflight[1], ("Upgrade", upgrade.0), ("Connection", upgrade.1)];
        let reply = request(gateway.address, "OPTIONS", "/app/x", &fields, b"").unwrap();
        assert_eq!((reply.status, reply.code().as_str()), (401, "missing_token"), "{upgrade:?}");
    }
    assert!(upstream.requests().is_empty());
}
