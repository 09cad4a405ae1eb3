// SPDX-License-Identifier: Apache-2.0
//! Answer of the connection table to one frame, in a word of the frame's facts: the lookup stage asks for a burst, the
//! judge stage acts on it frame by frame.

use sluice_firewall::connections::{Answer, Cause, End};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Answer of the connection table, as far as the judge stage needs it. A frame of a known connection was counted at its
/// rules when it was looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Found {
    /// Frame of a connection whose verdict is known.
    Known,
    /// Frame that may open a connection.
    New,
    /// Frame of a connection that was judged by other rules, with the end that has sent it.
    Stale(End),
    /// Frame of a connection that the rules have revoked.
    Revoked,
    /// Frame that is of no connection and opens none.
    NoConnection,
    /// Frame that is not possible in its connection.
    Invalid,
}

impl Found {
    /// Answer without the numbers that are used where it comes from.
    #[inline]
    pub(crate) fn of(answer: Answer) -> Found {
        match answer {
            Answer::Known { .. } => Found::Known,
            Answer::New => Found::New,
            Answer::Stale { from, .. } => Found::Stale(from),
            Answer::Revoked => Found::Revoked,
            Answer::Invalid(Cause::NoConnection) => Found::NoConnection,
            Answer::Invalid(_) => Found::Invalid,
        }
    }
}

/// Answers by the numbers under which they are packed, from 1 on.
const PACKED: [Found; 7] = [
    Found::Known,
    Found::New,
    Found::Stale(End::Opener),
    Found::Stale(End::Responder),
    Found::Revoked,
    Found::NoConnection,
    Found::Invalid,
];

/// Number of an answer in [`PACKED`], plus 1; 0 if the table was not asked.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(transparent)]
pub(crate) struct PackedAnswer(u32);

impl PackedAnswer {
    /// Answer of a frame of which the table was not asked.
    pub(crate) const NONE: PackedAnswer = PackedAnswer(0);

    /// Packs an answer.
    pub(crate) fn of(found: Found) -> PackedAnswer {
        PackedAnswer(match found {
            Found::Known => 1,
            Found::New => 2,
            Found::Stale(End::Opener) => 3,
            Found::Stale(End::Responder) => 4,
            Found::Revoked => 5,
            Found::NoConnection => 6,
            Found::Invalid => 7,
        })
    }

    /// Returns the answer, if the table was asked.
    pub(crate) fn unpack(self) -> Option<Found> {
        PACKED.get((self.0 as usize).checked_sub(1)?).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_answer_survives_packing() {
        for found in PACKED {
            assert_eq!(PackedAnswer::of(found).unpack(), Some(found));
        }
        assert_eq!(PackedAnswer::NONE.unpack(), None);
    }
}
