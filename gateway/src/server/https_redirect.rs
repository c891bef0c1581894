//! The HTTPS redirect listener: every request is redirected to the same URL under `https://` (RFC 9110
//! section 15.4.9), but for the health checks of load balancers.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use http::header::LOCATION;
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::http1::{CanonicalTarget, Host, HostError};
use crate::rejection::Rejection;
use crate::response::header_value;
use crate::runtime::Gateway;
use crate::server::small_listener::{self, host_of};
use crate::services::endpoints::health;

/// Serves until the process ends or another gateway takes over. `secure` is the address of the TLS listener.
pub(super) async fn serve(
    listener: TcpListener,
    gateway: Arc<Gateway>,
    secure: SocketAddr,
    taken_over: watch::Receiver<bool>,
) -> io::Result<()> {
    small_listener::serve(listener, taken_over, move |request, _| {
        let config = gateway.configuration.current();
        let health_path = config.settings.endpoints.health_path.as_deref();
        if health_path == Some(request.uri().path())
            && matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS)
        {
            return Ok(health(gateway.leaving.load(Ordering::Relaxed)));
        }
        let port = config.settings.server.redirect_port.unwrap_or(secure.port());
        redirect_to_https(request, port)
    })
    .await
}

/// The redirect to the same target of the same host. Ambiguous requests are rejected as on the TLS listener.
fn redirect_to_https(request: &Request<Incoming>, port: u16) -> Result<Response<Bytes>, Rejection> {
    let host = host_of(request)?.ok_or(Rejection::BadHost(HostError::NotOne))?;
    let target = request.uri().path_and_query().map_or("/", |target| target.as_str());
    let location = location(request.method(), host, target, port)?;
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = StatusCode::PERMANENT_REDIRECT;
    response.headers_mut().insert(LOCATION, header_value(&location));
    Ok(response)
}

fn location(method: &Method, host: &str, target: &str, port: u16) -> Result<String, Rejection> {
    let host = Host::parse(host.as_bytes()).map_err(Rejection::BadHost)?;
    let target = CanonicalTarget::parse(method, target.as_bytes())
        .and_then(CanonicalTarget::without_oddities)
        .map_err(Rejection::BadTarget)?;
    let target = match target.as_str() {
        "*" => "/",
        target => target,
    };
    Ok(match port {
        443 => format!("https://{}{target}", host.name()),
        port => format!("https://{}:{port}{target}", host.name()),
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_led_to_the_same_target_of_the_same_host_at_the_public_port() {
        for (host, target, port, location_is) in [
            ("app.example", "/a?b=c", 443, "https://app.example/a?b=c"),
            ("app.example:8080", "/", 8443, "https://app.example:8443/"),
            ("app.example.", "*", 443, "https://app.example/"),
            ("[2001:db8::1]:80", "/x", 443, "https://[2001:db8::1]/x"),
        ] {
            assert_eq!(
                location(&Method::OPTIONS, host, target, port).unwrap(),
                location_is,
                "{host}{target}"
            );
        }
    }

    #[test]
    fn what_the_secure_listener_would_refuse_is_refused_here() {
        for (host, target) in [
            ("a b", "/"),
            ("", "/"),
            ("app.example", "/a/../b"),
            ("app.example", "//b"),
            ("app.example", "/%2e%2e/"),
        ] {
            assert!(location(&Method::GET, host, target, 443).is_err(), "{host}{target}");
        }
    }
}
