// SPDX-License-Identifier: Apache-2.0
//! Duplicate MAC detection, as RFC 7432 (15.1) has it: an address that moves more than a few times in a
//! while is in two places at once, and stays where it is until it has been let alone.

use std::sync::atomic::{AtomicU32, Ordering};

/// Moves in [`WINDOW_SECONDS`] that are no fault; RFC 7432 has the same.
pub(crate) const MOST_MOVES: u32 = 5;
/// Seconds that moves are counted over; RFC 7432 has the same.
pub(crate) const WINDOW_SECONDS: u32 = 180;
/// Seconds that an address stays where it is after one move too many. RFC 7432 leaves it to people, who
/// would have to come.
pub(crate) const HOLD_SECONDS: u32 = 60;

/// Bits of the number of moves, below the second in which they began.
const COUNT_BITS: u32 = 8;
const COUNT_MASK: u32 = (1 << COUNT_BITS) - 1;
const SECOND_MASK: u32 = u32::MAX >> COUNT_BITS;

/// Moves of one address: their number, and the second of the first, or of the one too many.
#[derive(Debug, Default)]
pub(super) struct Moves(AtomicU32);

impl Moves {
    /// Forgets all moves.
    pub(super) fn clear(&self) {
        self.0.store(0, Ordering::Relaxed);
    }

    /// Counts a move. Returns whether the address may make it.
    pub(super) fn may_move(&self, now_s: u32) -> bool {
        let now = now_s & SECOND_MASK;
        let step = |state: u32| {
            let (since, count) = (state >> COUNT_BITS, state & COUNT_MASK);
            let elapsed = now.wrapping_sub(since) & SECOND_MASK;
            let is_held = count > MOST_MOVES;
            if is_held && elapsed < HOLD_SECONDS {
                return None;
            }
            let is_over = is_held || count == 0 || elapsed >= WINDOW_SECONDS;
            let (since, count) = match count + 1 {
                _ if is_over => (now, 1),
                // The hold begins.
                more if more > MOST_MOVES => (now, more),
                more => (since, more),
            };
            Some(since << COUNT_BITS | count)
        };
        let changed = self
            .0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, step);
        changed.is_ok_and(|before| step(before).is_some_and(|s| s & COUNT_MASK <= MOST_MOVES))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_moves_too_often_is_held_and_then_let_go() {
        let moves = Moves::default();
        let moved = (0..20).filter(|_| moves.may_move(1000)).count();
        assert_eq!(moved, MOST_MOVES as usize);
        assert!(!moves.may_move(1000 + HOLD_SECONDS - 1));
        assert!(moves.may_move(1000 + HOLD_SECONDS));
    }

    #[test]
    fn moves_now_and_then_are_no_fault() {
        let moves = Moves::default();
        for n in 0..100 {
            assert!(moves.may_move(n * (WINDOW_SECONDS / MOST_MOVES + 1)), "{n}");
        }
    }

    #[test]
    fn the_second_wraps() {
        let moves = Moves::default();
        let late = SECOND_MASK - 1;
        let moved = (0..20).filter(|n| moves.may_move(late + n / 8)).count();
        assert_eq!(moved, MOST_MOVES as usize);
        assert!(moves.may_move(late + 3 + HOLD_SECONDS));
    }
}
