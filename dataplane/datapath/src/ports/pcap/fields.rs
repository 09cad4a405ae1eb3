// SPDX-License-Identifier: Apache-2.0
//! Cursor over the numbers and bytes of a capture file.

/// Byte order of a file's or section's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ByteOrder {
    /// Most significant byte first.
    Big,
    /// Least significant byte first.
    Little,
}

impl ByteOrder {
    /// Finds the order in which `bytes` read as `magic`; `None` if they do in neither.
    pub(super) fn of_magic(bytes: [u8; 4], magic: u32) -> Option<ByteOrder> {
        if bytes == magic.to_be_bytes() {
            Some(ByteOrder::Big)
        } else if bytes == magic.to_le_bytes() {
            Some(ByteOrder::Little)
        } else {
            None
        }
    }
}

/// Unread rest of a file or block. Each read returns `None` when fewer bytes are left.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fields<'a> {
    rest: &'a [u8],
    order: ByteOrder,
}

impl<'a> Fields<'a> {
    /// Starts at the first of `bytes`.
    pub(super) fn new(bytes: &'a [u8], order: ByteOrder) -> Fields<'a> {
        Fields { rest: bytes, order }
    }

    /// Returns true once every byte has been read.
    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Returns the bytes not read so far.
    pub(super) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Reads the next `len` bytes.
    pub(super) fn bytes(&mut self, len: usize) -> Option<&'a [u8]> {
        let (bytes, rest) = self.rest.split_at_checked(len)?;
        self.rest = rest;
        Some(bytes)
    }

    /// Reads a number of 16 bits.
    pub(super) fn u16(&mut self) -> Option<u16> {
        let (bytes, rest) = self.rest.split_first_chunk()?;
        self.rest = rest;
        Some(match self.order {
            ByteOrder::Big => u16::from_be_bytes(*bytes),
            ByteOrder::Little => u16::from_le_bytes(*bytes),
        })
    }

    /// Reads a number of 32 bits.
    pub(super) fn u32(&mut self) -> Option<u32> {
        let (bytes, rest) = self.rest.split_first_chunk()?;
        self.rest = rest;
        Some(match self.order {
            ByteOrder::Big => u32::from_be_bytes(*bytes),
            ByteOrder::Little => u32::from_le_bytes(*bytes),
        })
    }

    /// Reads the length of a run of bytes, a number of 32 bits.
    pub(super) fn len(&mut self) -> Option<usize> {
        self.u32().and_then(|len| usize::try_from(len).ok())
    }
}
