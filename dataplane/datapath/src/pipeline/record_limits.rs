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
    /// Frames that rules with a log sample decided on.
    seen: [u32; RULES],
    /// Records in the ring to control since control last emptied it, with the number of times that it
    /// had done so then.
    waiting: (u64, usize),
}

impl RecordLimits {
    /// Full buckets.
    pub(crate) fn new() -> RecordLimits {
        RecordLimits {
            all: TokenBucket::new(RECORDS),
            rules: std::array::from_fn(|_| TokenBucket::new(RECORDS_OF_RULE)),
            seen: [0; RULES],
            waiting: (0, 0),
        }
    }

    /// Whether a frame that a rule decides on, by its slot, is one of those that are logged: the first of each
    /// `sample`, at least 1.
    pub(crate) fn is_sampled(&mut self, slot: usize, sample: u32) -> bool {
        let seen = &mut self.seen[slot % RULES];
        let is_first = *seen == 0;
        *seen = if *seen + 1 >= sample { 0 } else { *seen + 1 };
        is_first
    }

    /// Whether a rule, by its slot, may have another record at the time `now_ns`.
    ///
    /// Of the ring to control, which it has emptied `emptied` times, `share` places are the
    /// attachment's: whatever the others log, there is room for its own.
    pub(crate) fn take(&mut self, slot: usize, now_ns: u64, emptied: u64, share: usize) -> bool {
        if self.waiting.0 != emptied {
            self.waiting = (emptied, 0);
        }
        let taken = self.waiting.1 < share
            && self.rules[slot % RULES].take(now_ns)
            && self.all.take(now_ns);
        self.waiting.1 += usize::from(taken);
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_noisy_rule_leaves_the_others_theirs() {
        let mut limits = RecordLimits::new();
        let noisy = (0..10_000).filter(|_| limits.take(3, 0, 0, 768)).count();
        assert_eq!(noisy, 20);
        assert_eq!((0..100).filter(|_| limits.take(4, 0, 0, 768)).count(), 20);
        let second = 1_000_000_000;
        let (mut noisy, mut quiet) = (0, 0);
        for at in (0..second).step_by(1_000_000) {
            noisy += u32::from(limits.take(3, second + at, 0, 768));
            quiet += u32::from(at % 125_000_000 == 0 && limits.take(5, second + at, 0, 768));
        }
        assert!((10..=20).contains(&noisy), "{noisy}");
        assert_eq!(quiet, 8, "every one of its eight a second");
    }

    #[test]
    fn the_first_of_each_sample_is_logged() {
        let mut limits = RecordLimits::new();
        let logged: Vec<u32> = (0..10).filter(|_| limits.is_sampled(3, 4)).collect();
        assert_eq!(logged, [0, 4, 8]);
        assert!(limits.is_sampled(4, 1_000_000), "each rule has its own");
        assert!((0..10).all(|_| limits.is_sampled(5, 1)));
    }

    #[test]
    fn an_attachment_has_its_share_of_the_ring_until_control_empties_it() {
        let mut limits = RecordLimits::new();
        let posted = (0..100).filter(|n| limits.take(n % 2, 0, 1, 15)).count();
        assert_eq!(posted, 15);
        assert!(limits.take(0, 0, 2, 15), "control has emptied the ring");
    }
}
