// SPDX-License-Identifier: Apache-2.0
//! Tagging of an attachment: which of its frames carry the segment's tag.

use sluice_packet::VlanTag;

use super::FrameInfo;
use crate::ids::SegmentId;

/// Tagging of the frames that an attachment gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tagging {
    /// Access: the pod never sees the segment's tag.
    Untagged,
    /// Trunk: every frame is tagged (TPID 0x8100) but those of the native segment.
    Tagged {
        /// The segment that is untagged towards the pod.
        native: Option<SegmentId>,
    },
}

impl Tagging {
    /// Returns the tag that a frame carries on its way to the pod.
    #[inline]
    pub fn tag_for(self, info: &FrameInfo) -> Option<VlanTag> {
        match self {
            Tagging::Untagged => None,
            Tagging::Tagged { native } if native == Some(info.segment()) => None,
            Tagging::Tagged { .. } => {
                let vid = info.segment().vid();
                (vid != 0).then_some(VlanTag {
                    tpid: 0x8100,
                    tci: info.priority_bits() | vid,
                })
            }
        }
    }
}
