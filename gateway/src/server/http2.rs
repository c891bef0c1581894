//! One connection of HTTP/2: streams in, each an exchange and a task of its own (RFC 9113).

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use h2::RecvStream;
use h2::server::{Builder, Connection, SendResponse};
use http::Request;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::client_addr::Client;
use crate::config::Limits;
use crate::net::{Deadline, Lingering};
use crate::runtime::Worker;
use crate::server::http2_exchange::exchange;

/// What a client may send of one body, and of all bodies of a connection, before the gateway has passed some on.
const STREAM_WINDOW: u32 = 64 << 10;
const CONNECTION_WINDOW: u32 = 1 << 20;
/// What waits to be written of one stream's answer.
const SEND_BUFFER: usize = 128 << 10;
/// Streams that a client may take back before anybody looked at them, and errors of its own that it may cause, until the
/// connection is ended (CVE-2023-44487, CVE-2025-8671).
const PENDING_RESETS: usize = 20;
const ERRORS: usize = 1024;
/// How long a client that asks for nothing may take to notice that the connection ends.
const FAREWELL: Duration = Duration::from_secs(5);

/// Serves a connection until one side ends it. `draining` turns true when the gateway is about to stop.
pub(crate) async fn serve<S>(
    socket: S,
    client: Client,
    worker: &Rc<Worker>,
    mut draining: watch::Receiver<bool>,
) where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let limits = worker.serving().snapshot.settings.limits.clone();
    let handshake = Box::pin(builder(&limits).handshake(Lingering::new(socket)));
    let connection = match timeout(limits.first_byte_timeout, handshake).await {
        Ok(Ok(connection)) => connection,
        Ok(Err(error)) => return tracing::debug!(client = client.peer(), %error, "no HTTP/2 after all"),
        Err(_) => return,
    };
    let mut connection =
        Serving { connection, open: Rc::default(), idle: Deadline::default(), leaving: false, limits };
    let mut stop = pin!(async move {
        // An error means that the sender is gone, which is the end as well.
        let _ = draining.wait_for(|draining| *draining).await;
    });
    let client = Rc::new(client);
    loop {
        match connection.next(stop.as_mut()).await {
            Next::Request(request, respond) => {
                let place = connection.place();
                let (worker, client) = (Rc::clone(worker), Rc::clone(&client));
                tokio::task::spawn_local(async move {
                    exchange(&worker, &client, *request, respond).await;
                    drop(place);
                });
            }
            Next::Over => return,
            Next::Leave => connection.leave(),
        }
    }
}

fn builder(limits: &Limits) -> Builder {
    let mut builder = Builder::new();
    builder
        .max_concurrent_streams(limits.streams)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(u32::try_from(limits.header_block).unwrap_or(u32::MAX))
        .max_send_buffer_size(SEND_BUFFER)
        .max_concurrent_reset_streams(PENDING_RESETS)
        .max_pending_accept_reset_streams(PENDING_RESETS)
        .max_local_error_reset_streams(Some(ERRORS));
    builder
}

struct Serving<S> {
    connection: Connection<Lingering<S>, Bytes>,
    open: Rc<Cell<usize>>,
    idle: Deadline,
    /// The client was told that no more requests are taken; what it sent before it knew is.
    leaving: bool,
    limits: Limits,
}

/// What happens next on a connection.
enum Next {
    Request(Box<Request<RecvStream>>, SendResponse<Bytes>),
    /// Nothing has been asked for too long, or the gateway stops.
    Leave,
    /// It has ended, by whomever, or the client broke the protocol.
    Over,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Serving<S> {
    async fn next(&mut self, mut stop: std::pin::Pin<&mut impl Future<Output = ()>>) -> Next {
        poll_fn(|cx| {
            match self.connection.poll_accept(cx) {
                Poll::Ready(Some(Ok((request, respond)))) => {
                    self.idle.clear();
                    return Poll::Ready(Next::Request(Box::new(request), respond));
                }
                Poll::Ready(Some(Err(error))) => {
                    tracing::debug!(%error, "a connection of HTTP/2 broke");
                    return Poll::Ready(Next::Over);
                }
                Poll::Ready(None) => return Poll::Ready(Next::Over),
                Poll::Pending => {}
            }
            if !self.leaving && stop.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Next::Leave);
            }
            // The end of a stream wakes the connection, for it has the last frames to write.
            if self.open.get() > 0 {
                self.idle.clear();
                // How long the streams of one that leaves may take is for the drain to say.
                return Poll::Pending;
            }
            let (patience, next) =
                if self.leaving { (FAREWELL, Next::Over) } else { (self.limits.idle_timeout, Next::Leave) };
            self.idle.poll_within(cx, patience).map(|()| next)
        })
        .await
    }

    /// Says that no more requests are taken (GOAWAY). Those that are under way, and those that come before the client can
    /// know (RFC 9113 section 6.8), are answered.
    fn leave(&mut self) {
        self.connection.graceful_shutdown();
        self.leaving = true;
        self.idle.clear();
    }

    fn place(&self) -> Place {
        self.open.set(self.open.get() + 1);
        Place(Rc::clone(&self.open))
    }
}

/// A stream's place among the open ones, given up also when its task panics.
struct Place(Rc<Cell<usize>>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}
