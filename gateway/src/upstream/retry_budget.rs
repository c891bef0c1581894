//! Retry budget: limits retries to a percentage of requests, so that an outage is not amplified.

use std::cell::Cell;

/// The cost of a retry, in tokens; a request earns the configured percentage.
const RETRY_COST: u32 = 100;
/// Maximum and initial balance, in tokens.
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

    /// Counts a request, which earns `percent` hundredths of a retry.
    pub(crate) fn earn(&self, percent: u32) {
        self.saved.set((self.saved.get() + percent).min(MAX_TOKENS));
    }

    /// Spends a retry; false if the budget is used up.
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
