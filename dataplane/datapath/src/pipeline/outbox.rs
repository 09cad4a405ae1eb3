// SPDX-License-Identifier: Apache-2.0
//! Outbox of a worker: the engine's own answers, which leave at the end of the round.

use std::collections::VecDeque;

use sluice_mem::{Burst, Mbuf};

/// Answers that the outbox holds at most. An attachment puts in no more than its own rate limit for
/// rejects lets it, so that it takes ten of them at their limit to fill the outbox in one round.
pub(crate) const OUTBOX_FRAMES: usize = 1024;

/// Bounded queue of answers. Its memory is allocated when the worker is made.
#[derive(Debug)]
pub(crate) struct Outbox {
    frames: VecDeque<Mbuf>,
}

impl Outbox {
    /// Makes an empty outbox.
    pub(crate) fn new() -> Outbox {
        Outbox {
            frames: VecDeque::with_capacity(OUTBOX_FRAMES),
        }
    }

    /// Whether there is nothing to send.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Whether there is no room for another answer.
    pub(crate) fn is_full(&self) -> bool {
        self.frames.len() >= OUTBOX_FRAMES
    }

    /// Appends an answer.
    ///
    /// # Errors
    /// The mbuf itself, if there is no room.
    pub(crate) fn push(&mut self, mbuf: Mbuf) -> Result<(), Mbuf> {
        if self.is_full() {
            return Err(mbuf);
        }
        self.frames.push_back(mbuf);
        Ok(())
    }

    /// Moves answers to `burst` in order, as many as it has room for.
    pub(crate) fn take(&mut self, burst: &mut Burst) {
        while burst.room() > 0 {
            let Some(mbuf) = self.frames.pop_front() else {
                break;
            };
            if let Err(mbuf) = burst.push(mbuf) {
                self.frames.push_front(mbuf);
                break;
            }
        }
    }
}
