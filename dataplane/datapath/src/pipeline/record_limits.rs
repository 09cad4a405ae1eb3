// SPDX-License-Identifier: Apache-2.0
//! Limits of the log records of one attachment: a log is for people, and a noisy rule leaves the
//! others theirs.

use super::token_bucket::TokenBucket;
use crate::limits::Rate;

/// Records of an attachment.
const RECORDS: Rate = Rate::new(20, 40);
/// Records of one rule at an attachment: half of those, so that no rule takes them all.
const RECORDS_OF_RULE: Rate = Rate::new(10, 20);
/// Rules whose records are told apart at an attachment; those whose slots differ by a multiple of it
/// share a bucket.
const RULES: usize = 16;

/// Token buckets of an attachment's log records.
#[derive(Debug)]
pub(crate) struct RecordLimits {
    all: TokenBucket,
    rules: [TokenBucket; RULES],
}

impl RecordLimits {
    /// Full buckets.
    pub(crate) fn new() -> RecordLimits {
        RecordLimits {
            all: TokenBucket::new(RECORDS),
            rules: std::array::from_fn(|_| TokenBucket::new(RECORDS_OF_RULE)),
        }
    }

    /// Whether a rule, by its slot, may have another record at the time `now_ns`.
    pub(crate) fn take(&self, slot: usize, now_ns: u64) -> bool {
        self.rules[slot % RULES].take(now_ns) && self.all.take(now_ns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_noisy_rule_leaves_the_others_theirs() {
        let limits = RecordLimits::new();
        let noisy = (0..10_000).filter(|_| limits.take(3, 0)).count();
        assert_eq!(noisy, 20);
        assert_eq!((0..100).filter(|_| limits.take(4, 0)).count(), 20);
        let second = 1_000_000_000;
        let (mut noisy, mut quiet) = (0, 0);
        for at in (0..second).step_by(1_000_000) {
            noisy += u32::from(limits.take(3, second + at));
            quiet += u32::from(at % 125_000_000 == 0 && limits.take(5, second + at));
        }
        assert!((10..=20).contains(&noisy), "{noisy}");
        assert_eq!(quiet, 8, "every one of its eight a second");
    }
}
