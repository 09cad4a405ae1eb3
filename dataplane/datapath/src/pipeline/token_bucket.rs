// SPDX-License-Identifier: Apache-2.0
//! Token buckets, for what an attacker must not be able to multiply: floods, rejects, log records.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use crate::limits::Rate;

/// Credit of one token: a bucket of rate `r` earns `r` of it every nanosecond.
const TOKEN: i64 = 1_000_000_000;

/// Token bucket: a rate with a burst. One worker takes from it; it is made of atomics only so that
/// tables, which are shared, can hold it.
///
/// Fractions of a token are kept to the last nanosecond: what a bucket gives in a second does not
/// depend on how often it is asked.
#[derive(Debug)]
pub(crate) struct TokenBucket {
    per_second: u64,
    most_credit: i64,
    /// Below zero: a debt.
    credit: AtomicI64,
    filled_at_ns: AtomicU64,
}

impl TokenBucket {
    /// A full bucket.
    pub(crate) fn new(rate: Rate) -> TokenBucket {
        let most_credit = i64::from(rate.burst) * TOKEN;
        TokenBucket {
            per_second: rate.per_second.into(),
            most_credit,
            credit: AtomicI64::new(most_credit),
            filled_at_ns: AtomicU64::new(0),
        }
    }

    /// Takes one token at the time `now_ns`, if there is one. Time that goes backwards adds none.
    pub(crate) fn take(&self, now_ns: u64) -> bool {
        let has_one = self.has_one(now_ns);
        if has_one {
            self.charge(1);
        }
        has_one
    }

    /// Whether there is a token at the time `now_ns`.
    pub(crate) fn has_one(&self, now_ns: u64) -> bool {
        let mut credit = self.credit.load(Ordering::Relaxed);
        let elapsed = now_ns.saturating_sub(self.filled_at_ns.load(Ordering::Relaxed));
        if elapsed > 0 {
            let earned = elapsed.saturating_mul(self.per_second);
            let earned = i64::try_from(earned).unwrap_or(i64::MAX);
            credit = credit.saturating_add(earned).min(self.most_credit);
            self.filled_at_ns.store(now_ns, Ordering::Relaxed);
            self.credit.store(credit, Ordering::Relaxed);
        }
        credit >= TOKEN
    }

    /// Takes `tokens`, whether or not there are as many: what is owed is earned before anything else.
    pub(crate) fn charge(&self, tokens: u64) {
        let cost = i64::try_from(tokens)
            .unwrap_or(i64::MAX)
            .saturating_mul(TOKEN);
        let credit = self.credit.load(Ordering::Relaxed).saturating_sub(cost);
        self.credit.store(credit, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLI: u64 = 1_000_000;

    #[test]
    fn gives_its_burst_and_then_its_rate() {
        let bucket = TokenBucket::new(Rate::new(100, 10));
        assert_eq!((0..50).filter(|_| bucket.take(MILLI)).count(), 10);
        assert!(!bucket.take(11 * MILLI - 1), "less than one token");
        assert!(bucket.take(11 * MILLI), "10 ms at 100 a second is one");
        assert!(!bucket.take(11 * MILLI));
        let later = 1_000_000 * MILLI;
        let taken = (0..50).filter(|_| bucket.take(later)).count();
        assert_eq!(taken, 10, "never over its burst");
    }

    #[test]
    fn what_is_owed_is_earned_before_anything_else() {
        let bucket = TokenBucket::new(Rate::new(1000, 10));
        assert!(bucket.has_one(0));
        bucket.charge(30);
        assert!(!bucket.has_one(20 * MILLI), "20 are owed");
        assert!(bucket.has_one(21 * MILLI));
        bucket.charge(u64::MAX);
        assert!(!bucket.has_one(1_000_000 * MILLI));
    }

    #[test]
    fn a_clock_that_runs_backwards_adds_nothing() {
        let bucket = TokenBucket::new(Rate::new(1000, 1));
        assert!(bucket.take(5000 * MILLI));
        assert!(!bucket.take(10 * MILLI));
        assert!(!bucket.take(5000 * MILLI));
        assert!(bucket.take(5001 * MILLI));
    }

    #[test]
    fn a_second_gives_the_same_however_often_it_is_asked() {
        // Twice the rate is offered, evenly; the loss is a half for steps of any length.
        for step_ns in [50_000, 333_333, MILLI, 4 * MILLI, 9_999_999] {
            let bucket = TokenBucket::new(Rate::new(20_000, 4_096));
            while bucket.take(0) {}
            let (mut now, mut offered, mut taken) = (0, 0, 0);
            while now < 1000 * MILLI {
                now = (now + step_ns).min(1000 * MILLI);
                while offered < now / 25_000 {
                    offered += 1;
                    taken += u64::from(bucket.take(now));
                }
            }
            assert_eq!((offered, taken), (40_000, 20_000), "steps of {step_ns} ns");
        }
    }
}
