//! The request stack of one worker without sockets, for benchmarks that count its cost.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::future::ready;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use http::StatusCode;
use serde_json::Map;
use tower::{Service, service_fn};

use crate::client_addr::ClientAddr;
use crate::clock::UnixMillis;
use crate::config::Settings;
use crate::http1::HeadLimits;
use crate::layers::access_log::LoggedBody;
use crate::rejection::Rejection;
use crate::request::{Authorized, Incoming};
use crate::request_body::RequestBody;
use crate::response::{self, Response};
use crate::runtime::Worker;
use crate::server::lifecycle::{ServeError, prepare};
use crate::services::endpoints::EndpointService;
use crate::services::proxy::{outgoing_request, upstream_host};
use crate::services::target::TargetService;
use crate::sessions::{SessionId, TokenId};
use crate::stack::request_stack;
use crate::stream_state::StreamState;
use crate::tokens::{SigningError, TokenRequest, TokenType, UnixSeconds};
use crate::upstream::UpstreamRequest;

/// One worker's stack without a thread, around a proxy that builds the upstream request and sends nothing,
/// with one client that has no connection. `benches/instructions` drives it.
pub struct HotPath {
    worker: Rc<Worker>,
    client: Rc<ClientAddr>,
    stream: Rc<StreamState>,
    stack: Box<CallStack>,
    captured: Captured,
    now: UnixSeconds,
}

type CallStack = dyn FnMut(Incoming) -> http::Response<LoggedBody>;

/// The last request head that would have been sent upstream.
#[derive(Debug, Clone, Default)]
struct Captured(Rc<RefCell<Vec<u8>>>, Rc<Cell<bool>>);

impl Captured {
    fn capture(&self, request: &Authorized) -> Result<Response, Rejection> {
        if let UpstreamRequest::Http1(head) = outgoing_request(request, None, &upstream_host(request)?)? {
            self.0.replace(head);
            self.1.set(true);
        }
        Ok(response::empty(StatusCode::OK))
    }
}

impl HotPath {
    /// A gateway with these settings that listens nowhere; `peer` is the only client. Its clock stands still
    /// at `now` (seconds since 1970).
    ///
    /// # Errors
    ///
    /// Those of a start.
    pub fn new(settings: Settings, peer: SocketAddr, now: UnixSeconds) -> Result<HotPath, ServeError> {
        let gateway = Arc::new(prepare(settings)?);
        let config = gateway.configuration.current();
        let client = ClientAddr::new(peer, &config.settings.server.trusted_proxies, false);
        let worker = Rc::new(Worker::new(gateway, 0).at(UnixMillis::of_seconds(now)));
        let captured = Captured::default();
        let proxy = captured.clone();
        let target =
            TargetService::new(service_fn(move |request: Authorized| ready(proxy.capture(&request))));
        let mut stack = request_stack(Rc::clone(&worker), EndpointService, target);
        let stack = Box::new(move |request: Incoming| {
            // Nothing in the stack is pending here.
            let mut response = pin!(stack.call(request));
            let mut cx = Context::from_waker(Waker::noop());
            loop {
                if let Poll::Ready(response) = response.as_mut().poll(&mut cx) {
                    return response.unwrap_or_else(|never: Infallible| match never {});
                }
            }
        });
        let stream = StreamState::of_http1_connection();
        Ok(HotPath { worker, client: Rc::new(client), stream, stack, captured, now })
    }

    /// An access token of a new session, valid for a minute.
    ///
    /// # Errors
    ///
    /// The key does not sign.
    pub fn access_token(&self, username: &str) -> Result<String, SigningError> {
        self.worker.state().config.issuer.issue(TokenRequest {
            token_type: TokenType::Access,
            jti: &TokenId::random().to_string(),
            sid: &SessionId::random().to_string(),
            subject: "1",
            username,
            roles: &["user".to_owned()],
            further: &Map::new(),
            fresh: false,
            csrf: None,
            key: None,
            cookie_session: false,
            authentication: None,
            issued_at: self.now,
            expires_at: self.now.saturating_add(Duration::from_secs(60)),
            session_expires_at: self.now.saturating_add(Duration::from_secs(600)),
        })
    }

    /// Passes a request through the whole stack and returns the length of the upstream request's head, in
    /// bytes.
    ///
    /// # Errors
    ///
    /// The status of the rejection.
    pub fn pass(&mut self, input: &[u8]) -> Result<usize, StatusCode> {
        self.outgoing(input)?;
        Ok(self.captured.0.borrow().len())
    }

    /// Like [`Self::pass`], and returns the head itself.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn upstream_head(&mut self, input: &[u8]) -> Result<Vec<u8>, StatusCode> {
        self.outgoing(input)?;
        Ok(self.captured.0.borrow().clone())
    }

    fn outgoing(&mut self, input: &[u8]) -> Result<(), StatusCode> {
        let mut head = self.worker.take_head();
        match head.parse(input, &HeadLimits::default()) {
            Ok(Some(_)) => {}
            _ => return Err(StatusCode::BAD_REQUEST),
        }
        self.stream.begin();
        self.captured.1.set(false);
        let response = (self.stack)(Incoming {
            head,
            refused: None,
            body: RequestBody::default(),
            client: Rc::clone(&self.client),
            stream: Rc::clone(&self.stream),
        });
        if self.captured.1.get() { Ok(()) } else { Err(response.status()) }
    }
}
