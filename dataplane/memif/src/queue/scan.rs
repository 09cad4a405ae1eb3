// SPDX-License-Identifier: Apache-2.0
//! General path of receiving: descriptors are read and checked first, then the packets copied out,
//! each of any number of descriptors.

use sluice_mem::SharedRegion;

use super::counters::RxCounters;
use super::ring::Ring;
use crate::fault::Fault;
use crate::layout::{Descriptor, MAX_CHAIN, MAX_PACKET};
use sluice_peer::checks::check;
use sluice_peer::{BURST, Sink};

/// Most descriptors of one call: a burst of single ones and the longest chain.
pub(super) const SEGMENTS: usize = 4 * BURST;
const _: () = assert!(SEGMENTS >= BURST + MAX_CHAIN);
const _: () = assert!(MAX_PACKET <= u16::MAX as usize);

/// Checked descriptor.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Segment {
    offset: u32,
    /// At most [`MAX_PACKET`].
    len: u16,
    region: u16,
    /// Whether the packet goes on in the next one.
    next: bool,
}

/// Range of descriptors that one call reads.
pub(super) struct Scan<'ring> {
    pub(super) ring: &'ring Ring,
    pub(super) next: u16,
    pub(super) ready: u16,
    pub(super) max: usize,
}

impl Scan<'_> {
    /// Reads and checks descriptors into `segments`. Returns the number of those that belong to whole
    /// packets, and the number of packets.
    pub(super) fn run(
        &self,
        segments: &mut [Segment; SEGMENTS],
        check: impl Fn(u16, &Descriptor) -> Result<(), Fault>,
    ) -> Result<(usize, usize), Fault> {
        let mut whole = 0;
        let mut packets = 0;
        let mut chain = 0;
        let mut bytes = 0_u32;
        let mut seen = 0;
        let (mask, ready) = (self.ring.mask(), usize::from(self.ready));
        let mut slot = self.next;
        for segment in segments.iter_mut().take(ready) {
            let at = slot & mask;
            slot = slot.wrapping_add(1);
            let descriptor = self.ring.read(at);
            check(at, &descriptor)?;
            bytes = bytes.saturating_add(descriptor.length);
            check!(
                "long-packet",
                bytes as usize <= MAX_PACKET,
                Fault::LongPacket(bytes)
            );
            #[allow(
                clippy::cast_possible_truncation,
                reason = "at most MAX_PACKET, just checked"
            )]
            let len = descriptor.length as u16;
            *segment = Segment {
                offset: descriptor.offset,
                len,
                region: descriptor.region,
                next: descriptor.has_next(),
            };
            seen += 1;
            if descriptor.has_next() {
                chain += 1;
                check!("long-chain", chain != MAX_CHAIN, Fault::LongChain);
            } else {
                (chain, bytes) = (0, 0);
                whole = seen;
                packets += 1;
                if packets == self.max {
                    break;
                }
            }
        }
        // A chain cut by the end of `segments` is taken next time; one cut by the peer never ends.
        check!(
            "open-chain",
            whole == seen || seen != ready,
            Fault::OpenChain
        );
        Ok((whole, packets))
    }
}

/// Copies whole packets out.
pub(super) fn copy<'region>(
    mut segments: &[Segment],
    region: impl Fn(usize) -> Option<&'region SharedRegion>,
    sink: &mut impl Sink,
    counters: &mut RxCounters,
) -> Result<(), Fault> {
    while !segments.is_empty() {
        // Up to and with the first that does not go on; the scan left no open chain.
        let last = segments.iter().position(|segment| !segment.next);
        let (packet, later) = segments.split_at(last.map_or(segments.len(), |last| last + 1));
        segments = later;
        let len = packet.iter().map(|segment| usize::from(segment.len)).sum();
        let Some(mut to) = room_for(len, sink, counters) else {
            continue;
        };
        for segment in packet {
            let number = segment.region;
            let memory = region(usize::from(number)).ok_or(Fault::Region(number))?;
            let Some((now, left)) = to.split_at_mut_checked(usize::from(segment.len)) else {
                return Err(Fault::MemoryGone);
            };
            memory
                .copy_in(segment.offset as usize, now)
                .map_err(|_| Fault::MemoryGone)?;
            to = left;
        }
    }
    Ok(())
}

/// Room for a packet of `len` bytes, which is counted as received; `None` if it is empty or the sink
/// has no room, which is counted too.
fn room_for<'s>(
    len: usize,
    sink: &'s mut impl Sink,
    count: &mut RxCounters,
) -> Option<&'s mut [u8]> {
    if len == 0 {
        count.empty += 1;
        return None;
    }
    let to = sink.reserve(len).filter(|to| to.len() == len);
    if to.is_some() {
        count.packets += 1;
        count.bytes += len as u64;
    } else {
        count.no_room += 1;
    }
    to
}

pub(super) fn outside(descriptor: &Descriptor) -> Fault {
    Fault::Range {
        offset: descriptor.offset,
        length: descriptor.length,
    }
}
