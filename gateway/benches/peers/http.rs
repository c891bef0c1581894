//! A small HTTP/1.1 client for what is not load: is it ready, give me a token.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

use crate::Result;
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
    stream: TcpStream,
    received: Vec<u8>,
}

impl Client {
    pub(crate) fn connect(address: SocketAddr) -> Result<Client> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
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
