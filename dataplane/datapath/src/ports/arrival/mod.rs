// SPDX-License-Identifier: Apache-2.0
//! Making frames out of what the kernel hands over: it leaves checksums to be filled in, and hands
//! over super-frames of up to 64 KiB for somebody else to cut.

use sluice_mem::packet_mmap::{GsoInfo, GsoKind};
use sluice_mem::{BufSize, Burst, Mbuf};
use sluice_packet::gso::Oversize;
use sluice_packet::{VlanTag, checksum};

use super::crc32c::crc32c;
use crate::drops::DropReason;
use crate::frame::FrameInfo;
use crate::ports::seam::PortContext;

/// Most segments that one super-frame is cut into: 64 KiB at 64 bytes each. Whoever asks for more
/// only wants to keep the worker busy.
const MAX_SEGMENTS: usize = 1024;

/// Offset of SCTP's checksum in its header, in bytes. No other transport has one there, and SCTP's is
/// a CRC.
const SCTP_CHECKSUM: u16 = 8;

/// A frame or super-frame as the kernel hands it over.
#[derive(Debug, Clone, Copy)]
pub(super) struct Arrival<'a> {
    /// From the destination MAC on.
    pub(super) data: &'a [u8],
    /// The outermost tag, if the kernel took it out of the bytes.
    pub(super) tag: Option<VlanTag>,
    /// Checksum that is not filled in: where the sum begins, and the offset of its field behind that.
    pub(super) checksum: Option<(u16, u16)>,
    /// Segmentation that the kernel left to the receiver.
    pub(super) gso: Option<GsoInfo>,
}

/// Takes arrivals into bursts, a super-frame over several bursts if need be.
#[derive(Debug, Default)]
pub(super) struct Arrivals {
    /// Segments of the current super-frame that have been taken.
    cut: usize,
}

/// Outcome of taking an arrival.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Taken {
    /// Everything was taken, or counted as dropped.
    Whole,
    /// The burst is full: show the same arrival again with the next one.
    InPart,
}

impl Arrivals {
    /// Appends the frame, or its segments, to `out`.
    #[inline]
    pub(super) fn take(
        &mut self,
        arrival: &Arrival<'_>,
        context: &mut PortContext<'_>,
        out: &mut Burst,
    ) -> Taken {
        if out.room() == 0 {
            return Taken::InPart;
        }
        match arrival.gso {
            None => {
                take_one(arrival, context, out);
                Taken::Whole
            }
            Some(gso) => self.take_segments(arrival, gso, context, out),
        }
    }

    fn take_segments(
        &mut self,
        arrival: &Arrival<'_>,
        gso: GsoInfo,
        context: &mut PortContext<'_>,
        out: &mut Burst,
    ) -> Taken {
        let known = matches!(gso.kind, GsoKind::TcpV4 | GsoKind::TcpV6 | GsoKind::Udp);
        let frame = Oversize::new(arrival.data).ok().filter(|frame| {
            known && gso.segment_bytes > 0 && frame.count(gso.segment_bytes) <= MAX_SEGMENTS
        });
        let Some(frame) = frame else {
            context.drops.add(DropReason::Oversize, 1);
            return Taken::Whole;
        };
        let mut seen = 0;
        let cut = &mut self.cut;
        let taken = frame.segments(gso.segment_bytes, |headers, payload| {
            if seen < *cut {
                seen += 1;
                return true;
            }
            if out.room() == 0 {
                return false;
            }
            seen += 1;
            *cut = seen;
            if let Some(mut mbuf) = alloc(headers.len() + payload.len(), context) {
                let fits = mbuf.copy_from(headers) && mbuf.append(payload);
                debug_assert!(fits, "alloc gives room for what it is asked for");
                give(mbuf, arrival.tag, context, out);
            }
            true
        });
        match taken {
            Ok(taken) if taken < frame.count(gso.segment_bytes) => Taken::InPart,
            _ => {
                self.cut = 0;
                Taken::Whole
            }
        }
    }
}

#[inline]
fn take_one(arrival: &Arrival<'_>, context: &mut PortContext<'_>, out: &mut Burst) {
    let Some(mut mbuf) = alloc(arrival.data.len(), context) else {
        return;
    };
    let fits = mbuf.copy_from(arrival.data);
    debug_assert!(fits, "alloc gives room for what it is asked for");
    if let Some((start, offset)) = arrival.checksum
        && !complete(mbuf.data_mut(), start, offset)
    {
        context.drops.add(DropReason::BadHeader, 1);
        return context.pools.free(mbuf);
    }
    give(mbuf, arrival.tag, context, out);
}

/// An mbuf for `len` bytes; without one the frame is counted.
#[inline]
fn alloc(len: usize, context: &mut PortContext<'_>) -> Option<Mbuf> {
    let mbuf = context.pools.alloc_for(len);
    if mbuf.is_none() {
        let too_long = len > BufSize::Large.data_bytes();
        let reason = if too_long {
            DropReason::TooLong
        } else {
            DropReason::NoMbuf
        };
        context.drops.add(reason, 1);
    }
    mbuf
}

#[inline]
fn give(mut mbuf: Mbuf, tag: Option<VlanTag>, context: &mut PortContext<'_>, out: &mut Burst) {
    FrameInfo::begin(&mut mbuf, tag);
    if let Err(mbuf) = out.push(mbuf) {
        // Not reached: whoever calls this has looked for room.
        context.pools.free(mbuf);
    }
}

/// Fills in the checksum that the kernel left open; false if its field is not in the frame.
fn complete(frame: &mut [u8], start: u16, offset: u16) -> bool {
    if offset != SCTP_CHECKSUM {
        return checksum::complete(frame, start, offset).is_ok();
    }
    let Some(covered) = frame.get_mut(usize::from(start)..) else {
        return false;
    };
    let field = usize::from(offset)..usize::from(offset) + 4;
    let Some(bytes) = covered.get_mut(field.clone()) else {
        return false;
    };
    bytes.fill(0);
    // Written as the table gives it, lowest byte first (RFC 9260, appendix A).
    let sum = crc32c(covered).to_le_bytes();
    covered[field].copy_from_slice(&sum);
    true
}

#[cfg(test)]
mod tests;
