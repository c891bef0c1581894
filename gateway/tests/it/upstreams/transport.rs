//! Transports to upstream servers: TLS with verified certificates, and Unix sockets.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::gateway;
use crate::fixture::{Certificates, Gateway, free_address, get, request, wait_until};

/// nginx with TLS on one port and on a Unix socket; it ends with this.
struct Nginx {
    child: Child,
    dir: tempfile::TempDir,
    port: u16,
}

impl Nginx {
    fn start(certificates: &Certificates, name: &str, verify_client: bool) -> Nginx {
        let dir = tempfile::tempdir().unwrap();
        let port = free_address().port();
        let file = |name: &str| certificates.file(name).display().to_string();
        let verify = match verify_client {
            true => format!("ssl_client_certificate {}; ssl_verify_client on;", file("ca.pem")),
            false => String::new(),
        };
        let config = format!(
            "daemon off; pid {dir}/pid; error_log {dir}/error.log; worker_processes 1; events {{}}\n\
             http {{ access_log off; client_body_temp_path {dir}/b; proxy_temp_path {dir}/p; fastcgi_temp_path {dir}/f;\n\
             uwsgi_temp_path {dir}/u; scgi_temp_path {dir}/s;\n\
             server {{ listen 127.0.0.1:{port} ssl; listen unix:{dir}/socket; ssl_certificate {cert}; ssl_certificate_key {key}; {verify}\n\
             location / {{ return 200 \"$scheme $host $ssl_server_name $ssl_client_s_dn\"; }} }} }}",
            dir = dir.path().display(),
            cert = file(&format!("{name}.pem")),
            key = file(&format!("{name}.key")),
        );
        fs::write(dir.path().join("nginx.conf"), config).unwrap();
        let program = if Path::new("/usr/sbin/nginx").exists() { "/usr/sbin/nginx" } else { "nginx" };
        let child = Command::new(program)
            .args(["-p", dir.path().to_str().unwrap(), "-c", "nginx.conf", "-e", "error.log"])
            .stderr(Stdio::null())
            .spawn()
            .expect("nginx is installed by .ci/prepare");
        wait_until("nginx listens", || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
        Nginx { child, dir, port }
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // Its worker ends with it, which a kill would prevent.
        let _ = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status();
        let _ = self.child.wait();
    }
}

fn tls(nginx: &Nginx, certificates: &Certificates, more: &str) -> Gateway {
    let ca = certificates.file("ca.pem");
    gateway(&[format!("https://127.0.0.1:{}", nginx.port)], &format!("tls_ca_file = {ca:?}\n{more}"))
}

#[test]
fn tls_to_a_server_is_verified_and_its_connections_are_used_again() {
    let certificates = Certificates::make();
    let nginx = Nginx::start(&certificates, "server", false);
    let gateway_ = tls(&nginx, &certificates, "");
    for _ in 0..3 {
        assert_eq!(get(gateway_.address, "/a", &[]).unwrap().text().split(' ').next(), Some("https"));
    }
    let big = vec![b'x'; 300_000];
    assert_eq!(request(gateway_.address, "POST", "/a", &[], &big).unwrap().status, 200);

    // The system's certificates do not know the test's CA.
    let unknown = gateway(&[format!("https://127.0.0.1:{}", nginx.port)], "");
    assert_eq!(get(unknown.address, "/a", &[]).unwrap().code(), "bad_gateway");
    wait_until("the log says why", || unknown.log().contains("UnknownIssuer"));
    let wrong = tls(&nginx, &certificates, "tls_server_name = \"other.test\"");
    assert_eq!(get(wrong.address, "/a", &[]).unwrap().code(), "bad_gateway");
    wait_until("the log says why", || wrong.log().contains("not for other.test; set tls_server_name"));
}

#[test]
fn a_server_may_ask_who_the_gateway_is_and_for_its_own_name() {
    let certificates = Certificates::make();
    certificates.sign("app", "DNS:app.internal", 2);
    let nginx = Nginx::start(&certificates, "app", true);
    let client = format!(
        "tls_server_name = \"app.internal\"\nhost_header = \"app.internal\"\n\
         tls_client_certificate_file = {:?}\ntls_client_key_file = {:?}",
        certificates.file("client.pem"),
        certificates.file("client.key")
    );
    let known = tls(&nginx, &certificates, &client);
    let reply = get(known.address, "/a", &[]).unwrap();
    assert_eq!((reply.status, reply.text()), (200, "https app.internal app.internal CN=client".to_owned()));
    let without_certificate = tls(&nginx, &certificates, "tls_server_name = \"app.internal\"");
    assert_eq!(
        get(without_certificate.address, "/a", &[]).unwrap().status,
        400,
        "nginx asks for a certificate"
    );
}

#[test]
fn a_unix_socket_is_a_server_like_any_other() {
    let certificates = Certificates::make();
    let nginx = Nginx::start(&certificates, "server", false);
    let url = format!("unix:{}", nginx.dir.path().join("socket").display());
    let gateway = gateway(&[url], "health_path = \"/\"\nhealth_interval = \"100ms\"");
    for _ in 0..3 {
        let reply = get(gateway.address, "/a", &[]).unwrap();
        assert!(reply.status == 200 && reply.text().starts_with("http "), "{reply:?}");
    }
    wait_until("it is probed", || {
        !gateway
            .metrics()
            .contains("auth_gateway_upstream_health_checks_total{upstream=\"app\",outcome=\"passed\"} 0\n")
    });
}

#[test]
fn a_self_signed_certificate_is_trusted_where_it_is_itself_named() {
    let certificates = Certificates::make();
    certificates.self_sign("pinned", "");
    certificates.self_sign("named", " -addext subjectAltName=IP:127.0.0.1");
    certificates.self_sign("elsewhere", " -addext subjectAltName=DNS:app.test");
    let gateway_to = |nginx: &Nginx, ca: &str, more: &str| {
        let ca = certificates.file(&format!("{ca}.pem"));
        gateway(&[format!("https://127.0.0.1:{}", nginx.port)], &format!("tls_ca_file = {ca:?}\n{more}"))
    };
    for name in ["pinned", "named"] {
        let nginx = Nginx::start(&certificates, name, false);
        let trusting = gateway_to(&nginx, name, "");
        assert_eq!(get(trusting.address, "/a", &[]).unwrap().status, 200, "{}", trusting.log());
        let other = if name == "pinned" { "named" } else { "pinned" };
        let refusing = gateway_to(&nginx, other, "");
        assert_eq!(get(refusing.address, "/a", &[]).unwrap().status, 502);
        wait_until("the log says what to do", || {
            refusing.log().contains("name exactly that certificate in tls_ca_file")
                || refusing.log().contains("or exactly the server's own, in tls_ca_file")
        });
    }
    let nginx = Nginx::start(&certificates, "elsewhere", false);
    let wrong = gateway_to(&nginx, "elsewhere", "");
    assert_eq!(get(wrong.address, "/a", &[]).unwrap().status, 502, "it is for another name");
    wait_until("the log says what to do", || {
        wrong.log().contains("set tls_server_name to a name that it is for")
    });
    let right = gateway_to(&nginx, "elsewhere", "tls_server_name = \"app.test\"");
    assert_eq!(get(right.address, "/a", &[]).unwrap().status, 200, "{}", right.log());
}

#[test]
fn a_server_that_speaks_no_tls_is_told_from_one_that_does() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for mut socket in listener.incoming().flatten() {
            let _ = std::io::Write::write_all(&mut socket, b"HTTP/1.1 400 Bad Request\r\n\r\n");
        }
    });
    let gateway = gateway(&[url], "");
    assert_eq!(get(gateway.address, "/a", &[]).unwrap().status, 502);
    wait_until("the log says what to do", || {
        gateway.log().contains("TLS: what answers is not TLS; write http://")
    });
}
