// SPDX-License-Identifier: Apache-2.0
//! Damping of health: down counts at once or after a while, up only when it has lasted. What flaps has to be well for
//! longer each time, as the damping of BGP routes has it (RFC 2439), with a plain doubling in place of a decay.

use std::time::Duration;

/// Time for which a device must be well before it counts as well again.
const FIRST_SETTLE: Duration = Duration::from_secs(1);
/// Longest such time.
const LONGEST_SETTLE: Duration = Duration::from_secs(32);
/// Time without a change after which earlier flaps are forgotten.
const FORGIVEN: Duration = Duration::from_secs(120);

/// Damped health of one thing.
#[derive(Debug, Clone)]
pub(super) struct Damper {
    /// Reason why it counts as ill; `None` while it counts as well.
    shown: Option<String>,
    /// Time for which it must be ill before it counts as ill.
    patience: Duration,
    settle: Duration,
    /// Moment from which what was seen differs from what is shown.
    differs_since: Option<Duration>,
    /// Moment of the last change of what is shown.
    changed: Duration,
}

impl Damper {
    /// Creates the damper of a thing that is `seen` so at its first sight, which counts at once.
    pub(super) fn new(seen: Option<String>, patience: Duration, now: Duration) -> Damper {
        Damper {
            shown: seen,
            patience,
            settle: FIRST_SETTLE,
            differs_since: None,
            changed: now,
        }
    }

    /// Takes what is seen at `now`, a time since any fixed moment, and returns what is shown: why it is ill.
    pub(super) fn see(&mut self, seen: Option<String>, now: Duration) -> Option<&str> {
        if seen.is_some() == self.shown.is_some() {
            self.differs_since = None;
            self.shown = seen;
            return self.shown.as_deref();
        }
        let since = *self.differs_since.get_or_insert(now);
        let needed = match seen {
            Some(_) => self.patience,
            None => self.settle,
        };
        if now.saturating_sub(since) < needed {
            return self.shown.as_deref();
        }
        if seen.is_some() {
            let quiet = now.saturating_sub(self.changed) >= FORGIVEN;
            self.settle = if quiet {
                FIRST_SETTLE
            } else {
                (self.settle * 2).min(LONGEST_SETTLE)
            };
        }
        self.shown = seen;
        self.changed = now;
        self.differs_since = None;
        self.shown.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn ill() -> Option<String> {
        Some("no link".to_owned())
    }

    #[test]
    fn down_counts_at_once_and_up_when_it_has_lasted() {
        let mut link = Damper::new(None, Duration::ZERO, at(0));
        assert_eq!(link.see(ill(), at(200)), Some("no link"));
        assert_eq!(link.see(None, at(201)), Some("no link"));
        assert_eq!(link.see(None, at(202)), None);
    }

    #[test]
    fn what_flaps_has_to_be_well_for_longer() {
        let mut link = Damper::new(None, Duration::ZERO, at(0));
        let mut now = 0;
        let mut waits = Vec::new();
        for _ in 0..7 {
            now += 1;
            assert!(link.see(ill(), at(now)).is_some());
            let up = now + 1;
            now = up;
            while link.see(None, at(now)).is_some() {
                now += 1;
            }
            waits.push(now - up);
        }
        assert_eq!(waits, [2, 4, 8, 16, 32, 32, 32]);
        assert!(link.see(ill(), at(now + 500)).is_some());
        assert!(link.see(None, at(now + 501)).is_some());
        assert!(
            link.see(None, at(now + 502)).is_none(),
            "flaps are forgotten"
        );
    }

    #[test]
    fn a_short_absence_is_passed_over() {
        let mut engine = Damper::new(None, at(2), at(0));
        assert_eq!(engine.see(ill(), at(1)), None);
        assert_eq!(engine.see(ill(), at(2)), None);
        assert_eq!(engine.see(None, at(3)), None);
        assert_eq!(engine.see(ill(), at(4)), None);
        assert_eq!(engine.see(ill(), at(6)), Some("no link"));
    }
}
