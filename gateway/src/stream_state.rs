//! What a connection and the request on it tell each other besides bytes: one per HTTP/2 stream, one per HTTP/1.1 connection.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::Waker;
use std::time::Duration;

use crate::proxy::session_expiry::{ExpiryReason, SessionExpiry};
use crate::proxy::websocket::Tunnel;
use crate::runtime::Worker;
use crate::telemetry::AbortReason;

/// How often a connection looks whether its requests may go on: a revocation is in force for what is under way so much later.
pub(crate) const WATCH_INTERVAL: Duration = Duration::from_millis(250);

/// Flags between a connection and its request. All of it lives on one thread.
#[derive(Default)]
pub(crate) struct StreamState {
    http1: bool,
    /// A request was read and its response is not complete.
    pub(crate) in_flight: Cell<bool>,
    /// The response's head is out and its body waits for its source: the client is not being waited for.
    pub(crate) waits_for_source: Cell<bool>,
    pub(crate) responded: Cell<bool>,
    /// Something of the response's body was taken since the last look.
    pub(crate) progress: Cell<bool>,
    /// Looks in a row at which the client did not take what there was.
    stalled_looks: Cell<u32>,
    /// The request body's framing was refused while it came.
    pub(crate) body_malformed: Cell<bool>,
    /// The connection has to end after the response.
    pub(crate) close: Cell<bool>,
    /// Why the exchange was cut, as far as the connection knows.
    pub(crate) abort: Cell<Option<AbortReason>>,
    /// What ends the exchange before its end, where a token has opened it.
    pub(crate) session: RefCell<Option<SessionExpiry>>,
    /// Informational responses (1xx) that the client has not got, ready for the wire.
    pub(crate) informational: RefCell<Vec<u8>>,
    /// What the connection becomes behind a 101.
    pub(crate) tunnel: RefCell<Option<Box<Tunnel>>>,
    /// The task that drives the stream, to be woken when the exchange is cut.
    pub(crate) task: RefCell<Option<Waker>>,
}

impl StreamState {
    /// For a connection of HTTP/1.1, whose requests use it one after the other.
    pub(crate) fn of_http1_connection() -> Rc<StreamState> {
        Rc::new(StreamState { http1: true, ..StreamState::default() })
    }

    /// For one stream of HTTP/2.
    pub(crate) fn of_http2_stream() -> Rc<StreamState> {
        Rc::new(StreamState { in_flight: Cell::new(true), ..StreamState::default() })
    }

    /// Makes it ready for the next request of its connection.
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

    /// Looks whether the exchange may go on; called every [`WATCH_INTERVAL`] while it is in flight. `write_timeout` is how
    /// long the client may leave what there is.
    pub(crate) fn watch(&self, worker: &Worker, write_timeout: Duration) -> Option<AbortReason> {
        let session = self.session.borrow().as_ref().and_then(|session| session.check(worker));
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

    /// Whether a client of HTTP/2 has left its window shut for too long. HTTP/1.1 sees that at its socket.
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
