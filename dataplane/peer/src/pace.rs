// SPDX-License-Identifier: Apache-2.0
//! Pace of an endpoint: what a peer can make its thread do in a second.
//!
//! Peers are pods. One that breaks the protocol, is told so and comes again at once would keep the
//! thread busy, and with it a core that others need. [`Pace`] doubles a pause after each failure
//! (truncated binary exponential backoff) and forgets the failures after a good connection.
//! [`Allowance`] bounds the connections that break nothing: a token bucket.

use std::time::{Duration, Instant};

/// Age from which an ended connection was a good one: it ends a row of failures.
const GOOD: Duration = Duration::from_secs(1);
/// Time without a failure after which earlier ones are forgotten.
const FORGOTTEN: Duration = Duration::from_secs(10);

/// Pauses after failures.
#[derive(Debug)]
pub struct Pace {
    /// Pause after the first failure that is not free.
    first: Duration,
    /// Longest pause.
    last: Duration,
    /// Failures in a row that cost no pause.
    free: u32,
    failures: u32,
    failed: Option<Instant>,
    until: Option<Instant>,
}

impl Pace {
    /// Pauses of an endpoint that listens. A client that is started twice, or again with another
    /// secret, waits for nothing.
    pub fn of_server() -> Pace {
        Pace::new(Duration::from_millis(20), Duration::from_millis(500), 3)
    }

    /// Pauses of an endpoint that connects: its peer may not be there yet.
    pub fn of_client() -> Pace {
        Pace::new(Duration::from_millis(100), Duration::from_secs(1), 0)
    }

    fn new(first: Duration, last: Duration, free: u32) -> Pace {
        Pace {
            first,
            last,
            free,
            failures: 0,
            failed: None,
            until: None,
        }
    }

    /// Notes a failure. Returns the pause that it costs, if it costs one.
    pub fn failed(&mut self, now: Instant) -> Option<Duration> {
        let recent = self
            .failed
            .is_some_and(|failed| now.duration_since(failed) < FORGOTTEN);
        self.failures = if recent { self.failures + 1 } else { 1 };
        self.failed = Some(now);
        let doublings = self.failures.checked_sub(self.free + 1)?;
        let factor = 1_u32.checked_shl(doublings).unwrap_or(u32::MAX);
        let pause = self.first.saturating_mul(factor).min(self.last);
        self.until = Some(now + pause);
        Some(pause)
    }

    /// Notes how long a connection lasted that ends now.
    pub fn lasted(&mut self, time: Duration) {
        if time >= GOOD {
            self.failures = 0;
            self.failed = None;
        }
    }

    /// End of the pause, if there is one at `now`.
    pub fn until(&self, now: Instant) -> Option<Instant> {
        self.until.filter(|until| *until > now)
    }
}

/// Things that a peer may ask for: a token bucket.
#[derive(Debug)]
pub struct Allowance {
    /// Tokens that may be taken at once.
    depth: u32,
    /// Time in which one more comes.
    interval: Duration,
    tokens: u32,
    filled: Instant,
}

impl Allowance {
    /// Connections that may be accepted: 64 at once, then one each 10 ms.
    pub fn of_connections(now: Instant) -> Allowance {
        Allowance::new(64, Duration::from_millis(10), now)
    }

    /// Full bucket of `depth` tokens, to which one is added each `interval`.
    pub fn new(depth: u32, interval: Duration, now: Instant) -> Allowance {
        Allowance {
            depth,
            interval: interval.max(Duration::from_millis(1)),
            tokens: depth,
            filled: now,
        }
    }

    /// Takes a token, if there is one.
    pub fn take(&mut self, now: Instant) -> bool {
        self.fill(now);
        match self.tokens.checked_sub(1) {
            Some(left) => {
                self.tokens = left;
                true
            }
            None => false,
        }
    }

    /// Moment of the next token, if there is none at `now`.
    pub fn until(&mut self, now: Instant) -> Option<Instant> {
        self.fill(now);
        (self.tokens == 0).then_some(self.filled + self.interval)
    }

    fn fill(&mut self, now: Instant) {
        let gone = now.saturating_duration_since(self.filled).as_millis();
        let earned = gone / self.interval.as_millis();
        let earned = u32::try_from(earned).unwrap_or(u32::MAX);
        self.tokens = self.tokens.saturating_add(earned);
        if self.tokens >= self.depth {
            self.tokens = self.depth;
            self.filled = now;
        } else {
            // The part of an interval that is over counts for the next token.
            self.filled += self.interval * earned;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_limit() {
        let mut pace = Pace::of_server();
        let now = Instant::now();
        let pauses: Vec<u128> = (0..100)
            .map(|_| pace.failed(now).map_or(0, |pause| pause.as_millis()))
            .collect();
        assert_eq!(pauses[..9], [0, 0, 0, 20, 40, 80, 160, 320, 500]);
        assert!(pauses[9..].iter().all(|pause| *pause == 500));
        assert_eq!(pace.until(now), Some(now + Duration::from_millis(500)));
        assert_eq!(pace.until(now + Duration::from_millis(500)), None);
    }

    #[test]
    fn a_good_connection_and_time_make_up_for_failures() {
        let mut pace = Pace::of_server();
        let now = Instant::now();
        let fail = |pace: &mut Pace, now, times: u32| (0..times).find_map(|_| pace.failed(now));
        assert!(fail(&mut pace, now, 4).is_some());
        pace.lasted(Duration::from_millis(999));
        assert!(fail(&mut pace, now, 1).is_some(), "too short to count");
        pace.lasted(Duration::from_secs(1));
        assert!(fail(&mut pace, now, 3).is_none());
        assert!(fail(&mut pace, now, 1).is_some());
        let later = now + Duration::from_secs(10);
        assert!(fail(&mut pace, later, 3).is_none(), "long ago");
    }

    #[test]
    fn a_client_waits_from_its_first_failure_on() {
        let mut pace = Pace::of_client();
        let now = Instant::now();
        let pauses = [(); 6].map(|()| pace.failed(now).map(|pause| pause.as_millis()));
        assert_eq!(pauses, [100, 200, 400, 800, 1000, 1000].map(Some));
    }

    #[test]
    fn connections_are_allowed_at_a_rate() {
        let now = Instant::now();
        let mut allowance = Allowance::of_connections(now);
        assert_eq!(allowance.until(now), None);
        assert_eq!((0..1000).filter(|_| allowance.take(now)).count(), 64);
        let next = allowance.until(now);
        assert_eq!(next, Some(now + Duration::from_millis(10)));
        let mut taken = 0;
        for millis in 0..=1000 {
            let now = now + Duration::from_millis(millis);
            taken += usize::from(allowance.take(now));
        }
        assert_eq!(taken, 100);
        let later = now + Duration::from_secs(3600);
        assert_eq!((0..1000).filter(|_| allowance.take(later)).count(), 64);
    }
}
