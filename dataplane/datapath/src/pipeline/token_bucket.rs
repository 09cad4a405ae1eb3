// SPDX-License-Identifier: Apache-2.0
//! Token buckets, for what an attacker must not be able to multiply: floods and rejects.

use std::sync::atomic::{AtomicU64, Ordering};

/// Token bucket: a rate with a burst. One worker takes from it; it is made of atomics
/// only so that tables, which are shared, can hold it.
#[derive(Debug)]
pub(crate) struct TokenBucket {
    per_second: u64,
    burst: u64,
    /// Thousandths of a token.
    millitokens: AtomicU64,
    filled_at_ms: AtomicU64,
}

impl TokenBucket {
    /// A full bucket.
    pub(crate) fn new(per_second: u64, burst: u64) -> TokenBucket {
        TokenBucket {
            per_second,
            burst,
            millitokens: AtomicU64::new(burst * 1000),
            filled_at_ms: AtomicU64::new(0),
        }
    }

    /// Takes one token at the time `now_ms`, if there is one. Time that goes backwards adds none.
    pub(crate) fn take(&self, now_ms: u64) -> bool {
        let mut tokens = self.millitokens.load(Ordering::Relaxed);
        let elapsed = now_ms.saturating_sub(self.filled_at_ms.load(Ordering::Relaxed));
        if elapsed > 0 {
            let filled = tokens.saturating_add(elapsed.saturating_mul(self.per_second));
            tokens = filled.min(self.burst * 1000);
            self.filled_at_ms.store(now_ms, Ordering::Relaxed);
        }
        let taken = tokens >= 1000;
        self.millitokens.store(
            if taken { tokens - 1000 } else { tokens },
            Ordering::Relaxed,
        );
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gives_its_burst_and_then_its_rate() {
        let bucket = TokenBucket::new(100, 10);
        assert_eq!((0..50).filter(|_| bucket.take(1)).count(), 10);
        assert!(
            !bucket.take(10),
            "9 ms at 100 a second is less than one token"
        );
        assert!(bucket.take(11), "10 ms is one");
        assert!(!bucket.take(11));
        assert_eq!(
            (0..50).filter(|_| bucket.take(1_000_000)).count(),
            10,
            "never over its burst"
        );
    }

    #[test]
    fn a_clock_that_runs_backwards_adds_nothing() {
        let bucket = TokenBucket::new(1000, 1);
        assert!(bucket.take(5000));
        assert!(!bucket.take(10));
        assert!(!bucket.take(5000));
        assert!(bucket.take(5001));
    }
}
