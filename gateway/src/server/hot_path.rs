//! The way of a warm request without its sockets, so that what it costs can be counted.

use std::net::SocketAddr;
use std::sync::Arc;

use serde_json::Map;
use tokio::time::Instant;

use super::running::{ServeError, prepare};
use crate::config::Settings;
use crate::pipeline::{self, Client, Exchange, UpstreamRequest, Worker};
use crate::problem::{Code, Rejection};
use crate::sessions::{SessionId, TokenId};
use crate::tokens::{SigningError, TokenRequest, TokenType, UnixSeconds};
use crate::wire::{HeadLimits, RequestHead};

/// One worker without a thread and one client without a connection. `benches/instructions` drives it.
pub struct HotPath {
    worker: Worker,
    client: Client,
    head: RequestHead,
    now: UnixSeconds,
}

impl HotPath {
    /// A gateway with these settings that listens nowhere; `peer` is the one client. It is `now` for good.
    pub fn new(settings: Settings, peer: SocketAddr, now: UnixSeconds) -> Result<HotPath, ServeError> {
        let gateway = Arc::new(prepare(settings)?);
        let snapshot = gateway.configuration.current();
        let client = Client::new(peer, &snapshot.settings.server.trusted_proxies, false);
        Ok(HotPath { worker: Worker::new(gateway, 0), client, head: RequestHead::default(), now })
    }

    /// An access token of a new session, valid for a minute.
    pub fn access_token(&self, username: &str) -> Result<String, SigningError> {
        self.worker.serving().snapshot.issuer.issue(TokenRequest {
            token_type: TokenType::Access,
            jti: &TokenId::random().to_string(),
            sid: &SessionId::random().to_string(),
            subject: "1",
            username,
            roles: &["user".to_owned()],
            further: &Map::new(),
            issued_at: self.now,
            expires_at: self.now + 60,
            session_expires_at: u64::MAX >> 11,
        })
    }

    /// Reads a request's head, judges it, verifies its token, and gives the length of the head that its upstream would get, in
    /// bytes.
    pub fn pass(&mut self, input: &[u8]) -> Result<usize, Rejection> {
        self.outgoing(input).map(|request| request.head().len())
    }

    /// The same, and gives that head itself.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn upstream_head(&mut self, input: &[u8]) -> Result<Vec<u8>, Rejection> {
        self.outgoing(input).map(|request| request.head().to_vec())
    }

    fn outgoing(&mut self, input: &[u8]) -> Result<UpstreamRequest, Rejection> {
        let malformed = |why: String| Rejection::new(Code::BadRequest, why);
        self.head
            .parse(input, &HeadLimits::default())
            .map_err(|e| malformed(e.to_string()))?
            .ok_or_else(|| malformed("the head is not complete".into()))?;
        let request = pipeline::admit(&self.head)?;
        let request_id = self.worker.request_ids.borrow_mut().next_id();
        let exchange = Exchange {
            request: &request,
            request_id: &request_id,
            started: Instant::now(),
            now_millis: self.now * 1000,
        };
        pipeline::upstream_request(&self.worker, &self.worker.serving(), &self.client, &exchange)
    }
}
