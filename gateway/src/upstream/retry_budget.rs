//! How many requests may be tried again, so that trouble is not multiplied.

use std::cell::Cell;

/// What one retry costs; a request pays in its percentage.
const RETRY_COST: u32 = 100;
/// So many retries are saved up at most, and so many are there at the start.
const MAX_TOKENS: u32 = 100 * RETRY_COST;
const INITIAL_TOKENS: u32 = 10 * RETRY_COST;

/// One worker's budget for one upstream.
#[derive(Debug)]
pub(crate) struct RetryBudget {
    saved: Cell<u32>,
}

impl RetryBudget {
    pub(crate) fn new() -> RetryBudget {
        RetryBudget { saved: Cell::new(INITIAL_TOKENS) }
    }

    /// A request was made; `percent` retries are earned with a hundred of them.
    pub(crate) fn earn(&self, percent: u32) {
        self.saved.set((self.saved.get() + percent).min(MAX_TOKENS));
    }

    /// Whether one more retry can be paid for; it is.
    pub(crate) fn spend(&self) -> bool {
        let left = self.saved.get().checked_sub(RETRY_COST);
        self.saved.set(left.unwrap_or(self.saved.get()));
        left.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_the_long_run_so_many_of_a_hundred_requests_are_tried_again() {
        let budget = RetryBudget::new();
        let retried = (0..10_000).filter(|_| {
            budget.earn(20);
            budget.spend()
        });
        assert_eq!(retried.count(), 2010, "a fifth, and what there was at the start");
    }

    #[test]
    fn calm_times_save_up_only_so_much() {
        let budget = RetryBudget::new();
        (0..1_000_000).for_each(|_| budget.earn(20));
        assert_eq!((0..1000).filter(|_| budget.spend()).count(), 100);
    }
}
