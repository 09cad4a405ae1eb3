// SPDX-License-Identifier: Apache-2.0
//! Outbox of a worker: the engine's own answers, which leave at the end of the visit.

use std::collections::VecDeque;

use sluice_mem::{BURST, Burst, Mbuf};

/// Answers that the outbox holds at most: a burst of each of the rings from another worker. It is
/// emptied after every visit of a port or another worker, so that no attachment finds it filled by the
/// answers of another.
pub(crate) const OUTBOX_FRAMES: usize = 2 * BURST;

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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;
    use crate::testing::fake_port_context::Lent;

    #[test]
    fn a_full_outbox_hands_the_answer_back_and_loses_none() {
        let mut lent = Lent::new(2 * 1024);
        let mut outbox = Outbox::new();
        for _ in 0..OUTBOX_FRAMES {
            assert!(!outbox.is_full());
            outbox.push(lent.pools.alloc_for(60).unwrap()).unwrap();
        }
        assert!(outbox.is_full());
        let refused = outbox.push(lent.pools.alloc_for(60).unwrap());
        lent.pools.free(refused.unwrap_err());
        let mut taken = 0;
        while !outbox.is_empty() {
            let mut burst = Burst::new();
            outbox.take(&mut burst);
            assert!(!burst.is_empty());
            taken += burst.len();
            lent.pools.free_burst(&mut burst);
        }
        assert_eq!(taken, OUTBOX_FRAMES);
        lent.assert_all_free();
    }

    #[test]
    fn answers_leave_in_the_order_in_which_they_came() {
        let mut lent = Lent::new(256);
        let mut outbox = Outbox::new();
        let sent: Vec<u8> = (0..100).collect();
        for number in &sent {
            let mut mbuf = lent.pools.alloc_for(1).unwrap();
            assert!(mbuf.copy_from(&[*number]));
            outbox.push(mbuf).unwrap();
        }
        let mut received = Vec::new();
        while !outbox.is_empty() {
            let mut burst = Burst::new();
            outbox.take(&mut burst);
            received.extend(burst.iter().map(|mbuf| mbuf.data()[0]));
            lent.pools.free_burst(&mut burst);
        }
        assert_eq!(received, sent);
        lent.assert_all_free();
    }
}
