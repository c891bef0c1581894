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

use http::StatusCode;
use tokio::time::Instant;

use crate::admission::{Admission, RequestView};
use crate::browser::CookieChange;
use crate::client_addr::{ClientAddr, RequestOrigin};
use crate::clock::UnixMillis;
use crate::http1::RequestHead;
use crate::identity::Identity;
use crate::rejection::Rejection;
use crate::request_body::RequestBody;
use crate::routing::Route;
use crate::routing::header_edits::HeaderTemplateContext;
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
    /// Arrival.
    pub(crate) now_millis: UnixMillis,
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
        self.now_millis.seconds()
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

    /// Where the client sent the request, as far as trusted proxies report.
    pub(crate) fn own_origin(&self) -> RequestOrigin<'_> {
        self.client.own_origin(&self.head)
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

    /// The values for templates of header edits.
    pub(crate) fn template_context(&self) -> HeaderTemplateContext<'_> {
        let context = self.context();
        HeaderTemplateContext {
            head: &context.head,
            client: &context.client,
            trusted_proxies: &context.state.config.settings.server.trusted_proxies,
            request_id: &context.request_id,
            host: self.view().host().as_str(),
            identity: self.identity(),
        }
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
