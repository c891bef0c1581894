//! Uploads that are answered before they are over, by the gateway or by the app: the answer reaches its client.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use super::{ScriptedApp, gateway, ok, over_http2};
use crate::fixture::{Connection, Gateway, Upstream};

/// What a client gets that sends all of a request before it reads, and what it gets for a second request on that connection.
fn upload(gateway: &Gateway, head: &str, body: &[u8], next: Option<&str>) -> (String, String) {
    let mut socket = TcpStream::connect(gateway.address).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    socket.write_all(head.as_bytes()).unwrap();
    for piece in body.chunks(256 * 1024) {
        socket.write_all(piece).unwrap_or_else(|error| panic!("{head:?}: {error}"));
    }
    let mut read_head = || {
        let (mut received, mut byte) = (Vec::new(), [0]);
        while !received.ends_with(b"\r\n\r\n") {
            match socket.read(&mut byte) {
                Ok(1) => received.push(byte[0]),
                end => panic!("{end:?} after {:?}", String::from_utf8_lossy(&received)),
            }
        }
        let head = String::from_utf8(received).unwrap();
        let length = head.to_ascii_lowercase();
        let length = length
            .split("content-length: ")
            .nth(1)
            .map_or(0, |rest| rest.split("\r\n").next().unwrap().parse::<usize>().unwrap());
        socket.read_exact(&mut vec![0; length]).unwrap();
        head
    };
    let first = read_head();
    let Some(next) = next else { return (first, String::new()) };
    let mut writer = socket.try_clone().unwrap();
    writer.write_all(next.as_bytes()).unwrap();
    let mut second = String::new();
    let (mut received, mut byte) = (Vec::new(), [0]);
    while !received.ends_with(b"\r\n\r\n") && matches!(socket.read(&mut byte), Ok(1)) {
        received.push(byte[0]);
    }
    second.push_str(&String::from_utf8(received).unwrap());
    (first, second)
}

fn chunked(body: &[u8]) -> Vec<u8> {
    let mut framed = Vec::new();
    for piece in body.chunks(100_000) {
        framed.extend(format!("{:x}\r\n", piece.len()).into_bytes());
        framed.extend(piece);
        framed.extend(b"\r\n");
    }
    framed.extend(b"0\r\n\r\n");
    framed
}

#[test]
fn an_early_refusal_reaches_a_client_that_sends_everything_first() {
    let app = ScriptedApp::start(|_, _, _| ok("fine"));
    let gateway = app.gateway("");
    let (ten, thirty) = (vec![b'x'; 10_000_000], vec![b'x'; 30_000_000]);
    let next = Some("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    for (path, fields, body, status, goes_on) in [
        ("/closed", "Content-Length: 10000000\r\n", ten.clone(), "401", true),
        ("/closed", "Authorization: Bearer x\r\nContent-Length: 10000000\r\n", ten.clone(), "401", true),
        ("/closed", "Transfer-Encoding: chunked\r\n", chunked(&ten), "401", true),
        (
            "/login",
            "Content-Type: application/json\r\nContent-Length: 10000000\r\n",
            ten.clone(),
            "413",
            false,
        ),
        ("/login", "Content-Type: text/plain\r\nTransfer-Encoding: chunked\r\n", chunked(&ten), "415", true),
        ("/", "Content-Length: 30000000\r\n", thirty, "413", false),
        ("/a/../b", "Content-Length: 10000000\r\n", ten.clone(), "400", false),
        ("/", "Bad Field: x\r\nContent-Length: 10000000\r\n", ten.clone(), "400", false),
        ("/", "Content-Length: 10000000\r\nTransfer-Encoding: chunked\r\n", ten, "400", false),
    ] {
        let head = format!("POST {path} HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
        let (first, second) = upload(&gateway, &head, &body, next.filter(|_| goes_on));
        assert!(first.starts_with(&format!("HTTP/1.1 {status} ")), "{head:?}: {first}");
        assert_eq!(first.contains("close"), !goes_on, "{head:?}: {first}");
        assert_eq!(second.starts_with("HTTP/1.1 200 "), goes_on, "{head:?}: {second}");
    }
}

/// A client that goes on forever is not read forever.
#[test]
fn reading_on_has_an_end() {
    let app = ScriptedApp::start(|_, _, _| ok("fine"));
    let gateway = Gateway::start(&format!(
        "[server]\nworkers = 1\n[store]\nkind = \"memory\"\n[limits]\nlingering_time = \"500ms\"\n\
         [upstreams.app]\nurls = [\"http://{}\"]\n[[routes]]\npath = \"/\"\nupstream = \"app\"\n",
        app.address
    ));
    for fields in ["Content-Length: 900000000\r\n", "Transfer-Encoding: chunked\r\n"] {
        let mut socket = TcpStream::connect(gateway.address).unwrap();
        socket.write_all(format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n").as_bytes()).unwrap();
        let begun = Instant::now();
        while socket.write_all(b"1\r\nx\r\n").is_ok() {
            assert!(begun.elapsed() < Duration::from_secs(20), "{fields}");
            std::thread::sleep(Duration::from_millis(10));
        }
        assert!(begun.elapsed() >= Duration::from_millis(400), "{fields}: {:?}", begun.elapsed());
    }
}

/// Sends a head and pieces of a body with pauses, and reads the answer meanwhile, as a browser does.
fn upload_slowly(gateway: &Gateway, head: &str, pieces: &[Vec<u8>]) -> String {
    let mut socket = TcpStream::connect(gateway.address).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let mut writer = socket.try_clone().unwrap();
    let (head, pieces) = (head.to_owned(), pieces.to_vec());
    let sending = std::thread::spawn(move || {
        writer.write_all(head.as_bytes()).unwrap();
        for piece in pieces {
            writer.write_all(&piece).unwrap();
            std::thread::sleep(Duration::from_millis(1));
        }
    });
    let mut received = Vec::new();
    while !received.windows(4).any(|w| w == b"done") {
        let mut bytes = [0; 1024];
        match socket.read(&mut bytes) {
            Ok(n) if n > 0 => received.extend_from_slice(&bytes[..n]),
            end => panic!("{end:?} after {:?}", String::from_utf8_lossy(&received)),
        }
    }
    sending.join().unwrap();
    String::from_utf8(received).unwrap()
}

/// An app that answers once it has the head, and counts what comes after.
fn hasty_app(answer: &'static str) -> (std::net::SocketAddr, std::sync::mpsc::Receiver<usize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (counted, counts) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for mut socket in listener.incoming().flatten() {
            let counted = counted.clone();
            std::thread::spawn(move || {
                let (mut head, mut byte) = (Vec::new(), [0]);
                while !head.ends_with(b"\r\n\r\n") {
                    if socket.read(&mut byte).unwrap_or(0) == 0 {
                        return;
                    }
                    head.push(byte[0]);
                }
                socket.write_all(answer.as_bytes()).unwrap();
                socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
                let (mut taken, mut bytes) = (0, vec![0; 64 * 1024]);
                while let Ok(n) = socket.read(&mut bytes) {
                    taken += n;
                    if n == 0 || taken >= 2_000_000 {
                        break;
                    }
                }
                counted.send(taken).unwrap();
            });
        }
    });
    (address, counts)
}

#[test]
fn an_app_may_answer_first_and_take_the_upload_after() {
    for answer in [
        "HTTP/1.1 201 Created\r\nContent-Length: 4\r\n\r\ndone",
        "HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n4\r\ndone\r\n0\r\n\r\n",
        "HTTP/1.1 413 Content Too Large\r\nContent-Length: 4\r\n\r\ndone",
        "HTTP/1.1 303 See Other\r\nLocation: /\r\nContent-Length: 4\r\n\r\ndone",
    ] {
        let (address, counts) = hasty_app(answer);
        let gateway = gateway(&format!("http://{address}"), "", "");
        let body = vec![b'x'; 2_000_000];
        let pieces: Vec<Vec<u8>> = body.chunks(50_000).map(<[u8]>::to_vec).collect();
        let head = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2000000\r\n\r\n";
        let received = upload_slowly(&gateway, head, &pieces);
        assert_eq!(&received[..12], &answer[..12]);
        assert_eq!(counts.recv_timeout(Duration::from_secs(5)).unwrap(), 2_000_000, "{answer}");

        let head = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
        let pieces: Vec<Vec<u8>> = chunked(&body).chunks(50_000).map(<[u8]>::to_vec).collect();
        let received = upload_slowly(&gateway, head, &pieces);
        assert_eq!(&received[..12], &answer[..12]);
        assert!(counts.recv_timeout(Duration::from_secs(5)).unwrap() >= 2_000_000, "{answer}");
    }
}

#[tokio::test]
async fn a_route_can_have_bodies_received_whole_and_sent_with_their_length() {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&format!(
        "[server]\nworkers = 1\nh2c = true\n[store]\nkind = \"memory\"\n[upstreams.app]\nurls = [\"http://{}\"]\n\
         [[routes]]\npath = \"/\"\nupstream = \"app\"\naccess = \"public\"\n\
         [[routes]]\npath = \"/whole\"\nupstream = \"app\"\naccess = \"public\"\nrequest_buffering = true\nmax_body = \"1MiB\"\n",
        upstream.address
    ));
    for size in [0, 1, 64 * 1024, 64 * 1024 + 1, 900_000] {
        let body: Vec<u8> = (0..size).map(|n| (n % 251) as u8).collect();
        let expected = if size == 0 { "0".to_owned() } else { size.to_string() };
        for framed in [
            [b"Transfer-Encoding: chunked\r\n\r\n".to_vec(), chunked(&body)].concat(),
            [format!("Content-Length: {size}\r\n\r\n").into_bytes(), body.clone()].concat(),
        ] {
            let request = [b"PUT /whole HTTP/1.1\r\nHost: a\r\n".to_vec(), framed].concat();
            let mut connection = Connection::open(gateway.address).unwrap();
            for _ in 0..2 {
                connection.send(&request).unwrap();
                assert_eq!(connection.reply().unwrap().status, 200, "{size}");
            }
            let seen = upstream.last();
            assert_eq!(seen.values("content-length"), [&expected[..]]);
            assert!(seen.values("transfer-encoding").is_empty() && seen.body == body, "{size}");
        }
        let reply = over_http2(gateway.address, "PUT", "/whole", &body).await.unwrap();
        assert_eq!(reply.status.as_u16(), 200, "{size}");
        let seen = upstream.last();
        assert_eq!(seen.values("content-length"), [&expected[..]]);
        assert!(seen.body == body, "{size}");
    }
    let too_large = chunked(&vec![0; 1_100_000]);
    let request =
        [b"PUT /whole HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec(), too_large]
            .concat();
    let mut connection = Connection::open(gateway.address).unwrap();
    connection.send(&request).unwrap();
    assert_eq!(connection.reply().unwrap().status, 413);
    // Elsewhere bodies stream.
    let request =
        [b"PUT /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec(), chunked(b"abc")]
            .concat();
    let mut connection = Connection::open(gateway.address).unwrap();
    connection.send(&request).unwrap();
    assert_eq!(connection.reply().unwrap().status, 200);
    assert_eq!(upstream.last().values("transfer-encoding"), ["chunked"]);
}
