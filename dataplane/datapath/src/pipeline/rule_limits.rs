// SPDX-License-Identifier: Apache-2.0
//! Limits of rules: token buckets of one attachment, in frames and bytes a second, by the burst's time.
//!
//! Buckets are the attachment's own, so that no pod uses up another's. A bucket is given up only when it has been
//! idle for as long as it takes to fill: giving it up then changes nothing. A source that finds no bucket shares
//! one with all others of the rule that find none, so that a flood from made-up sources leaves those that have
//! one theirs.

use std::hash::{BuildHasher, RandomState};

use sluice_firewall::{Limit, LimitScope};

/// Buckets of rules, and of what shares one for want of another.
const RULES: usize = 64;
/// Sets of buckets of sources, a power of two, and buckets of a set (set-associative).
const SETS: usize = 32;
const WAYS: usize = 4;
/// Bytes that a bucket of bytes holds at least, so that the largest frame passes: one of a tap with segmentation
/// left to the receiver.
const LARGEST_FRAME: u64 = 65_550;
/// Credit of one frame or byte: a bucket of rate `r` earns `r` of it every nanosecond.
const TOKEN: i128 = 1_000_000_000;

/// Token buckets of the rules with limits, of one attachment.
#[derive(Debug)]
pub(crate) struct RuleLimits {
    /// Version of the policies whose slots the buckets are of.
    version: u64,
    hasher: RandomState,
    rules: Box<[Bucket; RULES]>,
    sources: Box<[[Bucket; WAYS]; SETS]>,
}

/// Token buckets of a rule, or of a source at a rule: one of frames, one of bytes.
#[derive(Debug, Clone, Copy, Default)]
struct Bucket {
    /// Number of the rule, or hash of rule and source; 0 for a free one.
    owner: u64,
    /// Time from which on it is full if nothing is taken.
    full_at_ns: u64,
    filled_at_ns: u64,
    frames: i128,
    bytes: i128,
}

impl RuleLimits {
    /// Free buckets.
    #[allow(
        clippy::disallowed_methods,
        reason = "control makes an attachment, before any frame"
    )]
    pub(crate) fn new() -> RuleLimits {
        RuleLimits {
            version: 0,
            hasher: RandomState::new(),
            rules: Box::new([Bucket::default(); RULES]),
            sources: Box::new([[Bucket::default(); WAYS]; SETS]),
        }
    }

    /// Whether a frame of `bytes` from `source` passes by the rule of `slot`, whose limit this is, at the time
    /// `now_ns`; if so, its tokens are taken. With another `version` of the policies all buckets are full again.
    pub(crate) fn take(
        &mut self,
        version: u64,
        slot: usize,
        limit: &Limit,
        source: &[u8; 16],
        bytes: usize,
        now_ns: u64,
    ) -> bool {
        if self.version != version {
            self.version = version;
            *self.rules = [Bucket::default(); RULES];
            *self.sources = [[Bucket::default(); WAYS]; SETS];
        }
        if limit.per == LimitScope::Source {
            let hash = self.hasher.hash_one((slot, source));
            let set = usize::try_from(hash % SETS as u64).unwrap_or(0);
            let ways = &mut self.sources[set];
            if let Some(bucket) = find(ways, hash | 1, limit, now_ns) {
                return bucket.take(limit, bytes, now_ns);
            }
        }
        match find(&mut *self.rules, slot as u64 + 1, limit, now_ns) {
            Some(bucket) => bucket.take(limit, bytes, now_ns),
            None => false,
        }
    }
}

/// Returns the bucket of `owner`, which is made of one that is free or full if there is none yet; `None` if all are
/// in use.
fn find<'b>(
    buckets: &'b mut [Bucket],
    owner: u64,
    limit: &Limit,
    now_ns: u64,
) -> Option<&'b mut Bucket> {
    let mut at = None;
    for (index, bucket) in buckets.iter().enumerate() {
        if bucket.owner == owner {
            at = Some(index);
            break;
        }
        if at.is_none() && bucket.full_at_ns <= now_ns {
            at = Some(index);
        }
    }
    let bucket = buckets.get_mut(at?)?;
    if bucket.owner != owner {
        let (frames, bytes) = depths(limit);
        *bucket = Bucket {
            owner,
            full_at_ns: now_ns,
            filled_at_ns: now_ns,
            frames,
            bytes,
        };
    }
    Some(bucket)
}

/// Most credit of the two buckets.
fn depths(limit: &Limit) -> (i128, i128) {
    let depth = |rate: Option<u64>, least: u64| {
        let burst = i128::from(rate.unwrap_or(0)) * i128::from(limit.burst_ms) * 1_000_000;
        burst.max(i128::from(least) * TOKEN)
    };
    (depth(limit.frames, 1), depth(limit.bytes, LARGEST_FRAME))
}

impl Bucket {
    fn take(&mut self, limit: &Limit, bytes: usize, now_ns: u64) -> bool {
        let (most_frames, most_bytes) = depths(limit);
        let elapsed = i128::from(now_ns.saturating_sub(self.filled_at_ns));
        let earned = |rate: Option<u64>| i128::from(rate.unwrap_or(0)) * elapsed;
        self.frames = (self.frames + earned(limit.frames)).min(most_frames);
        self.bytes = (self.bytes + earned(limit.bytes)).min(most_bytes);
        self.filled_at_ns = self.filled_at_ns.max(now_ns);
        let cost = i128::try_from(bytes).unwrap_or(i128::MAX / TOKEN) * TOKEN;
        let passes = (limit.frames.is_none() || self.frames >= TOKEN)
            && (limit.bytes.is_none() || self.bytes >= cost);
        if passes {
            self.frames -= limit.frames.map_or(0, |_| TOKEN);
            self.bytes -= limit.bytes.map_or(0, |_| cost);
        }
        let until = |rate: Option<u64>, lacking: i128| {
            rate.map_or(0, |rate| lacking / i128::from(rate.max(1)) + 1)
        };
        let wait = until(limit.frames, most_frames - self.frames)
            .max(until(limit.bytes, most_bytes - self.bytes));
        self.full_at_ns = now_ns.saturating_add(u64::try_from(wait).unwrap_or(u64::MAX));
        passes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;
    const A: [u8; 16] = [1; 16];

    fn limit(frames: Option<u64>, bytes: Option<u64>, per: LimitScope) -> Limit {
        Limit {
            frames,
            bytes,
            burst_ms: 100,
            per,
        }
    }

    #[test]
    fn gives_its_burst_and_then_its_rate() {
        let mut limits = RuleLimits::new();
        let limit = limit(Some(1000), None, LimitScope::Attachment);
        let mut passed = |now| {
            (0..5000)
                .filter(|_| limits.take(1, 7, &limit, &A, 60, now))
                .count()
        };
        assert_eq!(passed(SECOND), 100, "a tenth of a second of its rate");
        assert_eq!(passed(SECOND), 0);
        assert_eq!(passed(SECOND + SECOND / 100), 10);
        assert_eq!(passed(9 * SECOND), 100, "never more than its burst");
        assert_eq!(
            passed(2 * SECOND),
            0,
            "a clock that runs backwards adds nothing"
        );
    }

    #[test]
    fn counts_bytes_and_lets_the_largest_frame_pass() {
        let mut limits = RuleLimits::new();
        let limit = limit(None, Some(1_000_000), LimitScope::Attachment);
        let mut passed = |bytes, now| {
            (0..500)
                .filter(|_| limits.take(1, 7, &limit, &A, bytes, now))
                .count()
        };
        assert_eq!(passed(1000, SECOND), 100);
        assert_eq!(passed(1000, SECOND + SECOND / 1000), 1);
        assert_eq!(passed(65_549, 5 * SECOND), 1);
    }

    #[test]
    fn rules_have_buckets_of_their_own_and_so_have_sources() {
        let mut limits = RuleLimits::new();
        let shared = limit(Some(10), None, LimitScope::Attachment);
        assert!(limits.take(1, 7, &shared, &A, 60, SECOND));
        assert!(!limits.take(1, 7, &shared, &[2; 16], 60, SECOND));
        assert!(limits.take(1, 8, &shared, &A, 60, SECOND));
        let own = limit(Some(10), None, LimitScope::Source);
        assert!(limits.take(1, 9, &own, &A, 60, SECOND));
        assert!(limits.take(1, 9, &own, &[2; 16], 60, SECOND));
        assert!(!limits.take(1, 9, &own, &A, 60, SECOND));
        assert!(
            limits.take(2, 7, &shared, &A, 60, SECOND),
            "other policies, full buckets"
        );
    }

    #[test]
    fn a_flood_of_sources_leaves_those_that_have_a_bucket_theirs() {
        let mut limits = RuleLimits::new();
        let own = limit(Some(10), None, LimitScope::Source);
        assert!(limits.take(1, 9, &own, &A, 60, SECOND));
        let made_up = (0..100_000u32).filter(|n| {
            let mut source = [9; 16];
            source[..4].copy_from_slice(&n.to_be_bytes());
            limits.take(1, 9, &own, &source, 60, SECOND + 1)
        });
        assert!(made_up.count() <= SETS * WAYS + 1);
        assert!(
            !limits.take(1, 9, &own, &A, 60, SECOND + 2),
            "its bucket is still there"
        );
        assert!(limits.take(1, 9, &own, &A, 60, SECOND + SECOND / 10));
    }
}
