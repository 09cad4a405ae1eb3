// SPDX-License-Identifier: Apache-2.0
//! Violations that a queue can find in memory that the front end writes.

use sluice_peer::IndexFault;

use crate::queue::{MAX_FRAME, MAX_PIECES, MAX_TABLE};

/// Violation in a ring. The connection must end: its rings can no longer be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Available index that is further ahead than the ring allows.
    #[error("available index ran away: {ahead} buffers ahead where at most {allowed} are possible")]
    IndexJump {
        /// Distance from our index, modulo 65536.
        ahead: u16,
        /// Size of the ring.
        allowed: u16,
    },
    /// Available index that went back.
    #[error("available index went back: {now} buffers where {before} were seen before")]
    IndexBack {
        /// Distance from our index now.
        now: u16,
        /// Distance before.
        before: u16,
    },
    /// Number of a descriptor that does not exist.
    #[error("descriptor {index} of a table of {size}")]
    Descriptor {
        /// Number that the front end wrote.
        index: u16,
        /// Descriptors of the table.
        size: u16,
    },
    /// Descriptor whose bytes are not all in one region of the front end's memory.
    #[error("buffer of {len} bytes at {address:#x} is not inside one memory region")]
    Range {
        /// Guest's physical address.
        address: u64,
        /// Length in bytes.
        len: u32,
    },
    /// Flags that do not exist, or not together.
    #[error("descriptor flags {0:#x}, which do not go together")]
    Flags(u16),
    /// Buffer of the wrong direction.
    #[error("{0}")]
    Direction(Direction),
    /// Chain of too many descriptors: also one that loops.
    #[error("chain of more than {MAX_PIECES} descriptors")]
    LongChain,
    /// Table of descriptors named by one that is itself in such a table.
    #[error("an indirect descriptor inside an indirect table")]
    Nested,
    /// Indirect table whose length is not possible.
    #[error("an indirect table of {0} bytes: a multiple of 16 up to {max} is possible", max = 16 * u32::from(MAX_TABLE))]
    Table(u32),
    /// Frame of too many bytes.
    #[error("frame of {0} bytes, more than {MAX_FRAME}")]
    LongFrame(u64),
    /// Buffer for a frame that cannot even hold the header.
    #[error("receive buffer of {0} bytes, less than the header before a frame")]
    Runt(u64),
    /// Touching the memory raised SIGBUS: the peer truncated it, or memory is exhausted.
    #[error("shared memory is gone: truncated by the peer, or memory is exhausted")]
    MemoryGone,
}

/// Wrong direction of a buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Buffer to be read that is marked for writing.
    Writable,
    /// Buffer to be written that is marked for reading.
    ReadOnly,
}

impl std::fmt::Display for Direction {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Direction::Writable => "a buffer of the transmit ring is marked for writing",
            Direction::ReadOnly => "a buffer of the receive ring is marked for reading",
        })
    }
}

impl From<IndexFault> for Fault {
    fn from(fault: IndexFault) -> Fault {
        match fault {
            IndexFault::Jump { ahead, allowed } => Fault::IndexJump { ahead, allowed },
            IndexFault::Back { now, before } => Fault::IndexBack { now, before },
        }
    }
}
