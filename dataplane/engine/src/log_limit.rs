// SPDX-License-Identifier: Apache-2.0
//! Limit of the log lines that a pod or a peer can cause: a token bucket that counts what it leaves out,
//! so that a line can say how many there were.

use std::time::{Duration, Instant};

/// Time from the first line that is left out to the line that says how many were.
const SUMMARY: Duration = Duration::from_secs(10);

/// Limit of the lines about one attachment, or one kind of peer.
#[derive(Debug)]
pub struct LogLimit {
    /// Lines at once.
    depth: u32,
    /// Time in which one more is allowed.
    interval: Duration,
    tokens: u32,
    /// Moment up to which tokens were added; `None` before the first line.
    filled: Option<Instant>,
    /// Lines left out since the last summary, and the moment of the first of them.
    left_out: Option<(u64, Instant)>,
    total: u64,
}

impl Default for LogLimit {
    /// Limit of lines about connections: 20 at once, one more each 5 seconds.
    fn default() -> LogLimit {
        LogLimit::new(20, Duration::from_secs(5))
    }
}

impl LogLimit {
    /// Limit of `depth` lines at once, and one more each `interval`.
    pub fn new(depth: u32, interval: Duration) -> LogLimit {
        LogLimit {
            depth,
            interval,
            tokens: depth,
            filled: None,
            left_out: None,
            total: 0,
        }
    }

    /// Takes a token: whether a line may be written now. One that may not is counted.
    pub fn take(&mut self, now: Instant) -> bool {
        self.fill(now);
        if let Some(left) = self.tokens.checked_sub(1) {
            self.tokens = left;
            return true;
        }
        let (count, since) = self.left_out.unwrap_or((0, now));
        self.left_out = Some((count + 1, since));
        self.total += 1;
        false
    }

    /// Returns how many lines were left out, when it is time to say so; they are not returned again.
    pub fn summary(&mut self, now: Instant) -> Option<u64> {
        let (count, since) = self.left_out?;
        if now.saturating_duration_since(since) < SUMMARY {
            return None;
        }
        self.left_out = None;
        Some(count)
    }

    /// Number of lines left out so far.
    pub fn total(&self) -> u64 {
        self.total
    }

    fn fill(&mut self, now: Instant) {
        let filled = self.filled.unwrap_or(now);
        let gone = now.saturating_duration_since(filled).as_millis();
        let earned = gone / self.interval.as_millis().max(1);
        let earned = u32::try_from(earned).unwrap_or(u32::MAX);
        self.tokens = self.tokens.saturating_add(earned).min(self.depth);
        self.filled = Some(if self.tokens == self.depth {
            now
        } else {
            // The part of an interval that is over counts for the next token.
            filled + self.interval * earned
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_lines_is_thinned_and_counted() {
        let start = Instant::now();
        let mut limit = LogLimit::default();
        let written = (0..10_000).filter(|_| limit.take(start)).count();
        assert_eq!(written, 20);
        assert_eq!(limit.summary(start), None, "not at once");
        let later = start + SUMMARY;
        assert_eq!(limit.summary(later), Some(9_980));
        assert_eq!(limit.summary(later), None, "said once");
        assert_eq!((0..100).filter(|_| limit.take(later)).count(), 2);
        assert_eq!(limit.total(), 9_980 + 98);
        let much_later = start + Duration::from_secs(3600);
        assert_eq!((0..100).filter(|_| limit.take(much_later)).count(), 20);
        assert_eq!(limit.summary(much_later), Some(98 + 80));
    }
}
