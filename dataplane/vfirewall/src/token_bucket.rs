// SPDX-License-Identifier: Apache-2.0
//! Token bucket.

use std::time::{Duration, Instant};

/// Token bucket: `burst` at once, `rate` a second in the long run.
#[derive(Debug, Clone)]
pub struct TokenBucket {
    burst: u32,
    /// Time in which one token comes.
    interval: Duration,
    tokens: u32,
    filled: Option<Instant>,
}

impl TokenBucket {
    /// Makes a full bucket. A rate of 0 gives one token a day.
    #[must_use]
    pub fn new(rate: u32, burst: u32) -> TokenBucket {
        let interval = match rate {
            0 => Duration::from_secs(86_400),
            rate => Duration::from_secs(1) / rate,
        };
        TokenBucket {
            burst,
            interval: interval.max(Duration::from_nanos(1)),
            tokens: burst,
            filled: None,
        }
    }

    /// Takes a token, if there is one.
    pub fn take(&mut self, now: Instant) -> bool {
        if let Some(left) = self.tokens.checked_sub(1) {
            self.tokens = left;
            if self.filled.is_none() {
                self.filled = Some(now);
            }
            return true;
        }
        self.fill(now);
        let Some(left) = self.tokens.checked_sub(1) else {
            return false;
        };
        self.tokens = left;
        true
    }

    fn fill(&mut self, now: Instant) {
        let filled = self.filled.unwrap_or(now);
        let gone = now.saturating_duration_since(filled).as_nanos();
        let interval = self.interval.as_nanos().max(1);
        let earned = u32::try_from(gone / interval).unwrap_or(u32::MAX);
        self.tokens = self.tokens.saturating_add(earned).min(self.burst);
        self.filled = Some(if self.tokens == self.burst {
            now
        } else {
            filled + self.interval * earned
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_as_the_burst_then_as_the_rate() {
        let start = Instant::now();
        let mut bucket = TokenBucket::new(100, 10);
        let taken =
            |bucket: &mut TokenBucket, at: Instant| (0..1000).filter(|_| bucket.take(at)).count();
        assert_eq!(taken(&mut bucket, start), 10);
        assert_eq!(taken(&mut bucket, start + Duration::from_millis(55)), 5);
        assert_eq!(taken(&mut bucket, start + Duration::from_millis(60)), 1);
        assert_eq!(taken(&mut bucket, start + Duration::from_secs(60)), 10);
        assert_eq!(taken(&mut bucket, start), 0, "a clock that went back");
    }
}
