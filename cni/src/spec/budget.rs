// SPDX-License-Identifier: Apache-2.0
//! The time a call may take. No runtime tells its plugins a deadline, so they have their own.

use std::time::{Duration, Instant};

/// Time limit of an ADD's forward part. Undoing it has [`DEL`] on top.
pub const ADD: Duration = Duration::from_secs(60);
/// Time limit of a DEL, and of any other call that is not an ADD.
pub const DEL: Duration = Duration::from_secs(20);
/// Time for which a call waits for another one on the same container.
pub const LOCK: Duration = Duration::from_secs(8);
/// Time for which a DEL waits for the engine.
pub const ENGINE_DEL: Duration = Duration::from_secs(5);

/// The variable by which a plugin of ours learns what is left of its caller's budget, in
/// milliseconds, so that it gives up before it is killed. Other plugins pass over it.
pub const VARIABLE: &str = "SLUICEGATE_BUDGET_MS";

/// A moment by which something must be done.
#[derive(Debug, Clone, Copy)]
pub struct Budget {
    end: Instant,
}

impl Budget {
    /// `time` from now.
    pub fn of(time: Duration) -> Budget {
        Budget {
            end: Instant::now() + time,
        }
    }

    /// Returns the time left; zero when it is used up.
    pub fn left(&self) -> Duration {
        self.end.saturating_duration_since(Instant::now())
    }

    /// `time` from now, but never later than this one.
    pub fn at_most(&self, time: Duration) -> Budget {
        Budget {
            end: self.end.min(Instant::now() + time),
        }
    }

    /// An equal share of what is left among `parts` steps, so that one that hangs leaves the
    /// others their time.
    pub fn share(&self, parts: usize) -> Budget {
        let parts = u32::try_from(parts.max(1)).unwrap_or(u32::MAX);
        Budget::of(self.left() / parts)
    }

    /// `own`, or what the caller left us if that is less: 100 ms of it are kept for the answer.
    pub fn inherited(own: Duration, variable: Option<&str>) -> Budget {
        let left = variable
            .and_then(|text| text.parse().ok())
            .map(|ms: u64| Duration::from_millis(ms.saturating_sub(100)));
        Budget::of(left.map_or(own, |left| left.min(own)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_and_limits() {
        let budget = Budget::of(Duration::from_secs(20));
        assert!(budget.share(4).left() <= Duration::from_secs(5));
        assert!(budget.share(4).left() > Duration::from_secs(4));
        assert!(budget.at_most(Duration::from_secs(30)).left() <= Duration::from_secs(20));
        assert_eq!(Budget::of(Duration::ZERO).share(0).left(), Duration::ZERO);
    }

    #[test]
    fn the_callers_rest_counts_if_it_is_less() {
        let left = Budget::inherited(DEL, Some("5100")).left();
        assert!(left <= Duration::from_secs(5) && left > Duration::from_secs(4));
        assert!(Budget::inherited(DEL, Some("900000")).left() <= DEL);
        assert!(Budget::inherited(DEL, Some("nonsense")).left() > Duration::from_secs(19));
    }
}
