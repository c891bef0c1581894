//! The plain listener beside TLS: whatever is asked for, it is under `https://` (RFC 9110 section 15.4.9).

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{Method, StatusCode};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::timeout;

use crate::http1::{RequestHead, Version};
use crate::net::{Deadline, ReadBuffer, Socket};
use crate::response::Response;
use crate::runtime::Gateway;
use crate::server::answer::Answer;
use crate::server::exchange::{bad_head, head_limits, unix_millis};
use crate::server::listener::{accept, close};
use crate::telemetry::{RequestId, RequestIds};

/// A whole exchange may take so long: nothing here waits for anything but the client.
const PATIENCE: Duration = Duration::from_secs(5);
/// So many are answered at once; more wait to be accepted.
const AT_ONCE: usize = 1000;

/// Answers until the process ends or another gateway does it, one request a connection. `secure` is where the listener with
/// TLS is.
pub(crate) async fn serve(
    listener: TcpListener,
    gateway: Arc<Gateway>,
    secure: SocketAddr,
    mut handed_over: watch::Receiver<bool>,
) -> io::Result<()> {
    let places = Arc::new(Semaphore::new(AT_ONCE));
    let mut request_ids = RequestIds::new();
    let mut begin = |(socket, peer): (TcpStream, SocketAddr), place: Option<OwnedSemaphorePermit>| {
        let (gateway, id) = (Arc::clone(&gateway), request_ids.next_id());
        tokio::task::spawn_local(async move {
            let socket = Socket::Tcp(socket);
            if timeout(PATIENCE, exchange(&socket, &gateway, &id, secure.port())).await.is_err() {
                tracing::debug!(%peer, "a client to be led to https took too long");
            }
            drop(place);
        });
    };
    loop {
        let next = async { (Arc::clone(&places).acquire_owned().await.ok(), accept(&listener).await) };
        tokio::select! {
            (place, accepted) = next => begin(accepted, place),
            _ = handed_over.wait_for(|handed_over| *handed_over) => break,
        }
    }
    // Those have come already, however many they are.
    close(listener)?.into_iter().for_each(|waiting| begin(waiting, None));
    std::future::pending().await
}

async fn exchange(socket: &Socket, gateway: &Gateway, id: &RequestId, port: u16) {
    let limits = head_limits(&gateway.configuration.current().settings.limits);
    let (mut input, mut head) = (ReadBuffer::default(), RequestHead::default());
    let refused = loop {
        match poll_fn(|cx| socket.poll_read(cx, &mut input, 4096)).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        match head.parse(input.filled(), &limits) {
            Ok(Some(_)) => break None,
            Ok(None) => {}
            Err(error) => break Some(bad_head(&error)),
        }
    };
    let response = match refused {
        Some(rejection) => Response::refusal(&rejection, id.as_str()),
        None => lead(&head, id, port),
    };
    let answer = Answer {
        version: Version::Http11,
        is_head: *head.method() == Method::HEAD,
        keep_alive: false,
        request_id: id.as_bytes(),
        now: unix_millis() / 1000,
    };
    let written = answer.write(socket, &mut Deadline::default(), PATIENCE, &mut Vec::new(), response).await;
    if let Err(error) = written.outcome {
        tracing::debug!(%error, "nobody wanted to be led to https");
    }
    socket.drain().await;
}

/// The way to the same target of the same host. What is ambiguous is refused here as it would be there.
fn lead<'c>(head: &RequestHead, id: &RequestId, port: u16) -> Response<'c> {
    let request = match crate::layers::admission::admit(head) {
        Ok(request) => request,
        Err(rejection) => return Response::refusal(&rejection, id.as_str()),
    };
    let target = match request.target().as_str() {
        "*" => "/",
        target => target,
    };
    let host = request.host();
    let location = match port {
        443 => format!("https://{}{target}", host.name()),
        port => format!("https://{}:{port}{target}", host.name()),
    };
    Response::new(StatusCode::PERMANENT_REDIRECT).field("Location", &location)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::http1::HeadLimits;

    fn location(request: &str, port: u16) -> (u16, String) {
        let mut head = RequestHead::default();
        head.parse(request.as_bytes(), &HeadLimits::default()).unwrap().unwrap();
        let response = lead(&head, &RequestIds::new().next_id(), port);
        let location = response.fields.iter().find(|(name, _)| *name == b"Location");
        let location = location.map(|(_, value)| String::from_utf8(value.to_vec()).unwrap());
        (response.status.as_u16(), location.unwrap_or_default())
    }

    #[test]
    fn the_same_target_of_the_same_host_is_under_https() {
        for (host, port, led) in [
            ("app.test", 443, "https://app.test/a?b=c"),
            ("app.test:80", 8443, "https://app.test:8443/a?b=c"),
            ("[::1]:80", 443, "https://[::1]/a?b=c"),
        ] {
            let request = format!("GET /a?b=c HTTP/1.1\r\nHost: {host}\r\n\r\n");
            assert_eq!(location(&request, port), (308, led.to_owned()));
        }
    }

    #[test]
    fn what_is_ambiguous_leads_nowhere() {
        for target in ["//evil.test/", "/a/../b", "/\\evil.test", "@evil.test"] {
            let request = format!("GET {target} HTTP/1.1\r\nHost: app.test\r\n\r\n");
            assert_eq!(location(&request, 443), (400, String::new()), "{target}");
        }
        assert_eq!(location("GET / HTTP/1.1\r\nHost: a@b\r\n\r\n", 443).0, 400);
    }
}
