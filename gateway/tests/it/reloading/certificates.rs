//! F-34: a replaced certificate is used from then on; a truncated one, or one without its key, changes
//! nothing.

use std::fs;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::{good_reloads, metric};
use crate::fixture::http2::connect_tls;
use crate::fixture::{Certificates, Gateway, wait_until};

/// Asks over a connection that is there.
async fn ask(connection: &mut TlsStream<TcpStream>) -> String {
    let request = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    connection.write_all(request).await.unwrap();
    let mut answer = vec![0; 15];
    connection.read_exact(&mut answer).await.unwrap();
    let mut rest = [0; 4096];
    assert!(connection.read(&mut rest).await.unwrap() > 0);
    String::from_utf8(answer).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_certificate_is_replaced_without_a_drop_and_a_bad_one_changes_nothing() {
    let certificates = Certificates::make();
    for name in ["old", "new"] {
        certificates.sign(name, &format!("DNS:{name}.test"), 2);
    }
    let read = |file: &str| fs::read(certificates.file(file)).unwrap();
    let config = "[server.tls]\ncertificates = [{ certificate_file = \"tls.pem\", private_key_file = \"tls.key\" }]\n\
                  [[routes]]\npath = \"/\"\naccess = \"public\"\nrespond = { status = 200, body = \"here\", content_type = \"text/plain\" }\n";
    let (pem, key) = (read("old.pem"), read("old.key"));
    let gateway = Gateway::start_with(config, "", &[("tls.pem", &pem), ("tls.key", &key)]);
    let connect = async |name: &str| connect_tls(&certificates, gateway.address, name, &["http/1.1"]).await;
    let mut first = connect("old.test").await.unwrap();
    assert_eq!(ask(&mut first).await, "HTTP/1.1 200 OK");

    let put = |file: &str, content: &[u8]| {
        fs::write(gateway.path("next"), content).unwrap();
        fs::rename(gateway.path("next"), gateway.path(file)).unwrap();
    };
    let failures = || metric(&gateway, "config_reloads_total{outcome=\"failure\"}");
    // Half of it, and then all of it with the key of another.
    let new = read("new.pem");
    for (content, message) in [(&new[..new.len() / 2], "tls.pem"), (&new[..], "is not the key of")] {
        let before = failures();
        put("tls.pem", content);
        gateway.signal("HUP");
        wait_until("the mistake is counted", || failures() > before);
        wait_until("the error is reported", || gateway.log().contains(message));
        assert!(connect("old.test").await.is_ok(), "the old one is still shown");
    }

    put("tls.key", &read("new.key"));
    wait_until("the new one is active", || good_reloads(&gateway) > 0);
    assert!(connect("new.test").await.is_ok());
    assert!(connect("old.test").await.is_err(), "the old one is gone");
    assert_eq!(ask(&mut first).await, "HTTP/1.1 200 OK", "over the connection of the beginning");
}
