// SPDX-License-Identifier: Apache-2.0
//! Buffer of a rejected frame, in which its answer is made.

use crate::{icmpv6, ipv6};

/// Bytes that must be free before the frame for every answer: an IPv6 and an ICMPv6 header.
pub const HEADROOM: usize = ipv6::HEADER_LEN + icmpv6::HEADER_LEN;

/// Buffer of a frame, as far as an answer needs it. Implemented for an mbuf by the datapath, and here
/// for `Vec<u8>` for tests and tools.
pub trait RejectBuffer {
    /// Bytes of the frame.
    fn frame(&self) -> &[u8];
    /// Bytes of the frame, to write.
    fn frame_mut(&mut self) -> &mut [u8];
    /// Makes the frame `len_bytes` longer at its front, with unspecified bytes; `false`, with nothing
    /// changed, if there is no room.
    fn prepend(&mut self, len_bytes: usize) -> bool;
    /// Cuts the frame at its end to `len_bytes`, which is at most its length.
    fn truncate(&mut self, len_bytes: usize);
}

impl RejectBuffer for Vec<u8> {
    fn frame(&self) -> &[u8] {
        self
    }

    fn frame_mut(&mut self) -> &mut [u8] {
        self
    }

    fn prepend(&mut self, len_bytes: usize) -> bool {
        self.splice(..0, std::iter::repeat_n(0, len_bytes));
        true
    }

    fn truncate(&mut self, len_bytes: usize) {
        Vec::truncate(self, len_bytes);
    }
}
