//! How keys are fetched: how often, and from issuers that are slow, broken or lying.

use std::io::Write as _;
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;

use super::fixture::{Answer, FakeIssuer, SigningKey, response};
use super::{ask, config};
use crate::fixture::{Certificates, Connection, Gateway, Running, Upstream, free_address, wait_until};

const KEYS: &str =
    "audiences = [\"api\"]\nrefresh_min = \"1s\"\nunknown_kid_interval = \"2s\"\ntimeout = \"500ms\"\n";

fn jwks_url(issuer: &FakeIssuer) -> String {
    format!("jwks_url = \"{}/jwks\"\n{KEYS}", issuer.url())
}

#[test]
fn unknown_keys_are_fetched_once_in_an_interval_however_many_tokens_name_them() {
    let is_long = std::env::var_os("AUTH_GATEWAY_LONG").is_some();
    let requests = if is_long { 10_000 } else { 400 };
    let (upstream, key) = (Upstream::start(), SigningKey::generate("k"));
    let issuer = FakeIssuer::start(&[&key]);
    let gateway = Gateway::start(&config(&upstream, &issuer.url(), &jwks_url(&issuer)));
    let good = key.token(&issuer.url(), json!({}));
    wait_until("the keys are known", || ask(gateway.address, "/idp", &good).status == 200);
    let (begun, before) = (Instant::now(), issuer.asked("/jwks"));
    std::thread::scope(|scope| {
        for client in 0..8 {
            let (gateway, issuer) = (&gateway, &issuer);
            scope.spawn(move || {
                let mut connection = Connection::open(gateway.address).unwrap();
                for n in 0..requests / 8 {
                    let token =
                        SigningKey::generate(&format!("{client}-{n}")).token(&issuer.url(), json!({}));
                    let head =
                        format!("GET /idp HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n");
                    connection.send(head.as_bytes()).unwrap();
                    assert_eq!(connection.reply().unwrap().status, 401);
                }
            });
        }
    });
    let fetches = issuer.asked("/jwks") - before;
    let intervals = begun.elapsed().as_secs() as usize / 2 + 1;
    println!("{requests} tokens by unknown keys in {:?}: {fetches} fetches", begun.elapsed());
    assert!(fetches <= intervals, "{fetches} fetches in {:?}", begun.elapsed());
    assert_eq!(ask(gateway.address, "/idp", &good).status, 200);
}

#[test]
fn an_issuer_that_answers_nonsense_keeps_its_last_keys_and_the_log_says_why() {
    let (upstream, key) = (Upstream::start(), SigningKey::generate("k"));
    let issuer = FakeIssuer::start(&[&key]);
    issuer.caches("no-store");
    let keys = KEYS.replace("\"1s\"", "\"100ms\"").replace("\"2s\"", "\"100ms\"");
    let gateway = Gateway::start(&config(&upstream, &issuer.url(), &keys));
    let token = || key.token(&issuer.url(), json!({"jti": format!("{:?}", Instant::now())}));
    wait_until("the keys are known", || ask(gateway.address, "/idp", &token()).status == 200);
    let json = |body: &str| Answer::Raw(response("application/json", "no-store", body.as_bytes()));
    let large = format!("{{\"keys\":[],\"x\":\"{}\"}}", "x".repeat(1 << 20));
    let many = json!({"keys": vec![key.jwk(); 1001]}).to_string();
    let evil =
        json!({"issuer": "https://evil.example", "jwks_uri": format!("{}/evil", issuer.url())}).to_string();
    // What another service of this machine would be asked for must not be asked for.
    let internal = FakeIssuer::start(&[&key]);
    let redirect_to = |location: &str| {
        Answer::Raw(format!("HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n").into())
    };
    let keys_at = |uri: &str| json(&json!({"issuer": issuer.url(), "jwks_uri": uri}).to_string());
    // A million zeros, in a thousandth of that.
    let mut bomb = Command::new("gzip").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    bomb.stdin.take().unwrap().write_all(&vec![b'0'; 1_000_000]).unwrap();
    let bomb = bomb.wait_with_output().unwrap().stdout;
    let bomb =
        [b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Encoding: gzip\r\n\r\n", &bomb[..]]
            .concat();
    let endless = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
        .to_owned()
        + &format!("10000\r\n{}\r\n", " ".repeat(1 << 16)).repeat(20);
    let good = json!({"issuer": issuer.url(), "jwks_uri": format!("{}/jwks", issuer.url())}).to_string();
    for (answer, why) in [
        (
            Answer::Raw(response("text/html", "no-store", b"<html>")),
            "not with JSON; is it the right address?",
        ),
        (json("<html>"), "is not a JSON object with unique members"),
        (json("{\"keys\":[]}"), "names no issuer"),
        (json(&evil), "is the document of another issuer: https://evil.example"),
        (json(&large), "more than 1 MiB"),
        (
            Answer::Raw(b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n".to_vec()),
            "answers with 500",
        ),
        (
            redirect_to("http://169.254.169.254/latest/meta-data"),
            "redirects to another origin, which is not followed: http://169.254",
        ),
        (redirect_to(&format!("{}/jwks", internal.url())), &format!("not followed: {}/jwks", internal.url())),
        (redirect_to("//[::1]:1/"), "not followed: //[::1]:1/"),
        (redirect_to("file:///etc/passwd"), "not followed: file:///etc/passwd"),
        (redirect_to("/again"), "redirects more than 3 times"),
        (
            keys_at("http://169.254.169.254/latest/meta-data"),
            "is at 169.254.169.254, an address that the issuer may not lead to",
        ),
        (
            keys_at("http://[::ffff:169.254.169.254]/"),
            "::ffff:169.254.169.254, an address that the issuer may not lead to",
        ),
        (keys_at("file:///etc/passwd"), "has a jwks_uri that is not fetched: file:///etc/passwd"),
        (Answer::Raw(bomb), "compresses its answer"),
        (Answer::Raw(endless.into()), "answers with more than 1 MiB"),
        (Answer::Raw(b"HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\n\r\n".to_vec()), "answers with 304"),
        (
            Answer::Drip(response("application/json", "no-store", good.as_bytes())),
            "did not answer within 500ms",
        ),
        (Answer::Raw(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{".to_vec()), "breaks off its answer"),
        (Answer::Raw(b"nonsense\r\n\r\n".to_vec()), "breaks off the exchange"),
        (Answer::Silence, "did not answer within 500ms"),
    ] {
        let before = gateway.log().len();
        issuer.answers(answer);
        wait_until(&format!("the log says {why}\n{}", gateway.log()), || {
            gateway.log()[before..].contains(why)
        });
        assert_eq!(ask(gateway.address, "/idp", &token()).status, 200, "{why}");
        // By an unknown key, while the issuer cannot be queried: never a 401.
        let unknown = SigningKey::generate("new").token(&issuer.url(), json!({}));
        assert_eq!(ask(gateway.address, "/idp", &unknown).status, 503, "{why}");
        issuer.answers(Answer::Good);
        wait_until("it is up again", || gateway.metrics().contains("issuer_up{issuer=\"idp\"} 1"));
    }
    assert_eq!(internal.asked("/jwks"), 0);
    issuer.has_keys(vec![key.jwk(); 1001]);
    wait_until("the number of keys is logged", || {
        gateway.log().contains("has 1001 keys, more than the 1000")
    });
    assert!(many.len() < 1 << 20);
    // A thousand keys, in most of a MiB.
    issuer.caches("max-age=3600");
    let mut keys: Vec<_> = (0..999).map(|n| SigningKey::generate(&format!("k{n}")).jwk()).collect();
    let padding = "x".repeat(700);
    keys.iter_mut().for_each(|key| key["x5t#S256"] = padding.as_str().into());
    let last = SigningKey::generate("last");
    keys.push(last.jwk());
    issuer.has_keys(keys);
    wait_until("all keys are known", || gateway.metrics().contains("issuer_keys{issuer=\"idp\"} 1000"));
    assert_eq!(ask(gateway.address, "/idp", &last.token(&issuer.url(), json!({}))).status, 200);
}

#[test]
fn keys_are_fetched_anew_when_they_are_no_longer_fresh_and_when_the_configuration_changes() {
    let (upstream, key) = (Upstream::start(), SigningKey::generate("k"));
    let issuer = FakeIssuer::start(&[&key]);
    issuer.caches("max-age=0");
    let gateway = Gateway::start(&config(&upstream, &issuer.url(), &jwks_url(&issuer)));
    wait_until("the floor has passed twice", || issuer.asked("/jwks") >= 3);
    // A token that was verified is refused once its key is withdrawn.
    let token = key.token(&issuer.url(), json!({}));
    assert_eq!(ask(gateway.address, "/idp", &token).status, 200);
    let next = SigningKey::generate("next");
    issuer.has_keys(vec![next.jwk()]);
    wait_until("the key is gone", || ask(gateway.address, "/idp", &token).status == 401);
    assert_eq!(ask(gateway.address, "/idp", &next.token(&issuer.url(), json!({}))).status, 200);
    // Another issuer replaces it while the gateway runs.
    let other_key = SigningKey::generate("k");
    let other = FakeIssuer::start(&[&other_key]);
    let changed = config(&upstream, &other.url(), &jwks_url(&other));
    std::fs::write(gateway.path("gateway.toml"), changed).unwrap();
    gateway.signal("HUP");
    let token = other_key.token(&other.url(), json!({}));
    wait_until("the other issuer counts", || ask(gateway.address, "/idp", &token).status == 200);
    assert_eq!(ask(gateway.address, "/idp", &next.token(&issuer.url(), json!({}))).status, 401);
    let asked = issuer.asked("/jwks");
    std::thread::sleep(Duration::from_millis(1500));
    assert!(issuer.asked("/jwks") <= asked + 1, "an issuer that was removed is still queried");
}

/// `openssl s_server -HTTP` with a file that is a whole response.
fn tls_server(certificates: &Certificates, port: u16, response: &[u8]) -> Running {
    let dir = certificates.file("ca.pem");
    let dir = dir.parent().unwrap();
    std::fs::write(dir.join("jwks"), response).unwrap();
    let port_text = port.to_string();
    let args =
        ["s_server", "-HTTP", "-quiet", "-accept", &port_text, "-cert", "server.pem", "-key", "server.key"];
    let child = Command::new("openssl")
        .args(args)
        .current_dir(dir)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let server = Running(child.unwrap());
    wait_until("openssl listens", || TcpStream::connect(("127.0.0.1", port)).is_ok());
    server
}

#[test]
fn keys_are_fetched_over_tls_from_a_server_with_a_trusted_certificate_only() {
    let (certificates, others) = (Certificates::make(), Certificates::make());
    let (upstream, key) = (Upstream::start(), SigningKey::generate("k"));
    let port = free_address().port();
    let body = json!({"keys": [key.jwk()]}).to_string();
    let _server =
        tls_server(&certificates, port, &response("application/json", "max-age=60", body.as_bytes()));
    let issuer = format!("https://127.0.0.1:{port}");
    let config = |ca: &Certificates| {
        let keys = format!(
            "audiences = [\"api\"]\njwks_url = \"{issuer}/jwks\"\ntls_ca_file = {:?}\n",
            ca.file("ca.pem")
        );
        config(&upstream, &issuer, &keys)
    };
    let token = key.token(&issuer, json!({}));
    let trusting = Gateway::start(&config(&certificates));
    wait_until(&trusting.log(), || ask(trusting.address, "/idp", &token).status == 200);
    let distrusting = Gateway::start(&config(&others));
    let reply = ask(distrusting.address, "/idp", &token);
    assert_eq!((reply.status, reply.code().as_str()), (503, "issuer_unavailable"));
    wait_until("the log says why", || distrusting.log().contains("cannot be fetched"));
    let log = distrusting.log();
    assert!(log.contains("is not signed by the authority of that name in tls_ca_file"), "{log}");
}
