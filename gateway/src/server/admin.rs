//! The admin listener: `/healthz` (liveness), `/readyz` (readiness), `/metrics` (Prometheus) and `/status`, for internal
//! use only.

use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use bytes::Bytes;
use http::header::{
    ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ORIGIN, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::clock::{UnixSeconds, now_millis, now_seconds};
use crate::http1::Host;
use crate::rejection::Rejection;
use crate::runtime::Gateway;
use crate::runtime_config::RuntimeConfig;
use crate::server::small_listener::{self, host_of};
use crate::server::status::Status;
use crate::server::status_page;
use crate::telemetry::{Gauges, KeyGauge, KeyStateLabel, LogWriter};
use crate::tokens::{KeyRole, LoadedKey};

/// What the admin endpoints report on.
#[derive(Clone)]
pub(super) struct AdminState {
    pub(super) gateway: Arc<Gateway>,
    pub(super) logs: LogWriter,
    /// The writer of the audit trail, where it has one of its own.
    pub(super) audit: Option<LogWriter>,
    pub(super) draining: watch::Receiver<bool>,
    /// When this process started to serve, in seconds since 1970.
    pub(super) started_at: u64,
}

impl AdminState {
    /// Whether the process is to stop, or has stopped accepting connections.
    fn is_draining(&self) -> bool {
        self.gateway.leaving.load(Ordering::Relaxed) || *self.draining.borrow()
    }
}

/// Serves until the process ends or another gateway takes over.
pub(super) async fn serve(
    listener: TcpListener,
    state: AdminState,
    taken_over: watch::Receiver<bool>,
) -> io::Result<()> {
    small_listener::serve(listener, taken_over, move |request, _| respond(request, &state)).await
}

fn respond(request: &Request<Incoming>, state: &AdminState) -> Result<Response<Bytes>, Rejection> {
    let config = state.gateway.configuration.current();
    let host = host_of(request)?;
    let from_a_page = request.headers().contains_key(ORIGIN);
    if from_a_page || !host.is_none_or(|host| is_allowed_host(host, &config.settings.admin.hosts)) {
        return Err(Rejection::AdminHost);
    }
    match *request.method() {
        Method::GET | Method::HEAD => {}
        // HAProxy's `option httpchk` sends OPTIONS by default.
        Method::OPTIONS => {
            let mut response = Response::new(Bytes::new());
            *response.status_mut() = StatusCode::NO_CONTENT;
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD, OPTIONS"));
            return Ok(response);
        }
        _ => return Err(Rejection::AdminMethod),
    }
    match request.uri().path() {
        "/healthz" => Ok(text("ok\n".into())),
        "/readyz" => Ok(readiness(state)),
        "/metrics" => Ok(text(state.gateway.metrics.render(&gauges(state)))),
        "/status" => Ok(status_page(request, state)),
        "/status.json" => {
            let status = serde_json::to_vec(&Status::now(state)).unwrap_or_default();
            Ok(respond_with(StatusCode::OK, "application/json", status.into()))
        }
        _ => Err(Rejection::AdminPath),
    }
}

/// Whether the `Host` is an address, `localhost` or an allowed name: DNS rebinding protection, so that no
/// page of another site can have a browser send requests here (CVE-2026-27589).
fn is_allowed_host(host: &str, allowed: &[String]) -> bool {
    Host::parse(host.as_bytes())
        .is_ok_and(|host| host.is_address_or_localhost() || allowed.iter().any(|name| host.is(name)))
}

fn text(text: String) -> Response<Bytes> {
    respond_with(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", text.into())
}

fn respond_with(status: StatusCode, content_type: &'static str, body: Bytes) -> Response<Bytes> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// What a browser may do with the page: nothing but show it, in its own style.
const PAGE_POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

fn status_page(request: &Request<Incoming>, state: &AdminState) -> Response<Bytes> {
    match status_page::render(&Status::now(state), status_page::refresh(request.uri().query())) {
        Ok(page) => {
            let mut response = respond_with(StatusCode::OK, "text/html; charset=utf-8", page.into());
            let headers = response.headers_mut();
            headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(PAGE_POLICY));
            headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
            headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
            response
        }
        Err(error) => {
            tracing::error!(%error, "the status page cannot be rendered");
            respond_with(StatusCode::INTERNAL_SERVER_ERROR, "text/plain", Bytes::new())
        }
    }
}

/// Readiness, and why it is not all there.
pub(super) struct Health {
    /// `draining`, `degraded` or `ready`.
    pub(super) word: &'static str,
    pub(super) store: Option<String>,
    pub(super) users: Option<String>,
    pub(super) configuration: Option<String>,
}

/// Access tokens are verified without the store, so a store outage makes logins fail and nothing else ("degraded"). A
/// users file that cannot be used leaves the users that were loaded before.
pub(super) fn health(state: &AdminState) -> Health {
    let store = state.gateway.sessions.store_last_error();
    let configuration = state.gateway.configuration.last_error();
    let users = state.gateway.configuration.current().users.last_error();
    let word = match state.is_draining() {
        true => "draining",
        false if store.is_some() || users.is_some() || configuration.is_some() => "degraded",
        false => "ready",
    };
    Health { word, store, users, configuration }
}

/// Readiness: 503 while draining, 200 otherwise.
fn readiness(state: &AdminState) -> Response<Bytes> {
    let Health { word, store, users, configuration } = health(state);
    let (now, revocations) = (now_millis(), state.gateway.sessions.revocations());
    let status = if word == "draining" { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
    let or_ok = |last_error: Option<String>| last_error.unwrap_or_else(|| "ok".to_owned());
    let trust = if revocations.are_trusted(now) { "trusted" } else { "unknown" };
    let body = json!({
        "status": word,
        "store": or_ok(store),
        "users": or_ok(users),
        "configuration": or_ok(configuration),
        "revocations": trust,
        "revocations_age_seconds": revocations.age(now).as_secs(),
    });
    respond_with(status, "application/json", body.to_string().into())
}

fn keys(config: &RuntimeConfig) -> Vec<KeyGauge> {
    let signs = config.issuer.signs_with(now_seconds()).map(|key| key.id());
    let gauge = |key: &LoadedKey| {
        let is_signing = signs == Some(key.record.id());
        let (state, since) = match key.role {
            KeyRole::Signing { from } | KeyRole::Previous { from, .. } if is_signing => {
                (KeyStateLabel::Signing, Some(from).filter(|from| *from > UnixSeconds::default()))
            }
            KeyRole::Previous { .. } => (KeyStateLabel::Previous, None),
            KeyRole::Next | KeyRole::Signing { .. } => (KeyStateLabel::Next, None),
        };
        KeyGauge {
            id: key.record.id().to_owned(),
            algorithm: key.record.algorithm().name(),
            state,
            verified: key.record.verified(),
            signs_since: since.map(UnixSeconds::get),
            until: key.until().map(UnixSeconds::get),
        }
    };
    config.keys.iter().map(gauge).collect()
}

pub(super) fn gauges(state: &AdminState) -> Gauges {
    let configuration = &state.gateway.configuration;
    let snapshot = configuration.current();
    let users = &snapshot.users;
    Gauges {
        upstreams: snapshot.upstreams.iter().map(|upstream| upstream.state()).collect(),
        config_reads: configuration.reload_count(),
        config_failures: configuration.reload_failures(),
        config_up_to_date: configuration.last_error().is_none(),
        users: users.user_count(),
        users_reads: users.reload_count(),
        users_failures: users.reload_failures(),
        users_up_to_date: users.last_error().is_none(),
        census: *state.gateway.census.lock().unwrap_or_else(PoisonError::into_inner),
        revoked_sessions: state.gateway.sessions.revocations().len(),
        log_lines_dropped: state.logs.dropped(),
        audit_events_dropped: state.audit.as_ref().map_or(0, LogWriter::dropped),
        spans: state.gateway.spans.as_ref().map(|spans| spans.counts()).unwrap_or_default(),
        password_hashes: state.gateway.hashing.hashes_run(),
        password_hash_queue: state.gateway.hashing.queue_len(),
        keys: keys(&snapshot),
        certificates: snapshot.certificate_expiries.clone(),
        store_up: state.gateway.sessions.store_last_error().is_none(),
        store_losses: state.gateway.sessions.store_losses(),
        revocations_age: state.gateway.sessions.revocations().age(now_millis()),
        draining: state.is_draining(),
        issuers: snapshot.issuers.states(now_millis().seconds()),
    }
}
