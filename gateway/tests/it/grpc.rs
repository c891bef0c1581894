//! gRPC through the gateway, with the client and the server of grpcio.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::fixture::{
    Gateway, PASSWORD, Running, free_address, python_script, tokens, users_file, wait_until,
};

fn peer() -> Command {
    python_script("grpc_peer.py")
}

/// A server of grpcio; it is killed when this is dropped.
struct Server {
    program: Running,
    port: u16,
}

impl Server {
    fn start(options: &Value) -> Server {
        let child =
            peer().args(["serve", &options.to_string()]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut child = child.unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let port = line.trim().parse().expect("the server's port: is grpcio installed?");
        Server { program: Running(child), port }
    }
}

fn start(port: u16) -> Gateway {
    let config = format!(
        "[server]\nh2c = true\n[limits]\nbody_timeout = \"1s\"\n\
         [upstreams.app]\nprotocol = \"http2\"\nbody_timeout = \"1s\"\nurls = [\"http://127.0.0.1:{port}\"]\n\
         [upstreams.gone]\nprotocol = \"http2\"\nurls = [\"http://{}\"]\n\
         [[routes]]\npath = \"/test.Test\"\nupstream = \"app\"\nmax_body = \"64KiB\"\n\
         [[routes]]\npath = \"/test.Limited/Chat\"\nupstream = \"app\"\nrequest_body_timeout = \"1s\"\n\
         rewrite_prefix = \"/test.Test/Chat\"\n\
         [[routes]]\npath = \"/test.Admin\"\nupstream = \"app\"\nroles = [\"admin\"]\n\
         [[routes]]\npath = \"/test.Gone\"\nupstream = \"gone\"\n",
        free_address()
    );
    Gateway::start_with(&config, &users_file(&[("1", "alice", PASSWORD, &["user"])]), &[])
}

/// What grpcio's client makes of calls through the gateway.
fn client(gateway: &Gateway, commands: &Value) -> Vec<Value> {
    let run = peer().args(["client", &gateway.address.to_string(), &commands.to_string()]).output().unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    serde_json::from_slice(&run.stdout).unwrap()
}

#[test]
fn refusals_reach_a_grpc_client_as_status_and_reason() {
    let server = Server::start(&json!({}));
    let gateway = start(server.port);
    let (token, _) = tokens(gateway.address, "alice", PASSWORD);
    let cases = [
        ("/test.Test/Unary", token.as_str(), 10, "OK", ""),
        ("/test.Test/Unary", "", 10, "UNAUTHENTICATED", "this route needs an access token"),
        (
            "/test.Test/Unary",
            "x.y.z",
            10,
            "UNAUTHENTICATED",
            "the token is malformed, forged or not from here",
        ),
        ("/test.Admin/Unary", &token, 10, "PERMISSION_DENIED", "none of the route's roles"),
        (
            "/test.Test/Unary",
            &token,
            1 << 20,
            "RESOURCE_EXHAUSTED",
            "the body is larger than is allowed here",
        ),
        ("/test.Nothing/Unary", &token, 10, "UNIMPLEMENTED", "no route leads here"),
        ("/test.Gone/Unary", &token, 10, "UNAVAILABLE", "the upstream cannot be reached"),
    ];
    let commands: Value =
        cases.iter().map(|(path, token, size, ..)| json!(["unary", path, token, size])).collect();
    let outcomes = client(&gateway, &commands);
    for ((path, _, size, status, reason), outcome) in cases.iter().zip(outcomes) {
        assert_eq!(outcome, json!([status, reason]), "{path} with {size} bytes");
    }
}

#[test]
fn a_hundred_calls_at_once_succeed_at_a_server_that_accepts_few_streams_and_ends_connections() {
    for options in [
        json!({ "grpc.max_concurrent_streams": 8 }),
        json!({ "grpc.max_connection_age_ms": 100, "grpc.max_connection_age_grace_ms": 2000 }),
    ] {
        let server = Server::start(&options);
        let gateway = start(server.port);
        let (token, _) = tokens(gateway.address, "alice", PASSWORD);
        let many = ["many"; 3].map(|kind| json!([kind, "/test.Test/Unary", token, 100]));
        for outcomes in client(&gateway, &json!(many)) {
            let failed: Vec<&Value> =
                outcomes.as_array().unwrap().iter().filter(|outcome| outcome[0] != "OK").collect();
            assert!(
                failed.is_empty(),
                "{options}: {} failed, such as {}\n{}",
                failed.len(),
                failed[0],
                gateway.log()
            );
        }
    }
}

#[test]
fn a_silent_stream_goes_on_unless_its_route_limits_that() {
    let server = Server::start(&json!({}));
    let gateway = start(server.port);
    let (token, _) = tokens(gateway.address, "alice", PASSWORD);
    let commands = json!([
        ["silent", "/test.Test/Chat", token, 2500],
        ["count", "/test.Test/Count", token, [2500]],
        ["silent", "/test.Limited/Chat", token, 2500],
    ]);
    let outcomes = client(&gateway, &commands);
    assert_eq!(outcomes[0], json!(["OK", "", 2]));
    assert_eq!(outcomes[1], json!(["OK", ""]));
    assert_ne!(outcomes[2][0], "OK");
}

#[test]
fn a_failure_in_mid_stream_and_the_end_of_a_session_are_statuses() {
    let server = Server::start(&json!({}));
    let gateway = start(server.port);
    for (ends_server, status) in [(false, "UNAUTHENTICATED"), (true, "UNAVAILABLE")] {
        let (token, _) = tokens(gateway.address, "alice", PASSWORD);
        let command = json!([["count", "/test.Test/Count", token, [15_000]]]).to_string();
        let running = peer()
            .args(["client", &gateway.address.to_string(), &command])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let begun = if ends_server { 2 } else { 1 };
        let line =
            format!("auth_gateway_upstream_requests_total{{upstream=\"app\",outcome=\"ok\"}} {begun}\n");
        wait_until("the stream", || gateway.metrics().contains(&line));
        if ends_server {
            let killed = Command::new("kill").args(["-9", &server.program.0.id().to_string()]).status();
            assert!(killed.unwrap().success());
        } else {
            assert_eq!(crate::fixture::post(gateway.address, "/logout", &token).status, 204);
        }
        let output = running.wait_with_output().unwrap();
        let outcomes: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(outcomes[0][0], status, "{outcomes}");
        assert!(outcomes[0][1].as_str().unwrap().starts_with("the stream was aborted: "), "{outcomes}");
    }
}
