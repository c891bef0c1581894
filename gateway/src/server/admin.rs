//! The admin listener: `/healthz`, `/readyz` and `/metrics`, for machines on this side of the gateway only.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::{Method, StatusCode};
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::timeout;

use super::answer::Answer;
use super::listener::{accept, close};
use super::running::since_1970;
use crate::pipeline::{Gateway, Response};
use crate::problem::{Code, Rejection};
use crate::telemetry::{Gauges, LogWriter};
use crate::wire::{Deadline, FieldKind, HeadLimits, Host, ReadBuffer, RequestHead, Socket, Version};

/// A whole exchange may take so long: nothing here waits for anything.
const PATIENCE: Duration = Duration::from_secs(5);

/// What can be asked about.
#[derive(Clone)]
pub(super) struct AdminState {
    pub(super) gateway: Arc<Gateway>,
    pub(super) logs: LogWriter,
    pub(super) draining: watch::Receiver<bool>,
}

/// Answers until the process ends or another gateway does it, one request a connection.
pub(super) async fn serve(
    listener: TcpListener,
    state: AdminState,
    mut handed_over: watch::Receiver<bool>,
) -> io::Result<()> {
    let begin = |(socket, peer): (TcpStream, SocketAddr)| {
        let state = state.clone();
        tokio::task::spawn_local(async move {
            if timeout(PATIENCE, exchange(&Socket::Tcp(socket), peer, &state)).await.is_err() {
                tracing::debug!(%peer, "an admin request took too long");
            }
        });
    };
    loop {
        tokio::select! {
            accepted = accept(&listener) => begin(accepted),
            _ = handed_over.wait_for(|handed_over| *handed_over) => break,
        }
    }
    close(listener)?.into_iter().for_each(begin);
    std::future::pending().await
}

async fn exchange(socket: &Socket, peer: SocketAddr, state: &AdminState) {
    let (mut input, mut head) = (ReadBuffer::default(), RequestHead::default());
    let response = loop {
        match std::future::poll_fn(|cx| socket.poll_read(cx, &mut input, 4096)).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        match head.parse(input.filled(), &HeadLimits::default()) {
            Ok(Some(_)) => break answer(&head, state),
            Ok(None) => {}
            Err(error) => break Err(Rejection::new(Code::BadRequest, error.to_string())),
        }
    };
    let response = response.unwrap_or_else(|rejection| Response::refusal(&rejection, "admin"));
    let answer = Answer {
        version: Version::Http11,
        is_head: *head.method() == Method::HEAD,
        keep_alive: false,
        request_id: b"admin",
        now: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs()),
    };
    let written = answer.write(socket, &mut Deadline::default(), PATIENCE, &mut Vec::new(), response).await;
    if let Err(error) = written.outcome {
        tracing::debug!(%peer, %error, "an admin answer was not read");
    }
    socket.drain().await;
}

fn answer<'c>(head: &RequestHead, state: &AdminState) -> Result<Response<'c>, Rejection> {
    let host = Host::of(head, None).map_err(|e| Rejection::new(Code::BadRequest, e.to_string()))?;
    // A browser that was led here by another site's page, or by a name that was bound to this address, has no
    // business here (CVE-2026-27589).
    let from_a_page = head.fields().of_kind(FieldKind::Origin).next().is_some();
    if from_a_page || !host.is_address_or_localhost() {
        return Err(Rejection::new(
            Code::Misdirected,
            "the admin listener answers machines only, by its address",
        )
        .with_status(StatusCode::FORBIDDEN));
    }
    if !matches!(*head.method(), Method::GET | Method::HEAD) {
        return Err(Rejection::new(Code::MethodNotAllowed, "it can only be read").allow("GET, HEAD"));
    }
    let text = |text: String| {
        Response::new(StatusCode::OK)
            .field("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
            .field("Cache-Control", "no-store")
            .body(text)
    };
    match head.target() {
        b"/healthz" => Ok(text("ok\n".into())),
        b"/readyz" => Ok(readiness(state)),
        b"/metrics" => Ok(text(state.gateway.metrics.render(gauges(state)))),
        _ => Err(Rejection::new(Code::NotFound, "there are /healthz, /readyz and /metrics")),
    }
}

/// Ready unless draining: access tokens are checked without the store, so a store that is away makes logins fail and
/// nothing else (finding 16). A users file that cannot be used leaves the users that were read before.
fn readiness<'c>(state: &AdminState) -> Response<'c> {
    let draining = *state.draining.borrow();
    let store = state.gateway.sessions.store_trouble();
    let configuration = state.gateway.configuration.trouble();
    let users = state.gateway.configuration.current().users.last_error();
    let (now, revocations) = (now_millis(), state.gateway.sessions.revocations());
    let (status, word) = match draining {
        true => (StatusCode::SERVICE_UNAVAILABLE, "draining"),
        false if store.is_some() || users.is_some() || configuration.is_some() => {
            (StatusCode::OK, "degraded")
        }
        false => (StatusCode::OK, "ready"),
    };
    let told = |trouble: Option<String>| trouble.unwrap_or_else(|| "ok".to_owned());
    let heard = if revocations.are_trusted(now) { "trusted" } else { "unknown" };
    let answer = json!({
        "status": word,
        "store": told(store),
        "users": told(users),
        "configuration": told(configuration),
        "revocations": heard,
        "revocations_age_seconds": revocations.age(now) / 1000,
    });
    Response::json(status, &answer).field("Cache-Control", "no-store")
}

fn now_millis() -> u64 {
    since_1970().as_millis() as u64
}

fn gauges(state: &AdminState) -> Gauges {
    let configuration = &state.gateway.configuration;
    let snapshot = configuration.current();
    let users = &snapshot.users;
    Gauges {
        upstreams: snapshot.upstreams.iter().map(|upstream| upstream.state()).collect(),
        config_reads: configuration.reads(),
        config_failures: configuration.failures(),
        config_up_to_date: configuration.trouble().is_none(),
        users: users.user_count(),
        users_reads: users.reload_count(),
        users_failures: users.reload_failures(),
        users_up_to_date: users.last_error().is_none(),
        revoked_sessions: state.gateway.sessions.revocations().len(),
        log_lines_dropped: state.logs.dropped(),
        password_hashes: state.gateway.hashing.hashes_run(),
        store_up: state.gateway.sessions.store_trouble().is_none(),
        store_losses: state.gateway.sessions.store_losses(),
        revocations_age: state.gateway.sessions.revocations().age(now_millis()),
        draining: *state.draining.borrow(),
    }
}
