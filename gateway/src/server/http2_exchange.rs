//! One exchange of HTTP/2: the same way through the pipeline as any other, then frames instead of lines.

use std::future::poll_fn;
use std::pin::pin;

use bytes::Bytes;
use h2::RecvStream;
use h2::server::SendResponse;
use http::{Method, Request};
use tokio::time::Instant;

use crate::client_addr::Client;
use crate::http1::{Http2Body, RequestBody, RequestHead, Version};
use crate::layers::access_log::{Asked, RequestLine, Seen, log, protocol};
use crate::layers::catch_panic::answered;
use crate::pipeline;
use crate::pipeline::{Exchange, Facts};
use crate::rejection::{Code, Rejection};
use crate::response::Response;
use crate::runtime::Worker;
use crate::server::exchange::{bad_head, head_limits, request_id, unix_millis};
use crate::server::http2_answer::Http2Answer;
use crate::worker_state::Serving;

/// What the log says of a request that its client took back before it was answered; nobody was told anything.
const TAKEN_BACK: u16 = 499;

/// Answers one request.
pub(crate) async fn exchange(
    worker: &Worker,
    client: &Client,
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
) {
    let (started, now_millis) = (Instant::now(), unix_millis());
    let serving = worker.serving();
    let limits = &serving.snapshot.settings.limits;
    let (parts, stream) = request.into_parts();
    let mut head = RequestHead::default();
    if let Err(error) = head.read_http2(&parts, !stream.is_end_stream(), &head_limits(limits)) {
        let line =
            RequestLine { method: parts.method, path: parts.uri.path().to_owned(), version: Version::Http2 };
        return refuse(worker, &serving, client, respond, &bad_head(&error), &line).await;
    }
    let request = match crate::layers::admission::admit(&head) {
        Ok(request) => request,
        Err(rejection) => {
            return refuse(worker, &serving, client, respond, &rejection, &RequestLine::of(&head)).await;
        }
    };
    let request_id = request_id(worker, client, &head);
    let body = RequestBody::of_stream(request.framing(), Http2Body::new(stream), limits.body_timeout);
    let exchange = Exchange { request: &request, request_id: &request_id, started, now_millis };
    let mut facts = Facts::default();
    let handled = {
        let handling = pin!(pipeline::handle(worker, &serving, client, &exchange, &mut facts, body));
        tokio::select! {
            biased;
            response = answered(handling, &request_id) => Some(response),
            // Whoever works for it upstream is let go.
            _ = poll_fn(|cx| respond.poll_reset(cx)) => None,
        }
    };
    let (status, code) = match &handled {
        Some(response) => (response.status.as_u16(), response.code.map(Code::name)),
        None => (TAKEN_BACK, None),
    };
    let mut bytes = 0;
    if let Some(response) = handled {
        let answer = Http2Answer {
            is_head: *head.method() == Method::HEAD,
            request_id: request_id.as_bytes(),
            now: exchange.now(),
            patience: limits.write_timeout,
        };
        bytes = answer.write(&mut respond, response).await;
    }
    let seen = Seen { started, started_millis: now_millis, ended: Instant::now(), status, code, bytes };
    let trusted = &serving.snapshot.settings.server.trusted_proxies;
    let asked = Asked {
        client: &client.address_text(&head, trusted),
        method: request.method().as_str(),
        path: request.target().path(),
        host: request.host().as_str(),
        protocol: protocol(Version::Http2),
    };
    log(worker, &serving, &asked, request_id.as_str(), &facts, &seen);
}

/// Answers a request that was not admitted. The other streams of the connection have nothing to do with it.
async fn refuse(
    worker: &Worker,
    serving: &Serving,
    client: &Client,
    mut respond: SendResponse<Bytes>,
    rejection: &Rejection,
    line: &RequestLine,
) {
    let (started, started_millis) = (Instant::now(), unix_millis());
    let request_id = worker.request_ids.borrow_mut().next_id();
    let answer = Http2Answer {
        is_head: line.method == Method::HEAD,
        request_id: request_id.as_bytes(),
        now: started_millis / 1000,
        patience: serving.snapshot.settings.limits.write_timeout,
    };
    let bytes = answer.write(&mut respond, Response::refusal(rejection, request_id.as_str())).await;
    let seen = Seen {
        started,
        started_millis,
        ended: Instant::now(),
        status: rejection.status().as_u16(),
        code: Some(rejection.code().name()),
        bytes,
    };
    let asked = Asked {
        client: client.peer(),
        method: line.method.as_str(),
        path: &line.path,
        host: "-",
        protocol: protocol(line.version),
    };
    log(worker, serving, &asked, request_id.as_str(), &Facts::default(), &seen);
}
