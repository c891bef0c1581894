//! Typed requests: the state of a request at each step of the stack.
//!
//! [`Received`] -> [`Admitted`] -> [`Routed`] -> [`Authenticated`] -> [`Authorized`]: each can be made only
//! by the layer of that name, so a request that skipped a check cannot reach a target. What outer layers and
//! the access log need when the request itself is gone is in the shared [`RequestContext`].

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::net::IpAddr;
use std::ops::Deref;
use std::rc::Rc;
use std::sync::LazyLock;

use http::{Method, StatusCode};
use tokio::time::Instant;

use crate::auth::identity::Identity;
use crate::browser::CookieChange;
use crate::client_addr::ClientAddr;
use crate::http1::{BodyFraming, CanonicalTarget, Headers, Host, HostSpan, RequestHead, TargetSpan, Version};
use crate::layers::route::Route;
use crate::rejection::Rejection;
use crate::request_body::RequestBody;
use crate::runtime::Worker;
use crate::sessions::{ClientInfo, SourceNetwork};
use crate::stream_state::StreamState;
use crate::telemetry::{EndpointLabel, ProofOutcome, RequestId, RouteLabel, TraceContext, UpstreamOutcome};
use crate::tokens::UnixSeconds;
use crate::worker_state::WorkerState;

/// What a connection hands to the stack: the head, or the rejection of it, and the body.
#[derive(Debug)]
pub(crate) struct Incoming {
    /// As far as it was read, where `refused` is set.
    pub(crate) head: Box<RequestHead>,
    pub(crate) refused: Option<Box<Rejection>>,
    pub(crate) body: RequestBody,
    pub(crate) client: Rc<ClientAddr>,
    pub(crate) stream: Rc<StreamState>,
}

/// The state of a request from its arrival to its access log entry. Shared by the layers that outlive the
/// request itself.
pub(crate) struct RequestContext {
    pub(crate) head: PooledHead,
    pub(crate) client: Rc<ClientAddr>,
    pub(crate) worker: Rc<Worker>,
    /// The configuration that this request uses from its start to its end.
    pub(crate) state: Rc<WorkerState>,
    pub(crate) stream: Rc<StreamState>,
    pub(crate) request_id: RequestId,
    pub(crate) started: Instant,
    /// Arrival, in milliseconds since 1970.
    pub(crate) now_millis: u64,
    pub(crate) record: AccessLogRecord,
    /// The trace that it belongs to, where `tracing.enabled` is set.
    pub(crate) trace: Option<Box<RequestTrace>>,
}

/// The trace of a request, and what its spans need to know besides the access log.
#[derive(Debug)]
pub(crate) struct RequestTrace {
    pub(crate) context: TraceContext,
    pub(crate) upstream: Cell<Option<UpstreamCall>>,
}

/// A request to the upstream of the access log's record, retries included.
#[derive(Debug, Clone, Copy)]
pub(crate) struct UpstreamCall {
    pub(crate) started: Instant,
    /// When the response's head had come, or the failure.
    pub(crate) ended: Option<Instant>,
    pub(crate) status: Option<u16>,
    pub(crate) error: Option<&'static str>,
}

impl RequestTrace {
    pub(crate) fn new(context: TraceContext) -> Box<RequestTrace> {
        Box::new(RequestTrace { context, upstream: Cell::new(None) })
    }

    pub(crate) fn begin_upstream(&self) {
        let started = Instant::now();
        self.upstream.set(Some(UpstreamCall { started, ended: None, status: None, error: None }));
    }

    pub(crate) fn end_upstream(&self, outcome: UpstreamOutcome, status: Option<StatusCode>) {
        self.upstream.set(self.upstream.get().map(|call| UpstreamCall {
            ended: Some(Instant::now()),
            status: status.map(|status| status.as_u16()),
            error: status.is_none().then(|| outcome.name()),
            ..call
        }));
    }
}

/// A head that goes back to the worker's pool with the [`RequestContext`]; empty only while that is dropped.
#[derive(Debug)]
pub(crate) struct PooledHead(Option<Box<RequestHead>>);

impl From<Box<RequestHead>> for PooledHead {
    fn from(head: Box<RequestHead>) -> PooledHead {
        PooledHead(Some(head))
    }
}

impl Deref for PooledHead {
    type Target = RequestHead;

    fn deref(&self) -> &RequestHead {
        static EMPTY: LazyLock<RequestHead> = LazyLock::new(RequestHead::default);
        self.0.as_deref().unwrap_or_else(|| &EMPTY)
    }
}

/// What the access log and the metrics report about a request besides its head; each step adds what it knows.
#[derive(Debug, Default)]
pub(crate) struct AccessLogRecord {
    /// The route's index in the configuration.
    pub(crate) route: Cell<Option<usize>>,
    /// The gateway's own endpoint that responded.
    pub(crate) endpoint: Cell<Option<EndpointLabel>>,
    /// The upstream's index in the configuration.
    pub(crate) upstream: Cell<Option<usize>>,
    pub(crate) identity: RefCell<Option<Rc<Identity>>>,
    /// The user name of a login, in canonical form.
    pub(crate) username: RefCell<Option<String>>,
    /// Why it was rejected.
    pub(crate) rejection: RefCell<Option<Rejection>>,
    /// What became of a CORS preflight.
    pub(crate) cors: Cell<Option<&'static str>>,
    /// What became of its proof of possession.
    pub(crate) dpop: Cell<Option<ProofOutcome>>,
    /// What the response does to the session's cookies.
    pub(crate) cookies: RefCell<Option<CookieChange>>,
}

/// The value of [`AccessLogRecord::cors`] for a preflight that is left to the app.
pub(crate) const PREFLIGHT_PASSED: &str = "preflight_passed";

impl RequestContext {
    /// Arrival, in seconds since 1970, the unit of tokens.
    pub(crate) fn now(&self) -> UnixSeconds {
        self.now_millis / 1000
    }

    /// Whether this is a CORS preflight on its way to an app: it needs no token, for browsers send none with it.
    pub(crate) fn is_passed_preflight(&self) -> bool {
        self.record.cors.get() == Some(PREFLIGHT_PASSED)
    }

    /// Whether a proxy requests a verdict on the request, which goes elsewhere.
    pub(crate) fn is_verdict(&self) -> bool {
        self.record.endpoint.get() == Some(EndpointLabel::Verify)
    }

    /// The client's address, as reported by trusted proxies.
    pub(crate) fn client_address(&self) -> IpAddr {
        self.client.address(&self.head, &self.state.config.settings.server.trusted_proxies)
    }

    /// The network whose failed logins are counted together.
    pub(crate) fn network(&self) -> SourceNetwork {
        SourceNetwork::of(self.client_address())
    }

    /// Information about the client for the list of sessions.
    pub(crate) fn client_info(&self) -> ClientInfo {
        ClientInfo::new(self.client_address(), self.user_agent().as_deref())
    }

    /// The first `User-Agent`.
    pub(crate) fn user_agent(&self) -> Option<Cow<'_, str>> {
        let field = self.head.headers().iter().find(|field| field.name.eq_ignore_ascii_case(b"user-agent"));
        field.map(|field| String::from_utf8_lossy(field.value))
    }

    /// The route, once the request has one.
    pub(crate) fn route(&self) -> Option<&Route> {
        self.record.route.get().map(|index| self.state.config.routes.at(index))
    }

    /// The path of the route, as configured.
    pub(crate) fn route_path(&self) -> Option<&str> {
        self.record.route.get().map(|index| self.state.config.settings.routes[index].path.as_str())
    }

    /// The route's label in the metrics.
    pub(crate) fn route_label(&self) -> RouteLabel {
        match self.record.route.get() {
            Some(index) => RouteLabel::Route(index),
            None => self.record.endpoint.get().map_or(RouteLabel::None, RouteLabel::Endpoint),
        }
    }
}

impl Drop for RequestContext {
    fn drop(&mut self) {
        if let Some(head) = self.head.0.take() {
            self.worker.release_head(head);
        }
    }
}

impl std::fmt::Debug for RequestContext {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RequestContext").field("request_id", &self.request_id).finish_non_exhaustive()
    }
}

/// A request with an id and a configuration, not yet validated.
#[derive(Debug)]
pub(crate) struct Received {
    pub(crate) context: Rc<RequestContext>,
    pub(crate) body: RequestBody,
    pub(crate) refused: Option<Box<Rejection>>,
}

/// The result of validating a head: its host and its target as text, how they are split, and how its body is framed.
#[derive(Debug)]
pub(crate) struct Admission {
    /// The host and, behind it, the target in origin form: one allocation, and text that is validated once.
    text: Box<str>,
    host_len: usize,
    host: HostSpan,
    target: TargetSpan,
    pub(crate) framing: BodyFraming,
    /// Whether the client waits for `100 Continue` before it sends the body (RFC 9110 section 10.1.1).
    pub(crate) expects_continue: bool,
}

impl Admission {
    /// For the admission layer only.
    pub(crate) fn new(
        host: &Host<'_>,
        target: CanonicalTarget<'_>,
        framing: BodyFraming,
        expects_continue: bool,
    ) -> Admission {
        let host_len = host.as_str().len();
        let mut text = String::with_capacity(host_len + target.as_str().len());
        text.push_str(host.as_str());
        text.push_str(target.as_str());
        let (host, target) = (host.span(), target.span());
        Admission { text: text.into(), host_len, host, target, framing, expects_continue }
    }

    fn host(&self) -> Host<'_> {
        Host::of_admitted(&self.text[..self.host_len], self.host)
    }

    fn target(&self) -> CanonicalTarget<'_> {
        self.target.of(&self.text[self.host_len..])
    }

    fn decoded_path(&self) -> &str {
        self.target.decoded_path(&self.text[self.host_len..])
    }
}

/// A head with its validation result: the input of layers and pure functions.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RequestView<'r> {
    head: &'r RequestHead,
    admission: &'r Admission,
}

impl<'r> RequestView<'r> {
    /// `admission` must be the result of [`admit`](crate::layers::admission::admit) for this `head`.
    pub(crate) fn new(head: &'r RequestHead, admission: &'r Admission) -> RequestView<'r> {
        RequestView { head, admission }
    }

    pub(crate) fn head(&self) -> &'r RequestHead {
        self.head
    }

    pub(crate) fn headers(&self) -> &'r Headers {
        self.head.headers()
    }

    pub(crate) fn method(&self) -> &'r Method {
        self.head.method()
    }

    pub(crate) fn version(&self) -> Version {
        self.head.version()
    }

    pub(crate) fn target(&self) -> CanonicalTarget<'r> {
        self.admission.target()
    }

    /// The path with its percent-encoding decoded once, for matching.
    pub(crate) fn decoded_path(&self) -> &'r str {
        self.admission.decoded_path()
    }

    pub(crate) fn host(&self) -> Host<'r> {
        self.admission.host()
    }

    pub(crate) fn framing(&self) -> BodyFraming {
        self.admission.framing
    }
}

/// A validated request: all parsers agree on its meaning.
#[derive(Debug)]
pub(crate) struct Admitted {
    context: Rc<RequestContext>,
    /// Boxed, for a request is moved from layer to layer.
    admission: Box<Admission>,
    pub(crate) body: RequestBody,
}

impl Admitted {
    /// For the admission layer only.
    pub(crate) fn new(context: Rc<RequestContext>, admission: Admission, body: RequestBody) -> Admitted {
        Admitted { context, admission: Box::new(admission), body }
    }

    pub(crate) fn context(&self) -> &Rc<RequestContext> {
        &self.context
    }

    pub(crate) fn view(&self) -> RequestView<'_> {
        RequestView::new(&self.context.head, &self.admission)
    }
}

/// An admitted request with its route.
#[derive(Debug)]
pub(crate) struct Routed {
    admitted: Admitted,
    /// Index into the routes of the request's own configuration.
    route: usize,
}

impl Routed {
    /// For the routing layer only.
    pub(crate) fn new(admitted: Admitted, route: usize) -> Routed {
        Routed { admitted, route }
    }

    pub(crate) fn context(&self) -> &Rc<RequestContext> {
        &self.admitted.context
    }

    pub(crate) fn view(&self) -> RequestView<'_> {
        self.admitted.view()
    }

    pub(crate) fn route(&self) -> &Route {
        self.context().state.config.routes.at(self.route)
    }
}

/// A routed request whose token, if there is one, was verified.
#[derive(Debug)]
pub(crate) struct Authenticated {
    routed: Routed,
    identity: Option<Rc<Identity>>,
    by_cookie: bool,
}

impl Authenticated {
    /// For the authentication layer only. `by_cookie` says that the credentials were a browser's cookies.
    pub(crate) fn new(routed: Routed, identity: Option<Rc<Identity>>, by_cookie: bool) -> Authenticated {
        Authenticated { routed, identity, by_cookie }
    }

    pub(crate) fn routed(&self) -> &Routed {
        &self.routed
    }

    pub(crate) fn identity(&self) -> Option<&Rc<Identity>> {
        self.identity.as_ref()
    }
}

/// A request that may be handled by its route's target.
#[derive(Debug)]
pub(crate) struct Authorized {
    authenticated: Authenticated,
}

impl Authorized {
    /// For the authorization layer only.
    pub(crate) fn new(authenticated: Authenticated) -> Authorized {
        Authorized { authenticated }
    }

    pub(crate) fn context(&self) -> &Rc<RequestContext> {
        self.authenticated.routed.context()
    }

    pub(crate) fn view(&self) -> RequestView<'_> {
        self.authenticated.routed.view()
    }

    pub(crate) fn route(&self) -> &Route {
        self.authenticated.routed.route()
    }

    pub(crate) fn identity(&self) -> Option<&Rc<Identity>> {
        self.authenticated.identity()
    }

    /// Whether a browser's cookies say who it is. Then its page was checked, and `Authorization` is the app's.
    pub(crate) fn is_by_cookie(&self) -> bool {
        self.authenticated.by_cookie
    }

    /// Frames the request as `body` is, which was received whole.
    pub(crate) fn reframe(&mut self, body: &RequestBody) {
        self.authenticated.routed.admitted.admission.framing = body.framing();
    }

    /// Removes the body, for forwarding it.
    pub(crate) fn take_body(&mut self) -> RequestBody {
        std::mem::take(&mut self.authenticated.routed.admitted.body)
    }
}

/// Requests from text, for tests of pure functions.
#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(crate) mod test_support {
    use super::{Admission, RequestView};
    use crate::http1::{HeadLimits, RequestHead};
    use crate::layers::admission::admit;

    /// The head of this text, which has no empty line at its end.
    pub(crate) fn head(text: &str) -> RequestHead {
        let mut head = RequestHead::default();
        head.parse(format!("{text}\r\n").as_bytes(), &HeadLimits::default()).unwrap().unwrap();
        head
    }

    /// A head that was admitted.
    pub(crate) struct AdmittedHead(RequestHead, Admission);

    impl AdmittedHead {
        pub(crate) fn new(text: &str) -> AdmittedHead {
            let head = head(text);
            let admission = admit(&head).unwrap_or_else(|rejection| panic!("{rejection:?}: {text}"));
            AdmittedHead(head, admission)
        }

        pub(crate) fn view(&self) -> RequestView<'_> {
            RequestView::new(&self.0, &self.1)
        }
    }
}
