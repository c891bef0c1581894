//! Load balancing: power of two choices, weighted least requests.

use std::cell::Cell;

/// A server that may get the request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Candidate {
    /// Its requests in flight.
    pub(crate) requests: usize,
    /// Its weight, in thousandths of a full one.
    pub(crate) weight: u64,
}

impl Candidate {
    /// The queue length with one more request, relative to its weight.
    fn load(&self) -> u64 {
        (self.requests as u64 + 1) * 1000 * 1000 / self.weight.max(1)
    }
}

/// A random number generator for load balancing only.
#[derive(Debug)]
pub(crate) struct Rng(Cell<u64>);

impl Rng {
    pub(crate) fn new(seed: u64) -> Rng {
        Rng(Cell::new(seed | 1))
    }

    /// A number below `end`, which is not 0 (xorshift64, G. Marsaglia 2003).
    fn below(&self, end: usize) -> usize {
        let mut x = self.0.get();
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        self.0.set(x);
        (x >> 11) as usize % end
    }
}

/// The index of the chosen candidate; `None` where there are none.
pub(crate) fn choose(candidates: &[Candidate], chance: &Rng) -> Option<usize> {
    match candidates.len() {
        0 => None,
        1 => Some(0),
        n => {
            let first = chance.below(n);
            // Any of the others.
            let second = (first + 1 + chance.below(n - 1)) % n;
            let lighter = candidates[second].load() < candidates[first].load();
            Some(if lighter { second } else { first })
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// How many of `n` requests each server gets when none of them ends.
    fn spread(shares: &[u64], n: usize) -> Vec<usize> {
        let chance = Rng::new(7);
        let mut candidates: Vec<_> = shares.iter().map(|&weight| Candidate { requests: 0, weight }).collect();
        for _ in 0..n {
            let chosen = choose(&candidates, &chance).unwrap();
            candidates[chosen].requests += 1;
        }
        candidates.iter().map(|candidate| candidate.requests).collect()
    }

    #[test]
    fn equal_servers_get_about_the_same() {
        for counts in [spread(&[1000; 2], 2000), spread(&[1000; 5], 5000)] {
            assert!(counts.iter().all(|count| (950..1050).contains(count)), "{counts:?}");
        }
    }

    #[test]
    fn a_server_with_a_small_share_gets_less() {
        let counts = spread(&[1000, 1000, 100], 2100);
        assert!((50..150).contains(&counts[2]), "{counts:?}");
    }

    #[test]
    fn a_busy_server_is_avoided_as_long_as_another_has_less_to_do() {
        let busy = Candidate { requests: 10, weight: 1000 };
        let free = Candidate { requests: 0, weight: 1000 };
        let chance = Rng::new(3);
        for _ in 0..100 {
            assert_eq!(choose(&[busy, free], &chance), Some(1));
        }
        assert_eq!(choose(&[], &chance), None);
        assert_eq!(choose(&[busy], &chance), Some(0));
    }
}
