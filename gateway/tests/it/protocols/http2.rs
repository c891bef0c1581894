//! HTTP/2 to clients: the same rules as for HTTP/1.1, multiplexing, and no truncated response that looks
//! complete.

use std::time::Duration;

use bytes::Bytes;
use h2::client::SendRequest;
use http::Request;
use tokio::net::TcpStream;

use super::{config, secure};
use crate::fixture::http2::{ask, connect_tls, http2, read};
use crate::fixture::{Certificates, Gateway, PASSWORD, Upstream, tokens, wait_until};

fn plain(upstream: &Upstream) -> Gateway {
    Gateway::start(&config(upstream, "h2c = true"))
}

async fn client(gateway: &Gateway) -> SendRequest<Bytes> {
    http2(TcpStream::connect(gateway.address).await.unwrap()).await
}

fn get(path: &str) -> http::request::Builder {
    Request::builder().uri(format!("http://gw.test{path}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn alpn_chooses_http2_and_tokens_work_as_ever() {
    let (certificates, upstream) = (Certificates::make(), Upstream::start());
    let gateway = secure(&upstream, &certificates, "");
    let socket = connect_tls(&certificates, gateway.address, "127.0.0.1", &["h2", "http/1.1"]).await.unwrap();
    assert_eq!(socket.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let client = http2(socket).await;
    let login = Request::post("https://gw.test/login").header("content-type", "application/json");
    let credentials = format!("{{\"username\":\"alice\",\"password\":\"{PASSWORD}\"}}");
    let reply = ask(&client, login.body(()).unwrap(), credentials.as_bytes()).await.unwrap();
    assert_eq!(reply.status, 200, "{reply:?}");
    let access = reply.json()["access_token"].as_str().unwrap().to_owned();

    let refused = ask(&client, get("/protected").body(()).unwrap(), b"").await.unwrap();
    assert_eq!((refused.status.as_u16(), refused.field("www-authenticate")), (401, "Bearer"));
    let request = get("/protected/a?b")
        .header("authorization", format!("Bearer {access}"))
        .header("x-auth-user", "root");
    let reply = ask(&client, request.body(()).unwrap(), b"").await.unwrap();
    assert_eq!(reply.status, 200);
    assert!(reply.fields.contains_key("date") && !reply.field("x-request-id").is_empty());
    assert!(!reply.fields.contains_key("x-hop") && !reply.fields.contains_key("keep-alive"), "{reply:?}");
    let seen = upstream.last();
    assert_eq!((seen.target.as_str(), seen.values("x-auth-user")), ("/protected/a?b", vec!["alice"]));
    assert_eq!((seen.values("host"), seen.values("x-forwarded-proto")), (vec!["gw.test"], vec!["https"]));
    assert!(seen.values("authorization").is_empty());
    wait_until("it is written down", || gateway.log().contains("\"protocol\":\"HTTP/2\""));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn many_requests_at_once_each_get_their_own_answer() {
    let upstream = Upstream::start();
    let gateway = plain(&upstream);
    let (alice, bob) =
        (tokens(gateway.address, "alice", PASSWORD).0, tokens(gateway.address, "bob", PASSWORD).0);
    let client = client(&gateway).await;
    let asked = (0..60).map(|n| {
        let (client, token) = (client.clone(), [&alice, &bob][n % 2]);
        let request = get(&format!("/protected/{n}")).header("authorization", format!("Bearer {token}"));
        tokio::spawn(async move { ask(&client, request.body(()).unwrap(), b"").await.unwrap() })
    });
    for (n, asked) in asked.collect::<Vec<_>>().into_iter().enumerate() {
        let reply = asked.await.unwrap();
        assert!(reply.trailers.is_none());
        let reply = reply.json();
        assert_eq!(reply["target"], format!("/protected/{n}"));
        let user = reply["fields"].as_array().unwrap().iter().find(|f| f[0] == "X-Auth-User").unwrap();
        assert_eq!(user[1], ["alice", "bob"][n % 2]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn bodies_flow_both_ways_with_and_without_a_length() {
    let upstream = Upstream::start();
    let gateway = plain(&upstream);
    let client = client(&gateway).await;
    let body: Vec<u8> = (0..700_000u32).map(|n| (n % 251) as u8).collect();
    for length in [Some(body.len()), None] {
        let mut request = get("/app/mirror").method("POST");
        if let Some(length) = length {
            request = request.header("content-length", length);
        }
        let mut client = client.clone().ready().await.unwrap();
        let (response, mut stream) = client.send_request(request.body(()).unwrap(), false).unwrap();
        let reading = tokio::spawn(read(response));
        for piece in body.chunks(10_000) {
            stream.send_data(Bytes::copy_from_slice(piece), false).unwrap();
        }
        stream.send_data(Bytes::new(), true).unwrap();
        let reply = reading.await.unwrap().unwrap();
        assert!(reply.body == body, "{length:?}: {} bytes", reply.body.len());
        let seen = upstream.last();
        let framing = (seen.values("content-length").len(), seen.values("transfer-encoding").len());
        assert_eq!(framing, if length.is_some() { (1, 0) } else { (0, 1) });
    }
    let head = ask(&client, get("/app/a").method("HEAD").body(()).unwrap(), b"").await.unwrap();
    assert!(head.status == 200 && head.body.is_empty() && head.field("content-length") != "0");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn what_http1_refuses_http2_refuses_and_the_connection_goes_on() {
    let upstream = Upstream::start();
    let gateway = plain(&upstream);
    let client = client(&gateway).await;
    let disagreeing = get("/app").header("host", "evil.test");
    let many = (0..101).fold(get("/app"), |request, n| request.header(format!("x-{n}"), "v"));
    for (request, status, code) in [
        (get("/app/../protected"), 400, "ambiguous_target"),
        (get("/app//x"), 400, "ambiguous_target"),
        (get("/app/%2e%2e/protected"), 400, "ambiguous_target"),
        (get("/app/a%2fx"), 400, "ambiguous_target"),
        (disagreeing, 400, "ambiguous_target"),
        (many, 431, "headers_too_large"),
        (get("/app").method("TRACE"), 405, "method_not_allowed"),
        (get("/nowhere"), 404, "not_found"),
        (
            get("/protected").header("authorization", "Bearer a").header("authorization", "Bearer b"),
            400,
            "invalid_request",
        ),
        (get("/app").header("expect", "something"), 417, "bad_request"),
    ] {
        let reply = ask(&client, request.body(()).unwrap(), b"").await.unwrap();
        assert_eq!((reply.status.as_u16(), reply.json()["code"].as_str()), (status, Some(code)), "{reply:?}");
        assert_eq!(reply.field("content-type"), "application/problem+json");
    }
    assert!(upstream.requests().is_empty());
    assert_eq!(ask(&client, get("/app").body(()).unwrap(), b"").await.unwrap().status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_answer_that_is_cut_short_ends_with_a_reset() {
    use std::io::{Read, Write};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut socket in listener.incoming().flatten() {
            let _ = socket.read(&mut [0; 4096]);
            let _ = socket.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nhalf of it");
        }
    });
    let upstream = Upstream::start();
    let text = config(&upstream, "h2c = true").replace(&upstream.address.to_string(), &address.to_string());
    let gateway = Gateway::start(&text);
    let cut = ask(&client(&gateway).await, get("/app").body(()).unwrap(), b"").await.unwrap_err();
    assert_eq!(cut.reason(), Some(h2::Reason::INTERNAL_ERROR), "{cut}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_request_that_is_taken_back_is_given_up_upstream_too() {
    let upstream = Upstream::start();
    let gateway = plain(&upstream);
    let client = client(&gateway).await;
    let (response, mut stream) =
        client.clone().ready().await.unwrap().send_request(get("/app/slow").body(()).unwrap(), true).unwrap();
    wait_until("it has arrived", || !upstream.requests().is_empty());
    stream.send_reset(h2::Reason::CANCEL);
    drop(response);
    wait_until("it is written down", || gateway.log().contains("\"status\":499"));
    assert_eq!(ask(&client, get("/app").body(()).unwrap(), b"").await.unwrap().status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_client_that_does_not_read_is_let_go_after_the_write_timeout() {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&config(
        &upstream,
        "h2c = true\n[limits]\nwrite_timeout = \"300ms\"\nbody_timeout = \"300ms\"",
    ));
    let client = client(&gateway).await;
    let mut sender = client.clone().ready().await.unwrap();
    let request = get("/app/mirror").method("POST").header("content-length", 500_000);
    let (response, mut stream) = sender.send_request(request.body(()).unwrap(), false).unwrap();
    stream.send_data(Bytes::from(vec![1; 500_000]), true).unwrap();
    let mut body = response.await.unwrap().into_body();
    // The window is never opened again.
    let mut received = 0;
    let cut = loop {
        match tokio::time::timeout(Duration::from_secs(10), body.data()).await.unwrap() {
            Some(Ok(piece)) => received += piece.len(),
            Some(Err(cut)) => break cut,
            None => panic!("it ended well after {received} bytes"),
        }
    };
    assert!(cut.is_reset() && received < 500_000, "{cut} after {received}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_stop_lets_streams_finish_and_takes_no_more() {
    let upstream = Upstream::start();
    let mut gateway = plain(&upstream);
    let client = client(&gateway).await;
    let slow = tokio::spawn({
        let client = client.clone();
        async move { ask(&client, get("/app/slow").body(()).unwrap(), b"").await }
    });
    wait_until("it has arrived", || !upstream.requests().is_empty());
    gateway.terminate();
    assert_eq!(slow.await.unwrap().unwrap().status, 200);
    assert!(gateway.wait().success());
    assert!(ask(&client, get("/app").body(()).unwrap(), b"").await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_idle_connection_is_ended_and_one_at_work_is_not() {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&config(&upstream, "h2c = true\n[limits]\nidle_timeout = \"300ms\""));
    let client = client(&gateway).await;
    assert_eq!(ask(&client, get("/app/slow").body(()).unwrap(), b"").await.unwrap().status, 200);
    wait_until("it is gone", || gateway.metrics().contains("auth_gateway_connections_open 0\n"));
    assert!(ask(&client, get("/app").body(()).unwrap(), b"").await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn plain_connections_speak_http2_only_where_that_is_allowed() {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&config(&upstream, ""));
    let sent = crate::fixture::exchange(gateway.address, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    assert_eq!((sent.replies[0].status, sent.closed), (400, true));
    let gateway = plain(&upstream);
    let sent = crate::fixture::exchange(gateway.address, b"GET /app HTTP/1.1\r\nHost: gw.test\r\n\r\n");
    assert_eq!(sent.replies[0].status, 200, "HTTP/1.1 is spoken beside it");
}
