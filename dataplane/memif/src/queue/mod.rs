//! The packet queues of a connection: what a worker holds.
//!
//! Both are plain structs without locks: one thread owns each. A call does one acquire load and one
//! release store per burst and ring, no system call and no allocation. Every descriptor is read
//! once into a local, checked, then used; nothing is believed twice.

mod ahead;
mod gather;
mod plain;
mod ring;
mod rx;
mod scan;
mod sink;
mod tx;

use crate::checks::out;
use crate::layout::Descriptor;
pub(crate) use ring::Ring;
pub(crate) use rx::RxBuffers;
pub use rx::{RxCounters, RxQueue};
pub use sink::{FrameList, Sink};
pub(crate) use tx::TxBuffers;
pub use tx::{Pushed, TxCounters, TxQueue};

/// Most packets of one [`RxQueue::recv`].
pub const BURST: usize = 64;

/// Where the buffers of one of our own rings lie: buffer n at `first + n * stride`, each `capacity`
/// bytes. Known privately, so that no offset is ever learnt from the peer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OwnBuffers {
    pub(crate) first: u32,
    pub(crate) stride: u32,
    pub(crate) capacity: u32,
}

impl OwnBuffers {
    /// Offset of the buffer of slot `slot`, which is below the ring's size.
    #[inline(always)]
    pub(crate) fn offset(&self, slot: u16) -> u32 {
        // The allocation was checked to end below 4 GiB.
        self.first
            .wrapping_add(self.stride.wrapping_mul(u32::from(slot)))
    }

    /// The descriptor of that buffer, empty.
    #[inline(always)]
    pub(crate) fn buffer(&self, slot: u16) -> Descriptor {
        Descriptor {
            flags: 0,
            region: 0,
            length: self.capacity,
            offset: self.offset(slot),
        }
    }
}

/// Follows the peer's index: what it is ahead of ours, and that it neither jumps nor goes back.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct PeerIndex {
    /// How far ahead of ours it was when last looked at, less what we took since.
    ahead: u16,
}

impl PeerIndex {
    /// Takes a freshly read index; `ours` is our own and `allowed` the furthest it can honestly be
    /// ahead. Returns how far ahead it is.
    #[inline(always)]
    pub(crate) fn update(
        &mut self,
        read: u16,
        ours: u16,
        allowed: u16,
    ) -> Result<u16, crate::Fault> {
        let ahead = read.wrapping_sub(ours);
        if ahead > allowed && !out("index-jump") {
            return Err(crate::Fault::IndexJump { ahead, allowed });
        }
        if ahead < self.ahead && !out("index-back") {
            return Err(crate::Fault::IndexBack {
                now: ahead,
                before: self.ahead,
            });
        }
        self.ahead = ahead;
        Ok(ahead)
    }

    /// What it was ahead when last looked at, less what was taken since.
    #[inline(always)]
    pub(crate) fn ahead(&self) -> u16 {
        self.ahead
    }

    /// Our own index went on by `taken`, at most what it is ahead.
    #[inline(always)]
    pub(crate) fn take(&mut self, taken: u16) {
        debug_assert!(taken <= self.ahead);
        self.ahead = self.ahead.wrapping_sub(taken);
    }
}

#[cfg(test)]
mod tests;

#[cfg(test)]
mod index_tests {
    use super::*;
    use crate::Fault;

    #[test]
    fn an_index_neither_jumps_nor_goes_back() {
        let mut index = PeerIndex::default();
        assert_eq!(index.update(65_530, 65_530, 16), Ok(0));
        assert_eq!(index.update(4, 65_530, 16), Ok(10));
        assert_eq!(
            index.update(3, 65_530, 16),
            Err(Fault::IndexBack { now: 9, before: 10 })
        );
        index.take(4);
        assert_eq!(index.update(4, 65_534, 16), Ok(6));
        assert_eq!(index.update(14, 65_534, 16), Ok(16));
        assert_eq!(
            index.update(15, 65_534, 16),
            Err(Fault::IndexJump {
                ahead: 17,
                allowed: 16
            })
        );
        assert_eq!(
            index.update(65_533, 65_534, 16),
            Err(Fault::IndexJump {
                ahead: 65_535,
                allowed: 16
            })
        );
    }
}
