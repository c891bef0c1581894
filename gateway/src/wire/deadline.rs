//! A timer that is cheap to move: it is re-armed only when it fires too early.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

/// A point in time that a connection must not pass.
///
/// Deadlines move with every read and write. Moving one that lies ahead to a later instant only stores the instant;
/// the timer behind it wakes at the old one, sees the new one and sleeps on.
#[derive(Debug)]
pub(crate) struct Deadline {
    at: Instant,
    timer: Pin<Box<Sleep>>,
}

impl Deadline {
    /// A deadline `after` from now.
    pub(crate) fn after(after: Duration) -> Deadline {
        let at = Instant::now() + after;
        Deadline { at, timer: Box::pin(sleep_until(at)) }
    }

    /// Moves the deadline to `after` from now.
    pub(crate) fn restart(&mut self, after: Duration) {
        self.at = Instant::now() + after;
        if self.at < self.timer.deadline() {
            self.timer.as_mut().reset(self.at);
        }
    }

    /// Ready once the deadline has passed.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while self.timer.as_mut().poll(cx).is_ready() {
            if Instant::now() >= self.at {
                return Poll::Ready(());
            }
            self.timer.as_mut().reset(self.at);
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;

    #[tokio::test]
    async fn a_deadline_moved_later_fires_later_and_one_moved_earlier_fires_earlier() {
        let start = Instant::now();
        let mut deadline = Deadline::after(Duration::from_millis(20));
        deadline.restart(Duration::from_millis(60));
        poll_fn(|cx| deadline.poll(cx)).await;
        assert!(start.elapsed() >= Duration::from_millis(60));

        let mut deadline = Deadline::after(Duration::from_secs(60));
        deadline.restart(Duration::from_millis(10));
        poll_fn(|cx| deadline.poll(cx)).await;
        assert!(start.elapsed() < Duration::from_secs(50));
    }
}
