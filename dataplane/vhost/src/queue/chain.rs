// SPDX-License-Identifier: Apache-2.0
//! Walk over the descriptors of one buffer: a chain in the ring's table, or in an indirect table.

use sluice_peer::checks::check;

use super::ring::{Descriptor, INDIRECT, NEXT, Ring, WRITE};
use super::{MAX_PIECES, MAX_TABLE};
use crate::fault::{Direction, Fault};
use crate::memory::{Memory, Piece};

/// Bytes of a descriptor.
const DESCRIPTOR: u32 = 16;

/// Pieces of one buffer, found and checked.
#[derive(Debug)]
pub(super) struct Chain {
    pieces: [Piece; MAX_PIECES],
    count: usize,
    /// Bytes of all pieces.
    bytes: u64,
}

/// Table from which a chain's descriptors are read.
enum Table<'ring> {
    /// Table of the ring.
    Ring(&'ring Ring),
    /// Indirect table: its first byte, and its number of descriptors.
    Indirect(Piece, u16),
}

impl Chain {
    /// No pieces.
    pub(super) const EMPTY: Chain = Chain {
        pieces: [Piece {
            region: 0,
            offset: 0,
            len: 0,
        }; MAX_PIECES],
        count: 0,
        bytes: 0,
    };

    /// Pieces in their order.
    #[inline(always)]
    pub(super) fn pieces(&self) -> &[Piece] {
        self.pieces.get(..self.count).unwrap_or_default()
    }

    /// Bytes of all pieces.
    #[inline(always)]
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Forgets all pieces.
    pub(super) fn clear(&mut self) {
        (self.count, self.bytes) = (0, 0);
    }

    /// Appends the pieces of the buffer that begins with descriptor `head`. Returns its bytes.
    ///
    /// # Errors
    /// The front end broke a rule of descriptors.
    pub(super) fn walk(
        &mut self,
        ring: &Ring,
        memory: &Memory,
        head: u16,
        writable: bool,
    ) -> Result<u64, Fault> {
        let before = self.bytes;
        let mut descriptor = ring.descriptor(head)?;
        let mut table = Table::Ring(ring);
        if descriptor.flags & INDIRECT != 0 {
            check!(
                "indirect-next",
                descriptor.flags == INDIRECT,
                Fault::Flags(descriptor.flags)
            );
            table = indirect(memory, &descriptor)?;
            descriptor = table.read(memory, 0)?;
        }
        loop {
            self.add(memory, &descriptor, writable)?;
            if descriptor.flags & NEXT == 0 {
                return Ok(self.bytes - before);
            }
            descriptor = table.read(memory, descriptor.next)?;
        }
    }

    fn add(
        &mut self,
        memory: &Memory,
        descriptor: &Descriptor,
        writable: bool,
    ) -> Result<(), Fault> {
        let Descriptor {
            address,
            len,
            flags,
            ..
        } = *descriptor;
        check!("nested", flags & INDIRECT == 0, Fault::Nested);
        check!("flags", flags & !(NEXT | WRITE) == 0, Fault::Flags(flags));
        let direction = if writable {
            Direction::ReadOnly
        } else {
            Direction::Writable
        };
        check!(
            "direction",
            (flags & WRITE != 0) == writable,
            Fault::Direction(direction)
        );
        // Pieces of no bytes count too, or a chain of them could loop for ever.
        let Some(slot) = self.pieces.get_mut(self.count) else {
            return Err(Fault::LongChain);
        };
        *slot = memory
            .find(address, len)
            .ok_or(Fault::Range { address, len })?;
        self.count += 1;
        self.bytes += u64::from(len);
        Ok(())
    }
}

/// Table that an indirect descriptor names. Its length is read once, here.
fn indirect(memory: &Memory, descriptor: &Descriptor) -> Result<Table<'static>, Fault> {
    let Descriptor { address, len, .. } = *descriptor;
    let whole = len > 0 && len.is_multiple_of(DESCRIPTOR);
    check!(
        "indirect-length",
        whole && len <= DESCRIPTOR * u32::from(MAX_TABLE),
        Fault::Table(len)
    );
    let table = memory
        .find(address, len)
        .ok_or(Fault::Range { address, len })?;
    let count = u16::try_from(len / DESCRIPTOR).unwrap_or(u16::MAX);
    Ok(Table::Indirect(table, count))
}

impl Table<'_> {
    /// Reads descriptor `number`, once.
    fn read(&self, memory: &Memory, number: u16) -> Result<Descriptor, Fault> {
        match self {
            Table::Ring(ring) => ring.descriptor(number),
            Table::Indirect(table, count) => {
                check!(
                    "indirect-range",
                    number < *count,
                    Fault::Descriptor {
                        index: number,
                        size: *count,
                    }
                );
                let at = table.offset + usize::from(number) * DESCRIPTOR as usize;
                let memory = memory.mapping(table.region).ok_or(Fault::MemoryGone)?;
                let bytes = memory.read16(at).map_err(|_| Fault::MemoryGone)?;
                Ok(Descriptor::decode(bytes))
            }
        }
    }
}
