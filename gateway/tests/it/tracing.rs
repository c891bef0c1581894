//! W3C trace context and spans, with a collector that decodes them by OpenTelemetry's own messages.

use std::io::{BufRead, BufReader};
use std::process::{ChildStdin, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use serde_json::Value;

use crate::fixture::http2::{ask, http2};
use crate::fixture::{
    Gateway, PASSWORD, Running, Upstream, free_address, get, login, python_script, tokens, wait_until,
};

const TRACE_ID: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// A running collector.
struct Collector {
    _program: Running,
    _input: ChildStdin,
    port: u16,
    spans: Receiver<Value>,
}

impl Collector {
    fn start() -> Collector {
        let mut command = python_script("otlp_collector.py");
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("python starts");
        let input = child.stdin.take().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let port = lines.next().expect("the collector says why not").unwrap().parse().unwrap();
        let (sender, spans) = channel();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let _ = sender.send(serde_json::from_str(&line).unwrap());
            }
        });
        Collector { _program: Running(child), _input: input, port, spans }
    }

    fn config(&self, more: &str) -> String {
        format!("[tracing]\nenabled = true\notlp.endpoint = \"http://127.0.0.1:{}\"\n{more}\n", self.port)
    }

    /// The next span of that name.
    fn span(&self, name: &str) -> Value {
        loop {
            let span =
                self.spans.recv_timeout(Duration::from_secs(20)).unwrap_or_else(|e| panic!("{name}: {e}"));
            if span["name"] == name {
                return span;
            }
        }
    }
}

fn config(upstream: &Upstream) -> String {
    format!(
        "[upstreams.app]\nurls = [\"http://{}\"]\n[[routes]]\npath = \"/\"\nupstream = \"app\"\naccess = \"public\"\n\
         [[routes]]\npath = \"/private\"\nupstream = \"app\"\n",
        upstream.address
    )
}

const TRUSTED: &str = "[server]\ntrusted_proxies = [\"127.0.0.1\"]\nh2c = true\n";

/// The values of the field of that name that an upstream got last.
fn sent(upstream: &Upstream, name: &str) -> Vec<String> {
    upstream.last().values(name).into_iter().map(str::to_owned).collect()
}

/// The status of a GET over HTTP/2.
fn http2_get(gateway: &Gateway, path: &str, fields: &[(&str, &str)]) -> u16 {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let client = http2(tokio::net::TcpStream::connect(gateway.address).await.unwrap()).await;
        let request = http::Request::get(format!("http://{}{path}", gateway.address));
        let request = fields.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        ask(&client, request.body(()).unwrap(), b"").await.unwrap().status.as_u16()
    })
}

#[test]
fn spans_reach_the_collector_with_their_parents_and_attributes() {
    let (upstream, collector) = (Upstream::start(), Collector::start());
    let more = "otlp.service_name = \"edge\"\notlp.headers = \"Authorization: Bearer for-the-collector\"";
    let gateway = Gateway::start(&(TRUSTED.to_owned() + &collector.config(more) + &config(&upstream)));
    let fields = [("traceparent", PARENT), ("tracestate", "vendor=1"), ("User-Agent", "test/1")];
    assert_eq!(get(gateway.address, "/a/b?secret=1", &fields).unwrap().status, 200);
    let server = collector.span("GET /");
    let client = collector.span("GET");
    for span in [&server, &client] {
        assert_eq!(
            (&span["trace_id"], &span["trace_state"]),
            (&TRACE_ID.into(), &"vendor=1".into()),
            "{span}"
        );
        assert_eq!((&span["path"], &span["service"]), (&"/v1/traces".into(), &"edge".into()));
        assert_eq!(span["content_type"], "application/x-protobuf");
        assert_eq!(span["authorization"], "Bearer for-the-collector");
        assert!(span["nanos"].as_u64().unwrap() > 0 && !span.to_string().contains("secret"), "{span}");
    }
    assert_eq!((&server["parent_span_id"], &server["kind"]), (&"00f067aa0ba902b7".into(), &2.into()));
    assert_eq!((&client["parent_span_id"], &client["kind"]), (&server["span_id"], &3.into()));
    let attributes = &server["attributes"];
    for (name, value) in [
        ("http.request.method", "GET"),
        ("url.path", "/a/b"),
        ("url.scheme", "http"),
        ("server.address", "127.0.0.1"),
        ("http.response.status_code", "200"),
        ("http.route", "/"),
        ("network.protocol.version", "1.1"),
        ("client.address", "127.0.0.1"),
        ("user_agent.original", "test/1"),
    ] {
        assert_eq!(attributes[name], value, "{attributes}");
    }
    assert_eq!(client["attributes"]["server.port"], upstream.address.port().to_string());
    let passed = format!("00-{TRACE_ID}-{}-01", client["span_id"].as_str().unwrap());
    assert_eq!(
        sent(&upstream, "traceparent"),
        [passed],
        "the upstream's spans are children of the request to it"
    );
    assert_eq!(sent(&upstream, "tracestate"), ["vendor=1"]);
    wait_until("the access log has the ids", || {
        let ids = format!("\"trace_id\":\"{TRACE_ID}\",\"span_id\":{}", server["span_id"]);
        gateway.log().contains(&ids)
    });

    login(gateway.address, "alice", "wrong");
    let refused = collector.span("POST /login");
    assert_eq!(refused["attributes"]["error.type"], "invalid_credentials");
    assert_eq!(refused["status"], 0, "a wrong password is no error of the server");
    wait_until("the audit event has them too", || {
        let id = refused["trace_id"].as_str().unwrap();
        gateway.log().lines().any(|line| line.contains("\"kind\":\"audit\"") && line.contains(id))
    });
    assert!(gateway.metrics().contains("auth_gateway_spans_total{outcome=\"dropped\"} 0\n"));
}

#[test]
fn an_upstream_that_fails_is_an_error_in_both_spans() {
    let (upstream, collector) = (Upstream::start(), Collector::start());
    let closed = free_address();
    let config = config(&upstream).replace(&upstream.address.to_string(), &closed.to_string());
    let gateway = Gateway::start(&(collector.config("") + &config));
    assert_eq!(get(gateway.address, "/x", &[]).unwrap().status, 502);
    let (server, client) = (collector.span("GET /"), collector.span("GET"));
    assert_eq!((&server["status"], &server["attributes"]["error.type"]), (&2.into(), &"bad_gateway".into()));
    assert_eq!(
        (&client["status"], &client["attributes"]["error.type"]),
        (&2.into(), &"connect_failed".into())
    );
    let id = server["trace_id"].as_str().unwrap();
    let warned = |line: &str| line.contains("upstream failed") && line.contains(id);
    wait_until("the warning has the trace", || gateway.log().lines().any(warned));
}

#[test]
fn whose_trace_is_continued_is_a_setting_on_both_protocols() {
    let upstream = Upstream::start();
    for (accept, trusted, continued) in
        [("trusted", true, true), ("trusted", false, false), ("always", false, true), ("never", true, false)]
    {
        let server = if trusted { TRUSTED } else { "[server]\nh2c = true\n" };
        let tracing = format!("[tracing]\nenabled = true\naccept = {accept:?}\n");
        let gateway = Gateway::start(&(server.to_owned() + &tracing + &config(&upstream)));
        for http2 in [false, true] {
            upstream.clear();
            let fields = [("traceparent", PARENT), ("tracestate", "vendor=1")];
            let status = match http2 {
                false => get(gateway.address, "/x", &fields).unwrap().status,
                true => http2_get(&gateway, "/x", &fields),
            };
            assert_eq!(status, 200);
            let (parents, states) = (sent(&upstream, "traceparent"), sent(&upstream, "tracestate"));
            assert_eq!(parents.len(), 1, "{parents:?}");
            // Without a collector the caller's span stays the parent.
            assert_eq!(parents[0] == PARENT, continued, "{accept} {trusted} {parents:?}");
            assert_eq!(states.len(), usize::from(continued), "{states:?}");
        }
        upstream.clear();
        get(gateway.address, "/x", &[("traceparent", PARENT), ("Traceparent", PARENT)]).unwrap();
        let parents = sent(&upstream, "traceparent");
        assert!(parents.len() == 1 && !parents[0].contains(TRACE_ID), "two are none: {parents:?}");
    }
}

#[test]
fn without_tracing_the_fields_pass_and_without_generate_there_is_no_trace() {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&config(&upstream));
    get(gateway.address, "/x", &[("traceparent", "anything"), ("tracestate", "a")]).unwrap();
    assert_eq!(
        (sent(&upstream, "traceparent"), sent(&upstream, "tracestate")),
        (vec!["anything".into()], vec!["a".into()])
    );
    assert!(!gateway.log().contains("trace_id"));
    drop(gateway);
    let tracing = "[tracing]\nenabled = true\ngenerate = false\n";
    let gateway = Gateway::start(&(tracing.to_owned() + &config(&upstream)));
    get(gateway.address, "/x", &[("traceparent", PARENT)]).unwrap();
    assert!(sent(&upstream, "traceparent").is_empty(), "it came from a client that is not trusted");
    wait_until("the request is logged", || gateway.log().contains("\"kind\":\"access\""));
    assert!(!gateway.log().contains("trace_id"));
}

#[test]
fn a_trace_that_is_not_sampled_is_passed_on_and_not_exported() {
    let (upstream, collector) = (Upstream::start(), Collector::start());
    let config = collector.config("sample_ratio = 0\naccept = \"always\"") + &config(&upstream);
    let mut gateway = Gateway::start(&config);
    get(gateway.address, "/unsampled", &[]).unwrap();
    assert!(sent(&upstream, "traceparent")[0].ends_with("-00"));
    let (access, _) = tokens(gateway.address, "alice", PASSWORD);
    let fields = [("Authorization", &*format!("Bearer {access}")), ("traceparent", PARENT)];
    assert_eq!(get(gateway.address, "/private", &fields).unwrap().status, 200);
    gateway.terminate();
    gateway.wait();
    let span = collector.span("GET /private");
    assert_eq!(span["trace_id"], TRACE_ID, "the caller has it sampled, and the stop has sent it");
    assert!(collector.spans.try_iter().all(|span| span["trace_id"] == TRACE_ID));
}
