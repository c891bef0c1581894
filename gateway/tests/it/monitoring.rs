//! The metrics page, and the alert rules and the dashboard that use it.

use std::collections::HashSet;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::fixture::{Certificates, Gateway, PASSWORD, Upstream, get, login, tokens, wait_until};

const MONITORING: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../config/monitoring");

/// Runs promtool in the folder of the rules.
fn promtool(arguments: &[&str], input: &str) {
    let child = Command::new("promtool")
        .args(arguments)
        .current_dir(MONITORING)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = child.unwrap_or_else(|e| panic!("promtool: {e}; .ci/test installs Debian's prometheus"));
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "promtool {arguments:?}: {}", String::from_utf8_lossy(&text));
}

/// The names of metrics that a text mentions.
fn mentioned(text: &str) -> HashSet<String> {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let names =
        text.split(|c| !word(c)).filter(|w| w.starts_with("auth_gateway_") || w.starts_with("process_"));
    names.map(str::to_owned).collect()
}

#[test]
fn the_metrics_page_is_clean_and_has_all_that_alerts_and_dashboard_use() {
    let (upstream, certificates) = (Upstream::start(), Certificates::make());
    certificates.sign("server", "DNS:gw.test", 30);
    let config = format!(
        "[server.tls]\ncertificates = [{{ certificate_file = {:?}, private_key_file = {:?} }}]\n\
         [[issuers]]\nname = \"idp\"\nissuer = \"http://127.0.0.1:9\"\naudiences = [\"api\"]\n\
         [upstreams.app]\nurls = [\"http://{}\"]\n[[routes]]\npath = \"/api\"\nupstream = \"app\"\n",
        certificates.file("server.pem"),
        certificates.file("server.key"),
        upstream.address
    );
    let gateway = Gateway::start(&config);
    wait_until("sessions are counted", || gateway.metrics().contains("auth_gateway_sessions 0\n"));
    let page = gateway.metrics();
    promtool(&["check", "metrics"], &page);
    let exported: HashSet<String> = page
        .lines()
        .filter(|l| !l.starts_with('#'))
        .map(|l| l.split(['{', ' ']).next().unwrap().into())
        .collect();
    let reference = include_str!("../../../docs/reference/metrics.md");
    for family in page.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        let (name, kind) = family.split_once(' ').unwrap();
        assert!(
            reference.contains(&format!("| `{name}` | {kind} | ")),
            "docs/reference/metrics.md: {family}"
        );
    }
    for file in ["alerts.yml", "grafana-dashboard.json"] {
        let text = std::fs::read_to_string(Path::new(MONITORING).join(file)).unwrap();
        let missing: Vec<_> = mentioned(&text).difference(&exported).cloned().collect();
        assert!(missing.is_empty(), "{file} uses {missing:?}, which the gateway does not export:\n{page}");
    }
}

#[test]
fn the_alert_rules_pass_their_own_tests() {
    promtool(&["check", "rules", "alerts.yml"], "");
    promtool(&["test", "rules", "alerts-test.yml"], "");
    promtool(&["check", "config", "prometheus.yml"], "");
}

#[test]
fn durations_are_kept_apart_by_route_endpoint_and_upstream() {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&format!(
        "[upstreams.app]\nurls = [\"http://{}\"]\n[[routes]]\npath = \"/api\"\nupstream = \"app\"\n",
        upstream.address
    ));
    let (access, _) = tokens(gateway.address, "alice", PASSWORD);
    assert_eq!(login(gateway.address, "alice", "wrong").status, 401);
    for _ in 0..3 {
        let fields = [("Authorization", &*format!("Bearer {access}"))];
        assert_eq!(get(gateway.address, "/api", &fields).unwrap().status, 200);
    }
    let page = gateway.metrics();
    for line in [
        "auth_gateway_request_duration_seconds_count{route=\"/api\"} 3",
        "auth_gateway_request_duration_seconds_count{route=\"(login)\"} 2",
        "auth_gateway_upstream_duration_seconds_count{upstream=\"app\"} 3",
        "auth_gateway_requests_total{route=\"(login)\",status=\"4xx\"} 1",
    ] {
        assert!(page.lines().any(|l| l == line), "{line} is not in\n{page}");
    }
}
