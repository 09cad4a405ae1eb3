// SPDX-License-Identifier: Apache-2.0
//! Consecutive frames that are classified alike: a burst's frames mostly come from one address and go to one MAC
//! address, and what the classify stage found of the first holds for all.

use sluice_packet::FlowKey;

use crate::frame::FrameInfo;
use crate::frame::destination::PackedDestination;

/// Fields of a frame by which the classify stage decides, where everything follows from the key: both MAC addresses,
/// EtherType and VID, and of a pod's frame the source address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Fields([u64; 5]);

impl Fields {
    /// Fields of a frame. The source address is left out of a frame from the wire, where any may come from any.
    #[inline(always)]
    fn of(info: &FrameInfo, with_source: bool) -> Fields {
        let [a, b, _, _, ports, macs, rest, _] = *info.flow_words();
        // What is left of each word: EtherType and VID behind the ports, four bytes of the receiver's MAC.
        let source = if with_source { [a, b] } else { [0; 2] };
        Fields([source[0], source[1], ports >> 32, macs, rest & 0xffff_ffff])
    }
}

/// Layout of a key's words, which [`Fields`] cuts.
const _: () = {
    assert!(std::mem::offset_of!(FlowKey, ethertype) == 36);
    assert!(std::mem::offset_of!(FlowKey, src_mac) == 40);
    assert!(std::mem::offset_of!(FlowKey, proto) == 52);
};

/// Classification of the frame before.
#[derive(Debug, Clone, Copy)]
pub(super) struct Alike {
    fields: Fields,
    destination: PackedDestination,
}

impl Alike {
    /// Classification of no frame.
    pub(super) const NONE: Alike = Alike {
        fields: Fields([0; 5]),
        destination: PackedDestination::UNKNOWN,
    };

    /// Notes a frame that was classified.
    pub(super) fn note(&mut self, info: &FrameInfo, with_source: bool) {
        self.fields = Fields::of(info, with_source);
        self.destination = info.packed_destination();
    }

    /// Returns the destination of the frame before, if this one is classified alike.
    #[inline(always)]
    pub(super) fn destination(
        &self,
        info: &FrameInfo,
        with_source: bool,
    ) -> Option<PackedDestination> {
        // A frame's EtherType is IP: nothing is equal to no frame.
        (self.fields == Fields::of(info, with_source)).then_some(self.destination)
    }
}
