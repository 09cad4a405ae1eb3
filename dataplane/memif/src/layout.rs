// SPDX-License-Identifier: Apache-2.0
//! Layout of rings and descriptors in shared memory, and the arithmetic over it.
//!
//! Everything is little-endian. A ring is `cookie u32, flags u16, head u16`, the tail as u16 at
//! byte 64, and from byte 128 on its descriptors of 16 bytes each.

/// First word of every ring.
pub const COOKIE: u32 = 0x03E3_1F20;
/// Ring flag: the consumer polls, do not interrupt it.
pub const FLAG_MASK_INT: u16 = 1;
/// Descriptor flag: the packet goes on in the next descriptor.
pub const FLAG_NEXT: u16 = 1;
/// Rings lie at multiples of this many bytes, so that no descriptor is in two cache lines. DPDK's
/// rings of two descriptors follow each other at 160 bytes.
pub const RING_ALIGN: u64 = 16;
/// Largest ring, as the binary logarithm of its descriptors.
pub const MAX_LOG2: u8 = 14;
/// Longest packet that is carried, in bytes.
pub const MAX_PACKET: usize = 65_535;
/// Most descriptors of one packet.
pub const MAX_CHAIN: usize = 64;

pub(crate) const COOKIE_AT: usize = 0;
pub(crate) const FLAGS_AT: usize = 4;
pub(crate) const HEAD_AT: usize = 6;
pub(crate) const TAIL_AT: usize = 64;
pub(crate) const DESCRIPTORS_AT: usize = 128;
pub(crate) const DESCRIPTOR_LEN: usize = 16;

/// Bytes of a ring with `1 << log2` descriptors.
pub const fn ring_bytes(log2: u8) -> u64 {
    DESCRIPTORS_AT as u64 + ((DESCRIPTOR_LEN as u64) << log2)
}

/// Descriptor, as read once from or written once to shared memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Descriptor {
    pub(crate) flags: u16,
    pub(crate) region: u16,
    /// Bytes of data, or of room if it is a posted empty buffer.
    pub(crate) length: u32,
    /// Offset of the buffer in its region.
    pub(crate) offset: u32,
}

impl Descriptor {
    #[inline(always)]
    pub(crate) fn decode(raw: [u8; DESCRIPTOR_LEN]) -> Descriptor {
        // As one integer, the compiler keeps it in registers; byte arrays it may spill.
        let raw = u128::from_le_bytes(raw);
        #[allow(
            clippy::cast_possible_truncation,
            reason = "picks the fields out of the word"
        )]
        Descriptor {
            flags: raw as u16,
            region: (raw >> 16) as u16,
            length: (raw >> 32) as u32,
            offset: (raw >> 64) as u32,
        }
    }

    #[inline(always)]
    pub(crate) fn encode(self) -> [u8; DESCRIPTOR_LEN] {
        let raw = u128::from(self.flags)
            | u128::from(self.region) << 16
            | u128::from(self.length) << 32
            | u128::from(self.offset) << 64;
        raw.to_le_bytes()
    }

    #[inline(always)]
    pub(crate) fn has_next(self) -> bool {
        self.flags & FLAG_NEXT != 0
    }
}

/// Direction of the packets on a ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// The client sends, the server receives.
    ClientToServer,
    /// The server sends into buffers that the client posted.
    ServerToClient,
}

impl std::fmt::Display for Direction {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Direction::ClientToServer => "client-to-server",
            Direction::ServerToClient => "server-to-client",
        })
    }
}

/// Position and size of a ring, checked against its region and against every other ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RingSpec {
    /// Direction of its packets.
    pub direction: Direction,
    /// Number among the rings of that direction, from 0.
    pub index: u16,
    /// Index of the region it lies in.
    pub region: u16,
    /// Offset of its first byte in that region; a multiple of [`RING_ALIGN`].
    pub offset: u32,
    /// Binary logarithm of its number of descriptors, 1 to [`MAX_LOG2`].
    pub log2: u8,
}

impl RingSpec {
    /// Offset behind its last byte in the region.
    pub fn end(&self) -> u64 {
        u64::from(self.offset) + ring_bytes(self.log2)
    }

    /// Whether the two rings share a byte.
    pub fn overlaps(&self, other: &RingSpec) -> bool {
        self.region == other.region
            && u64::from(self.offset) < other.end()
            && u64::from(other.offset) < self.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptor_bytes_are_as_on_the_wire() {
        let descriptor = Descriptor {
            flags: 1,
            region: 0x0203,
            length: 0x0405_0607,
            offset: 0x0809_0a0b,
        };
        let raw = descriptor.encode();
        assert_eq!(raw, [1, 0, 3, 2, 7, 6, 5, 4, 0x0b, 0x0a, 9, 8, 0, 0, 0, 0]);
        assert_eq!(Descriptor::decode(raw), descriptor);
    }

    #[test]
    fn rings_that_touch_do_not_overlap() {
        let ring = |offset, region| RingSpec {
            direction: Direction::ClientToServer,
            index: 0,
            region,
            offset,
            log2: 2,
        };
        assert_eq!(ring_bytes(2), 192);
        assert!(!ring(0, 0).overlaps(&ring(192, 0)));
        assert!(ring(0, 0).overlaps(&ring(128, 0)));
        assert!(ring(128, 0).overlaps(&ring(0, 0)));
        assert!(!ring(128, 0).overlaps(&ring(0, 1)));
        assert_eq!(ring(u32::MAX, 0).end(), u64::from(u32::MAX) + 192);
    }
}
