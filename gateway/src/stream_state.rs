//! Shared state of a connection and the request on it: one per HTTP/2 stream, one per HTTP/1.1 connection.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::Waker;
use std::time::Duration;

use crate::identity::session_expiry::{ExpiryReason, SessionExpiry};
use crate::net::{ReadBuffer, Socket};
use crate::sessions::Revocations;
use crate::telemetry::AbortReason;
use crate::tokens::UnixSeconds;

/// Poll interval of requests in flight: the end of a session takes effect on them within this time.
pub(crate) const WATCH_INTERVAL: Duration = Duration::from_millis(250);

/// Flags shared between a connection and its request, on one thread.
#[derive(Default)]
pub(crate) struct StreamState {
    http1: bool,
    /// A request was read and its response is not complete.
    pub(crate) in_flight: Cell<bool>,
    /// The response's head was sent and its body waits for its source: the client is not the one that stalls.
    pub(crate) waits_for_source: Cell<bool>,
    pub(crate) responded: Cell<bool>,
    /// Bytes of the response's body were taken since the last check.
    pub(crate) progress: Cell<bool>,
    /// Consecutive checks at which the client did not read what was available.
    stalled_looks: Cell<u32>,
    /// The request body's framing was malformed.
    pub(crate) body_malformed: Cell<bool>,
    /// The connection has to close after the response.
    pub(crate) close: Cell<bool>,
    /// Why the exchange was aborted, as far as the connection knows.
    pub(crate) abort: Cell<Option<AbortReason>>,
    /// An abort can be reported in trailers, once.
    pub(crate) ends_with_trailers: Cell<bool>,
    /// The session whose end aborts the exchange, where a token authorized it.
    pub(crate) session: RefCell<Option<SessionExpiry>>,
    /// Informational responses (1xx) that the client has not got, ready for the wire.
    pub(crate) informational: RefCell<Vec<u8>>,
    /// The tunnel that the connection becomes after a 101.
    pub(crate) tunnel: RefCell<Option<Box<Tunnel>>>,
    /// The task that drives the stream, to be woken when the exchange is aborted.
    pub(crate) task: RefCell<Option<Waker>>,
}

/// The tunnel that a connection becomes once the upstream has accepted an upgrade.
#[derive(Debug)]
pub(crate) struct Tunnel {
    pub(crate) upstream: Rc<Socket>,
    /// What was received behind the head of the 101.
    pub(crate) input: ReadBuffer,
    /// Counts it against its server for as long as it lasts.
    pub(crate) _permit: Box<dyn std::fmt::Debug>,
    /// Set by the access log's layer.
    pub(crate) log: Option<Box<dyn TunnelLog>>,
}

/// The access log entry that is written when a tunnel ends.
pub(crate) trait TunnelLog: std::fmt::Debug {
    /// `bytes` went to the client.
    fn finish(self: Box<Self>, bytes: u64);
}

impl StreamState {
    /// For an HTTP/1.1 connection, reused by one request after the other.
    pub(crate) fn of_http1_connection() -> Rc<StreamState> {
        Rc::new(StreamState { http1: true, ..StreamState::default() })
    }

    /// For one HTTP/2 stream.
    pub(crate) fn of_http2_stream() -> Rc<StreamState> {
        Rc::new(StreamState { in_flight: Cell::new(true), ..StreamState::default() })
    }

    /// Resets the state for the next request of its connection.
    pub(crate) fn begin(&self) {
        self.in_flight.set(true);
        self.waits_for_source.set(false);
        self.responded.set(false);
        self.stalled_looks.set(0);
        self.body_malformed.set(false);
        self.abort.set(None);
        if !self.informational.borrow().is_empty() {
            self.informational.borrow_mut().clear();
        }
        if self.session.borrow().is_some() {
            self.session.replace(None);
        }
    }

    /// Checks whether the exchange may go on; called every [`WATCH_INTERVAL`] while it is in flight.
    /// `write_timeout` is how long the client may stall.
    pub(crate) fn watch(
        &self,
        revocations: &Revocations,
        now: UnixSeconds,
        write_timeout: Duration,
    ) -> Option<AbortReason> {
        let session = self.session.borrow().as_ref().and_then(|session| session.check(revocations, now));
        let reason = match session {
            Some(ExpiryReason::Revoked) => Some(AbortReason::SessionRevoked),
            Some(ExpiryReason::Expired) => Some(AbortReason::SessionExpired),
            None => self.is_stalled(write_timeout).then_some(AbortReason::ClientTimeout),
        };
        if reason.is_some() {
            self.abort.set(reason);
        }
        reason
    }

    /// Whether an HTTP/2 client has kept its window closed for too long. HTTP/1.1 detects that at the socket.
    fn is_stalled(&self, write_timeout: Duration) -> bool {
        if self.http1 || self.progress.take() || self.waits_for_source.get() || !self.responded.get() {
            self.stalled_looks.set(0);
            return false;
        }
        self.stalled_looks.set(self.stalled_looks.get() + 1);
        WATCH_INTERVAL * self.stalled_looks.get() >= write_timeout
    }

    /// Wakes the task that drives the stream.
    pub(crate) fn wake(&self) {
        if let Some(task) = &*self.task.borrow() {
            task.wake_by_ref();
        }
    }
}

impl std::fmt::Debug for StreamState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StreamState")
            .field("in_flight", &self.in_flight)
            .field("abort", &self.abort)
            .finish_non_exhaustive()
    }
}
