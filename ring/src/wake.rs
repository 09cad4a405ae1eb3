// SPDX-License-Identifier: Apache-2.0
//! A consumer that sleeps, and producers that wake it only then.

use crate::sync::{
    AtomicBool,
    Ordering::{Acquire, Relaxed, Release, SeqCst},
    fence,
};

/// Whether a consumer sleeps. No wake-up is lost: of a consumer that says so and then looks once more, and a
/// producer that pushes and then asks, at least one sees what the other did.
#[derive(Debug, Default)]
pub struct Sleeper {
    asleep: AtomicBool,
}

impl Sleeper {
    /// Of a consumer that is awake.
    pub fn new() -> Sleeper {
        Sleeper {
            asleep: AtomicBool::new(false),
        }
    }

    /// The consumer, before it sleeps; after this it looks whether something came, and sleeps only if not.
    #[inline]
    pub fn park(&self) {
        // Release: whoever claims the wake-up sends it after whatever the consumer did before, and so after
        // the consumer took back the last one.
        self.asleep.store(true, Release);
        // Pairs with the one in `needs_waking`.
        fence(SeqCst);
    }

    /// The consumer, when it is awake again.
    #[inline]
    pub fn unpark(&self) {
        self.asleep.store(false, Relaxed);
    }

    /// A producer, after it has pushed: whether the consumer is to be woken.
    #[inline]
    pub fn needs_waking(&self) -> bool {
        fence(SeqCst);
        self.asleep.load(Relaxed)
    }

    /// As [`Sleeper::needs_waking`], but true only for the first who asks since the consumer parked: that one
    /// wakes it. So a consumer that takes its time to get up costs one call and not one a push.
    ///
    /// The answer may be to an earlier sleep than the present one. As whoever gets it wakes the consumer, which
    /// looks after each wake-up, nothing is lost by that.
    #[inline]
    pub fn claim(&self) -> bool {
        self.needs_waking()
            && self
                .asleep
                .compare_exchange(true, false, Acquire, Relaxed)
                .is_ok()
    }
}
