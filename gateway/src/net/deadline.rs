//! A timer that is cheap to reset: it is registered only once something waits, and re-armed only when it
//! fires too early.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

/// A resettable timeout.
///
/// Deadlines move with every read and write. Moving a pending one later only stores the new instant; the
/// timer behind it wakes at the old instant, sees the new one and sleeps on.
#[derive(Debug, Default)]
pub(crate) struct Deadline {
    at: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Deadline {
    /// Sets the deadline.
    pub(crate) fn set(&mut self, at: Instant) {
        self.at = Some(at);
        if let Some(timer) = &mut self.timer
            && at < timer.deadline()
        {
            timer.as_mut().reset(at);
        }
    }

    /// Clears the deadline: the next wait starts with its full timeout.
    pub(crate) fn clear(&mut self) {
        self.at = None;
    }

    /// Ready once the deadline has passed; where none is set, it is set to `timeout` from now. A wait that
    /// never happens therefore reads no clock.
    pub(crate) fn poll_within(&mut self, cx: &mut Context<'_>, timeout: Duration) -> Poll<()> {
        let at = match self.at {
            Some(at) => at,
            None => {
                let at = Instant::now() + timeout;
                self.set(at);
                at
            }
        };
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(at)));
        while timer.as_mut().poll(cx).is_ready() {
            if Instant::now() >= at {
                return Poll::Ready(());
            }
            timer.as_mut().reset(at);
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;

    const MINUTE: Duration = Duration::from_secs(60);

    async fn wait(deadline: &mut Deadline, timeout: Duration) {
        poll_fn(|cx| deadline.poll_within(cx, timeout)).await;
    }

    async fn poll_once(deadline: &mut Deadline, timeout: Duration) {
        let late = poll_fn(|cx| Poll::Ready(deadline.poll_within(cx, timeout).is_ready())).await;
        assert!(!late);
    }

    #[tokio::test]
    async fn a_deadline_moved_later_fires_later_and_one_moved_earlier_fires_earlier() {
        let start = Instant::now();
        let mut deadline = Deadline::default();
        deadline.set(start + Duration::from_millis(20));
        poll_once(&mut deadline, MINUTE).await;
        deadline.set(start + Duration::from_millis(60));
        wait(&mut deadline, MINUTE).await;
        assert!(start.elapsed() >= Duration::from_millis(60));

        let mut deadline = Deadline::default();
        deadline.set(start + MINUTE);
        poll_once(&mut deadline, MINUTE).await;
        deadline.set(start + Duration::from_millis(70));
        wait(&mut deadline, MINUTE).await;
        assert!(start.elapsed() < MINUTE);
    }

    #[tokio::test]
    async fn a_wait_without_a_deadline_lasts_for_its_timeout_and_every_wait_anew() {
        let mut deadline = Deadline::default();
        for _ in 0..3 {
            let start = Instant::now();
            poll_once(&mut deadline, Duration::from_millis(15)).await;
            wait(&mut deadline, MINUTE).await;
            assert!(start.elapsed() >= Duration::from_millis(15) && start.elapsed() < MINUTE);
            deadline.clear();
        }
    }
}
