// SPDX-License-Identifier: Apache-2.0
//! Violations that a queue can find in memory that the peer writes.

use sluice_peer::IndexFault;

use crate::layout::{MAX_CHAIN, MAX_PACKET};

/// Violation in a ring. The connection must end: its shared memory can no longer be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Index of the peer that is further ahead of ours than the ring allows.
    #[error("index jumped: {ahead} descriptors ahead where at most {allowed} are possible")]
    IndexJump {
        /// Distance from our index, modulo 65536.
        ahead: u16,
        /// Largest distance of an honest peer.
        allowed: u16,
    },
    /// Index of the peer that went back.
    #[error("index went back: {now} descriptors where {before} were seen before")]
    IndexBack {
        /// Distance from our index now.
        now: u16,
        /// Distance before.
        before: u16,
    },
    /// A descriptor names a region that does not exist.
    #[error("descriptor names unknown region {0}")]
    Region(u16),
    /// A descriptor's bytes are not within its region, or not within the buffer that was posted.
    #[error("descriptor of {length} bytes at offset {offset} leaves its memory")]
    Range {
        /// Offset of its first byte in the region.
        offset: u32,
        /// Length in bytes.
        length: u32,
    },
    /// A packet goes on past the last descriptor that was published.
    #[error("packet chain goes on past what was published")]
    OpenChain,
    /// A packet of too many descriptors.
    #[error("packet chain of more than {MAX_CHAIN} descriptors")]
    LongChain,
    /// A packet of too many bytes.
    #[error("packet of {0} bytes, more than {MAX_PACKET}")]
    LongPacket(u32),
    /// Touching the memory raised SIGBUS: the peer truncated it, or memory is exhausted.
    #[error("shared memory is gone: truncated by the peer, or memory is exhausted")]
    MemoryGone,
}

impl From<IndexFault> for Fault {
    fn from(fault: IndexFault) -> Fault {
        match fault {
            IndexFault::Jump { ahead, allowed } => Fault::IndexJump { ahead, allowed },
            IndexFault::Back { now, before } => Fault::IndexBack { now, before },
        }
    }
}
