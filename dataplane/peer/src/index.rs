// SPDX-License-Identifier: Apache-2.0
//! Index that the peer moves, checked at every read.

use crate::checks::check;

/// Violation of a ring's index by the peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IndexFault {
    /// Index that is further ahead of ours than the ring allows.
    Jump {
        /// Distance from our index, modulo 65536.
        ahead: u16,
        /// Largest distance of an honest peer.
        allowed: u16,
    },
    /// Index that went back.
    Back {
        /// Distance from our index now.
        now: u16,
        /// Distance before.
        before: u16,
    },
}

/// Peer's ring index, kept as its distance from ours; checks that it neither jumps nor goes back.
#[derive(Debug, Clone, Copy, Default)]
pub struct PeerIndex {
    /// Distance of the peer's index from ours at the last read, less what was taken since.
    ahead: u16,
}

impl PeerIndex {
    /// Index of a peer that is `ahead` of ours.
    pub fn ahead_by(ahead: u16) -> PeerIndex {
        PeerIndex { ahead }
    }

    /// Checks a freshly read index; `ours` is our own and `allowed` the furthest that an honest peer
    /// can be ahead. Returns the distance.
    ///
    /// # Errors
    /// The index jumped or went back.
    #[inline(always)]
    pub fn update(&mut self, read: u16, ours: u16, allowed: u16) -> Result<u16, IndexFault> {
        let ahead = read.wrapping_sub(ours);
        check!(
            "index-jump",
            ahead <= allowed,
            IndexFault::Jump { ahead, allowed }
        );
        let before = self.ahead;
        check!(
            "index-back",
            ahead >= before,
            IndexFault::Back { now: ahead, before }
        );
        self.ahead = ahead;
        Ok(ahead)
    }

    /// Distance at the last read, less what was taken since.
    #[inline(always)]
    pub fn ahead(&self) -> u16 {
        self.ahead
    }

    /// Moves our own index on by `taken`, at most the distance.
    #[inline(always)]
    pub fn take(&mut self, taken: u16) {
        debug_assert!(taken <= self.ahead);
        self.ahead = self.ahead.wrapping_sub(taken);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_neither_jumps_nor_goes_back() {
        let mut index = PeerIndex::default();
        assert_eq!(index.update(65_530, 65_530, 16), Ok(0));
        assert_eq!(index.update(4, 65_530, 16), Ok(10));
        assert_eq!(
            index.update(3, 65_530, 16),
            Err(IndexFault::Back { now: 9, before: 10 })
        );
        index.take(4);
        assert_eq!(index.update(4, 65_534, 16), Ok(6));
        assert_eq!(index.update(14, 65_534, 16), Ok(16));
        assert_eq!(
            index.update(15, 65_534, 16),
            Err(IndexFault::Jump {
                ahead: 17,
                allowed: 16
            })
        );
        assert_eq!(
            index.update(65_533, 65_534, 16),
            Err(IndexFault::Jump {
                ahead: 65_535,
                allowed: 16
            })
        );
    }
}
