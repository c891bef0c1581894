//! A small HTTP/1.1 client for readiness checks and logins.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::Result;
use crate::certificate::Certificate;
use crate::tokens::{PASSWORD, username};

/// An answer to one request.
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    /// A member of the JSON object in the body.
    pub(crate) fn member(&self, name: &str) -> Result<String> {
        let body: Value = serde_json::from_slice(&self.body)?;
        let text = body.get(name).and_then(Value::as_str);
        Ok(text.ok_or_else(|| format!("the answer has no {name}: {body}"))?.to_owned())
    }
}

/// The head of the request that all scenarios make.
pub(crate) fn get(address: SocketAddr, token: &str) -> String {
    format!("GET / HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {token}\r\n\r\n")
}

/// A connection that carries one request after the other.
pub(crate) struct Client {
    stream: Box<dyn Stream>,
    received: Vec<u8>,
}

trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

impl Client {
    pub(crate) fn connect(address: SocketAddr) -> Result<Client> {
        Ok(Client { stream: Box::new(dial(address)?), received: Vec::new() })
    }

    /// Over TLS, with a server that has this certificate.
    pub(crate) fn connect_tls(address: SocketAddr, certificate: &Certificate) -> Result<Client> {
        let mut trusted = RootCertStore::empty();
        trusted.add(CertificateDer::from_pem_file(&certificate.chain)?)?;
        let config = ClientConfig::builder().with_root_certificates(trusted).with_no_client_auth();
        let talk = ClientConnection::new(Arc::new(config), address.ip().into())?;
        let stream = Box::new(StreamOwned::new(talk, dial(address)?));
        Ok(Client { stream, received: Vec::new() })
    }

    /// Sends a request, head and body, and waits for its answer.
    pub(crate) fn send(&mut self, request: &[u8]) -> Result<Reply> {
        self.stream.write_all(request)?;
        self.received.clear();
        let mut piece = [0; 4096];
        loop {
            let n = self.stream.read(&mut piece)?;
            if n == 0 {
                return Err("the connection was closed before the answer was whole".into());
            }
            self.received.extend_from_slice(&piece[..n]);
            if let Some(head) = Head::parse(&self.received)?
                && self.received.len() >= head.length + head.content_length
            {
                let body = self.received[head.length..][..head.content_length].to_vec();
                return Ok(Reply { status: head.status, body });
            }
        }
    }

    /// Logs a user in at the gateway.
    pub(crate) fn login(&mut self, user: u32) -> Result<Reply> {
        let body = serde_json::json!({"username": username(user), "password": PASSWORD}).to_string();
        let request = format!(
            "POST /login HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        self.send(request.as_bytes())
    }

    /// Exchanges a refresh token at the gateway.
    pub(crate) fn refresh(&mut self, token: &str) -> Result<Reply> {
        let request = format!(
            "POST /refresh HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {token}\r\nContent-Length: 0\r\n\r\n"
        );
        self.send(request.as_bytes())
    }
}

fn dial(address: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    Ok(stream)
}

/// The head of an answer, as far as it is needed to find the answer's end.
pub(crate) struct Head {
    pub(crate) status: u16,
    pub(crate) length: usize,
    pub(crate) content_length: usize,
}

impl Head {
    /// `None` while it is not complete. An answer without `Content-Length` is taken for one without body.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Option<Head>> {
        let mut fields = [httparse::EMPTY_HEADER; 32];
        let mut response = httparse::Response::new(&mut fields);
        let httparse::Status::Complete(length) = response.parse(bytes)? else { return Ok(None) };
        let content_length =
            response.headers.iter().find(|field| field.name.eq_ignore_ascii_case("content-length"));
        let content_length = match content_length {
            Some(field) => std::str::from_utf8(field.value)?.trim().parse()?,
            None => 0,
        };
        Ok(Some(Head { status: response.code.unwrap_or(0), length, content_length }))
    }
}
