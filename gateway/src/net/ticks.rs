//! Regular ticks for one task, cheap to poll between two of them.

use std::pin::Pin;
use std::task::{Context, Waker};
use std::time::Duration;

use tokio::task::coop::has_budget_remaining;
use tokio::time::{Instant, Sleep, sleep};

/// An interval that begins with the first poll. A late tick delays those after it.
#[derive(Debug)]
pub(crate) struct Ticks {
    interval: Duration,
    timer: Option<Pin<Box<Sleep>>>,
    /// Whom the timer wakes: until it does, the timer need not be polled again.
    waker: Option<Waker>,
}

impl Ticks {
    pub(crate) fn every(interval: Duration) -> Ticks {
        Ticks { interval, timer: None, waker: None }
    }

    /// Whether there was a tick since the last poll; the task is woken for the next one.
    pub(crate) fn poll_tick(&mut self, cx: &mut Context<'_>) -> bool {
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(self.interval)));
        let is_registered = self.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker()));
        if is_registered && !timer.is_elapsed() {
            return false;
        }
        let mut ticked = false;
        while timer.as_mut().poll(cx).is_ready() {
            ticked = true;
            timer.as_mut().reset(Instant::now() + self.interval);
        }
        // A task that has used up its budget polls timers in vain, and is polled once more at once.
        match has_budget_remaining() {
            true if is_registered => {}
            true => self.waker = Some(cx.waker().clone()),
            false => self.waker = None,
        }
        ticked
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::task::Poll;

    use super::*;

    const INTERVAL: Duration = Duration::from_millis(20);

    async fn poll_once(ticks: &mut Ticks) -> bool {
        poll_fn(|cx| Poll::Ready(ticks.poll_tick(cx))).await
    }

    async fn next(ticks: &mut Ticks) {
        poll_fn(|cx| if ticks.poll_tick(cx) { Poll::Ready(()) } else { Poll::Pending }).await;
    }

    #[tokio::test]
    async fn every_interval_has_one_tick_and_a_late_poll_gets_one_for_all() {
        let (start, mut ticks) = (Instant::now(), Ticks::every(INTERVAL));
        for n in 1..4 {
            next(&mut ticks).await;
            assert!(start.elapsed() >= INTERVAL * n);
        }
        assert!(!poll_once(&mut ticks).await);
        tokio::time::sleep(INTERVAL * 3).await;
        assert!(poll_once(&mut ticks).await);
        assert!(!poll_once(&mut ticks).await);
    }

    #[tokio::test]
    async fn whoever_polled_last_is_woken() {
        let mut ticks = Ticks::every(INTERVAL);
        assert!(!poll_once(&mut ticks).await);
        let mut ticks = tokio::spawn(async move {
            next(&mut ticks).await;
            ticks
        })
        .await
        .unwrap_or_else(|error| panic!("{error}"));
        next(&mut ticks).await;
    }

    #[tokio::test]
    async fn a_task_without_budget_is_woken_all_the_same() {
        let mut ticks = Ticks::every(INTERVAL);
        let mut spent = false;
        poll_fn(|cx| {
            while !spent && has_budget_remaining() {
                // Each acquisition takes from the budget.
                let acquire = std::pin::pin!(tokio::task::coop::consume_budget());
                let _ = acquire.poll(cx);
            }
            spent = true;
            if ticks.poll_tick(cx) { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
}
