//! The auxiliary listeners (admin, HTTPS redirect): hyper-util's HTTP/1.1 and HTTP/2 server with a tower
//! stack of timeout and concurrency limit.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;
use tower::{ServiceBuilder, ServiceExt};

use super::listener::{accept, close};
use crate::http1::HostError;
use crate::rejection::Rejection;
use crate::telemetry::RequestIds;
use crate::upstream::LocalExecutor;

/// Timeout of reading a head and of a whole response: the handlers wait for nothing but the client.
const IO_TIMEOUT: Duration = Duration::from_secs(5);
/// Timeout of an idle connection.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(60);
/// Concurrency limit of connections and of requests; more wait.
const MAX_CONCURRENT: usize = 1000;

/// Serves requests with `respond`, which gets the request's id, until the process ends or another gateway
/// takes over.
pub(super) async fn serve<F>(
    listener: TcpListener,
    mut taken_over: watch::Receiver<bool>,
    respond: F,
) -> io::Result<()>
where
    F: Fn(&Request<Incoming>, &str) -> Result<Response<Bytes>, Rejection> + 'static,
{
    let permits = Arc::new(Semaphore::new(MAX_CONCURRENT));
    let (respond, ids) = (Rc::new(respond), Rc::new(std::cell::RefCell::new(RequestIds::new())));
    let serve_connection = |(socket, peer): (TcpStream, SocketAddr), permit| {
        let (respond, ids) = (Rc::clone(&respond), Rc::clone(&ids));
        let stack = ServiceBuilder::new()
            // A client that does not read cannot hold a permit for good.
            .timeout(IO_TIMEOUT)
            .concurrency_limit(MAX_CONCURRENT)
            .service(tower::service_fn(move |request: Request<Incoming>| {
                let response = handle_request(&request, &*respond, &ids);
                async move { Ok::<_, Infallible>(response) }
            }));
        tokio::task::spawn_local(async move {
            let service = service_fn(move |request| stack.clone().oneshot(request));
            let mut builder = Builder::new(LocalExecutor);
            builder.http1().timer(TokioTimer::new()).header_read_timeout(IO_TIMEOUT);
            builder.http2().timer(TokioTimer::new()).max_concurrent_streams(16);
            let connection = pin!(builder.serve_connection(TokioIo::new(socket), service));
            match timeout(CONNECTION_TIMEOUT, connection).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::debug!(%peer, %error, "a connection broke"),
                Err(_) => tracing::debug!(%peer, "a connection lasted too long"),
            }
            drop(permit);
        });
    };
    loop {
        let next = async { (Arc::clone(&permits).acquire_owned().await.ok(), accept(&listener).await) };
        tokio::select! {
            (permit, accepted) = next => serve_connection(accepted, permit),
            _ = taken_over.wait_for(|taken_over| *taken_over) => break,
        }
    }
    // These connections are established already; the limit does not apply.
    close(listener)?.into_iter().for_each(|waiting| serve_connection(waiting, None));
    std::future::pending().await
}

/// Handles a request with this id.
type Respond = dyn Fn(&Request<Incoming>, &str) -> Result<Response<Bytes>, Rejection>;

fn handle_request(
    request: &Request<Incoming>,
    respond: &Respond,
    ids: &std::cell::RefCell<RequestIds>,
) -> Response<Full<Bytes>> {
    let id = ids.borrow_mut().next_id();
    let mut response =
        respond(request, id.as_str()).unwrap_or_else(|rejection| rejection.to_response(id.as_str()));
    if let Ok(id) = HeaderValue::from_bytes(id.as_bytes()) {
        response.headers_mut().insert(HeaderName::from_static("x-request-id"), id);
    }
    response.map(Full::new)
}

/// The `Host` of a request that hyper has parsed: exactly one in HTTP/1.1, none or one in HTTP/1.0 (RFC 9112
/// section 3.2), the authority in HTTP/2.
///
/// # Errors
///
/// A required `Host` is missing, there is more than one, or it is malformed or disagrees with the target.
pub(super) fn host_of(request: &Request<Incoming>) -> Result<Option<&str>, Rejection> {
    let mut fields = request.headers().get_all(http::header::HOST).iter();
    let (first, second) = (fields.next(), fields.next());
    let authority = request.uri().authority().map(http::uri::Authority::as_str);
    let host = match (first, second, authority) {
        (Some(_), Some(_), _) => return Err(Rejection::BadHost(HostError::NotOne)),
        (Some(host), None, None) => host.to_str().map_err(|_| Rejection::BadHost(HostError::Malformed))?,
        (Some(host), None, Some(authority)) => {
            if !host.as_bytes().eq_ignore_ascii_case(authority.as_bytes()) {
                return Err(Rejection::BadHost(HostError::Disagrees));
            }
            authority
        }
        (None, _, Some(authority)) if request.version() == http::Version::HTTP_2 => authority,
        (None, _, _) if request.version() == http::Version::HTTP_10 => return Ok(None),
        (None, ..) => return Err(Rejection::BadHost(HostError::NotOne)),
    };
    Ok(Some(host))
}
