//! HTTP/2 upstreams: multiplexing, bidirectional streams, and trailers, which gRPC needs.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream};
use http::{HeaderMap, Request, Response};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::fixture::http2::{ask, http2, read};
use crate::fixture::{Gateway, PASSWORD, get, tokens, wait_until};

/// A server of HTTP/2 by prior knowledge.
struct Server {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    requests: Arc<AtomicUsize>,
}

/// How a server's first connection ends.
#[derive(Clone, Copy, PartialEq)]
enum End {
    /// The first stream gets GOAWAY with no stream as the last: it was not processed.
    GoAway,
    /// The first stream is answered with 204, the second is met by silence and the end.
    Loss,
}

impl Server {
    async fn start() -> Server {
        Server::start_with(None).await
    }

    async fn start_with(mut first: Option<End>) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Server {
            address: listener.local_addr().unwrap(),
            connections: Arc::default(),
            requests: Arc::default(),
        };
        let (connections, requests) = (Arc::clone(&server.connections), Arc::clone(&server.requests));
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                connections.fetch_add(1, Ordering::SeqCst);
                match first.take() {
                    Some(end) => tokio::spawn(serve_and_end(socket, end)),
                    None => tokio::spawn(serve(socket, Arc::clone(&requests))),
                };
            }
        });
        server
    }

    fn gateway(&self, more: &str) -> Gateway {
        Gateway::start(&format!(
            "[server]\nworkers = 1\nh2c = true\n[store]\nkind = \"memory\"\n\
             [upstreams.app]\nurls = [\"http://{}\"]\nprotocol = \"http2\"\n{more}\n\
             [[routes]]\npath = \"/\"\nupstream = \"app\"\n",
            self.address
        ))
    }
}

async fn serve(socket: TcpStream, requests: Arc<AtomicUsize>) {
    let mut connection = h2::server::handshake(socket).await.unwrap();
    while let Some(Ok((request, respond))) = connection.accept().await {
        requests.fetch_add(1, Ordering::SeqCst);
        if request.uri().path() == "/goaway" {
            connection.graceful_shutdown();
        }
        tokio::spawn(answer(request, respond));
    }
}

async fn serve_and_end(mut socket: TcpStream, end: End) {
    let mut preface = [0; 24];
    socket.read_exact(&mut preface).await.unwrap();
    socket.write_all(b"\0\0\0\x04\0\0\0\0\0").await.unwrap();
    let (mut frame, mut heads) = ([0; 9], 0);
    // Until the gateway hangs up.
    while socket.read_exact(&mut frame).await.is_ok() {
        let mut payload = vec![0; u32::from_be_bytes([0, frame[0], frame[1], frame[2]]) as usize];
        socket.read_exact(&mut payload).await.unwrap();
        let is_head = frame[3] == 1;
        heads += usize::from(is_head);
        match end {
            End::GoAway if is_head => {
                socket.write_all(b"\0\0\x08\x07\0\0\0\0\0\0\0\0\0\0\0\0\0").await.unwrap();
            }
            End::Loss if is_head && heads == 1 => {
                let head = [&b"\0\0\x01\x01\x05"[..], &frame[5..], b"\x89"].concat();
                socket.write_all(&head).await.unwrap();
            }
            End::Loss if is_head => return,
            _ => {}
        }
    }
}

async fn answer(request: Request<RecvStream>, mut respond: SendResponse<Bytes>) {
    let (parts, mut body) = request.into_parts();
    let ok = || Response::builder().status(200).header("content-type", "application/grpc");
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", "0".parse().unwrap());
    trailers.insert("x-request-id", "upstream".parse().unwrap());
    match parts.uri.path() {
        "/fields" => {
            let said = format!("{} {} {:?}", parts.uri, parts.method, parts.headers);
            let mut stream = respond.send_response(ok().body(()).unwrap(), false).unwrap();
            stream.send_data(said.into_bytes().into(), true).unwrap();
        }
        "/refused" => {
            let only = ok().header("grpc-status", "7").body(()).unwrap();
            respond.send_response(only, true).unwrap();
        }
        "/cut" => {
            let mut stream = respond.send_response(ok().body(()).unwrap(), false).unwrap();
            stream.send_data(Bytes::from_static(b"half of it"), false).unwrap();
            tokio::time::sleep(Duration::from_millis(50)).await;
            stream.send_reset(Reason::INTERNAL_ERROR);
        }
        "/slow" => {
            tokio::select! {
                _ = std::future::poll_fn(|cx| respond.poll_reset(cx)) => {}
                () = tokio::time::sleep(Duration::from_secs(20)) => {}
            }
        }
        // Echoes each piece as it comes, then the trailers.
        _ => {
            let mut stream = respond.send_response(ok().body(()).unwrap(), false).unwrap();
            while let Some(Ok(piece)) = body.data().await {
                body.flow_control().release_capacity(piece.len()).unwrap();
                stream.send_data(piece, false).unwrap();
            }
            stream.send_trailers(trailers).unwrap();
        }
    }
}

fn post(path: &str, token: &str) -> Request<()> {
    let request =
        Request::post(format!("http://gw.test{path}")).header("authorization", format!("Bearer {token}"));
    request.header("te", "trailers").header("x-auth-user", "root").body(()).unwrap()
}

async fn client(gateway: &Gateway) -> h2::client::SendRequest<Bytes> {
    http2(TcpStream::connect(gateway.address).await.unwrap()).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn trailers_reach_the_client_and_the_identity_the_server() {
    let server = Server::start().await;
    let gateway = server.gateway("");
    let (token, _) = tokens(gateway.address, "alice", PASSWORD);
    let client = client(&gateway).await;
    let reply = ask(&client, post("/unary", &token), b"hello").await.unwrap();
    assert_eq!((reply.status.as_u16(), &reply.body[..]), (200, &b"hello"[..]));
    let trailers = reply.trailers.unwrap();
    assert_eq!(trailers["grpc-status"], "0");
    assert!(!trailers.contains_key("x-request-id"), "one that is the gateway's");
    let only = ask(&client, post("/refused", &token), b"").await.unwrap();
    assert_eq!((only.field("grpc-status"), only.body.len()), ("7", 0));

    let said = ask(&client, post("/fields", &token), b"").await.unwrap().body;
    let said = String::from_utf8(said).unwrap();
    assert!(said.starts_with("http://gw.test/fields POST"), "{said}");
    assert!(said.contains("\"x-auth-user\": \"alice\"") && !said.contains("root"), "{said}");
    assert!(said.contains("\"te\": \"trailers\"") && !said.contains("authorization"), "{said}");
    assert!(!said.contains("connection") && !said.contains("transfer-encoding"), "{said}");
    let refused = ask(&client, post("/unary", "forged"), b"x").await.unwrap();
    assert_eq!(refused.status, 401);

    // A client of HTTP/1.1 gets the answer too, without trailers.
    let plain = get(gateway.address, "/fields", &[("Authorization", &format!("Bearer {token}"))]).unwrap();
    assert!(plain.status == 200 && plain.text().contains("GET"), "{plain:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_flows_both_ways_at_once() {
    let server = Server::start().await;
    let gateway = server.gateway("");
    let (token, _) = tokens(gateway.address, "alice", PASSWORD);
    let mut sender = client(&gateway).await.ready().await.unwrap();
    let (response, mut up) = sender.send_request(post("/chat", &token), false).unwrap();
    let mut down = response.await.unwrap().into_body();
    for n in 0..20 {
        up.send_data(Bytes::from(format!("message {n}")), false).unwrap();
        let back = tokio::time::timeout(Duration::from_secs(5), down.data()).await.unwrap().unwrap().unwrap();
        down.flow_control().release_capacity(back.len()).unwrap();
        assert_eq!(back, format!("message {n}"));
    }
    up.send_data(Bytes::new(), true).unwrap();
    assert!(down.data().await.is_none());
    assert_eq!(down.trailers().await.unwrap().unwrap()["grpc-status"], "0");

    let big = vec![7; 1_000_000];
    let (response, mut up) = sender.ready().await.unwrap().send_request(post("/big", &token), false).unwrap();
    let reading = tokio::spawn(read(response));
    up.send_data(big.clone().into(), true).unwrap();
    assert!(reading.await.unwrap().unwrap().body == big);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_requests_share_a_connection_and_an_end_of_it_costs_none() {
    let server = Server::start().await;
    let gateway = server.gateway("");
    let (token, _) = tokens(gateway.address, "alice", PASSWORD);
    let client = client(&gateway).await;
    for round in 0..3 {
        let asked: Vec<_> = (0..40)
            .map(|n| {
                let (client, token) = (client.clone(), token.clone());
                let path = if n == 20 { "/goaway" } else { "/echo" };
                tokio::spawn(async move { ask(&client, post(path, &token), b"").await.unwrap() })
            })
            .collect();
        for reply in asked {
            let reply = reply.await.unwrap();
            assert_eq!(reply.status, 200, "round {round}: {}", String::from_utf8_lossy(&reply.body));
        }
    }
    assert_eq!(server.requests.load(Ordering::SeqCst), 120);
    let connections = server.connections.load(Ordering::SeqCst);
    assert!(connections <= 10, "{connections} connections");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_ended_connection_left_undone_goes_to_the_same_server_over_a_new_one() {
    let server = Server::start_with(Some(End::GoAway)).await;
    let gateway = server.gateway("");
    let (token, _) = tokens(gateway.address, "alice", PASSWORD);
    let reply = ask(&client(&gateway).await, post("/echo", &token), b"").await.unwrap();
    assert_eq!(reply.status, 200, "{}", String::from_utf8_lossy(&reply.body));
    assert_eq!(server.connections.load(Ordering::SeqCst), 2);

    // Where the server has said nothing, the method decides.
    for (method, status) in [("GET", 200), ("POST", 502)] {
        let server = Server::start_with(Some(End::Loss)).await;
        let gateway = server.gateway("");
        let (token, _) = tokens(gateway.address, "alice", PASSWORD);
        let client = client(&gateway).await;
        for expected in [204, status] {
            let mut request = post("/echo", &token);
            *request.method_mut() = method.parse().unwrap();
            let reply = ask(&client, request, b"").await.unwrap();
            assert_eq!(reply.status, expected, "{method}: {}", String::from_utf8_lossy(&reply.body));
        }
        assert_eq!(server.requests.load(Ordering::SeqCst), usize::from(status == 200), "{method}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_response_that_is_cut_is_cut_for_the_client_and_an_unwanted_one_is_cancelled() {
    let server = Server::start().await;
    let gateway = server.gateway("response_timeout = \"5s\"");
    let (token, _) = tokens(gateway.address, "alice", PASSWORD);
    let client = client(&gateway).await;
    let cut = ask(&client, post("/cut", &token), b"").await.unwrap_err();
    assert_eq!(cut.reason(), Some(Reason::INTERNAL_ERROR));

    let (response, mut stream) =
        client.clone().ready().await.unwrap().send_request(post("/slow", &token), true).unwrap();
    wait_until("it has arrived", || server.requests.load(Ordering::SeqCst) == 2);
    stream.send_reset(Reason::CANCEL);
    drop(response);
    wait_until("it is written down", || gateway.log().contains("\"status\":499"));
    assert_eq!(ask(&client, post("/echo", &token), b"x").await.unwrap().status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_does_not_speak_it_is_a_bad_gateway_and_one_that_does_is_well() {
    let server = Server::start().await;
    let gateway = server.gateway("health_path = \"/fields\"\nhealth_interval = \"100ms\"");
    wait_until("it is probed", || {
        !gateway
            .metrics()
            .contains("auth_gateway_upstream_health_checks_total{upstream=\"app\",outcome=\"passed\"} 0\n")
    });
    let old = super::Server::start();
    let wrong = super::gateway(&[old.url()], "protocol = \"http2\"\nresponse_timeout = \"2s\"");
    let reply = get(wrong.address, "/a", &[]).unwrap();
    assert!(matches!(reply.status, 502 | 504), "{reply:?}");
}
