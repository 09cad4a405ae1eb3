// SPDX-License-Identifier: Apache-2.0
//! Window line: bounds of the three connections of a line, in a cache line of its own that TCP alone touches.

use zerocopy::{FromZeros, Immutable};

use super::super::phase::End;
use super::super::tcp::{Bounds, EndBounds, OwnBounds};
use super::line::WAYS;

/// Bounds of three connections, packed.
#[derive(Debug, Clone, Copy, FromZeros, Immutable)]
#[repr(C, align(64))]
pub(crate) struct WindowLine {
    end: [[u32; 2]; WAYS],
    acked: [[u32; 2]; WAYS],
    largest: [[u16; 2]; WAYS],
    /// Scales of both ends, the opener's in the lower four bits.
    scales: [u8; WAYS],
    /// Two bits for each way: whether selective acknowledgements are agreed, and whether all is strict.
    flags: u8,
}

const _: () = assert!(size_of::<WindowLine>() == 64);

impl WindowLine {
    /// Bounds of a way.
    #[inline(always)]
    pub(crate) fn load(&self, way: usize) -> Bounds {
        let scales = [self.scales[way] & 0xf, self.scales[way] >> 4];
        let end = |n: usize| EndBounds {
            end: self.end[way][n],
            acked: self.acked[way][n],
            largest: self.largest[way][n],
            scale: scales[n],
        };
        let flags = self.flags >> (2 * way);
        Bounds {
            ends: [end(0), end(1)],
            sack: flags & 1 != 0,
            strict: flags & 2 != 0,
        }
    }

    /// Bounds of a way as its end `from` has them.
    #[inline(always)]
    pub(crate) fn load_of(&self, way: usize, from: End) -> OwnBounds {
        let (own, peer) = (from.index(), from.other().index());
        let scales = u32::from(self.scales[way]);
        let end = |n: usize| EndBounds {
            end: self.end[way][n],
            acked: self.acked[way][n],
            largest: self.largest[way][n],
            scale: (scales >> (4 * n)).to_le_bytes()[0] & 0xf,
        };
        let flags = self.flags >> (2 * way);
        OwnBounds {
            own: end(own),
            peer: end(peer),
            sack: flags & 1 != 0,
            strict: flags & 2 != 0,
        }
    }

    /// Keeps what an ACK of `from` changes in the midst of a connection.
    #[inline(always)]
    pub(crate) fn store_ack(&mut self, way: usize, from: End, bounds: &OwnBounds) {
        let (own, peer) = (from.index(), from.other().index());
        self.end[way][own] = bounds.own.end;
        self.largest[way][own] = bounds.own.largest;
        self.acked[way][peer] = bounds.peer.acked;
        self.end[way][peer] = bounds.peer.end;
    }

    /// Keeps all of a way.
    pub(crate) fn store(&mut self, way: usize, bounds: &Bounds) {
        let [opener, responder] = &bounds.ends;
        self.end[way] = [opener.end, responder.end];
        self.acked[way] = [opener.acked, responder.acked];
        self.largest[way] = [opener.largest, responder.largest];
        self.scales[way] = opener.scale & 0xf | responder.scale << 4;
        let flags = u8::from(bounds.sack) | u8::from(bounds.strict) << 1;
        self.flags = self.flags & !(3 << (2 * way)) | flags << (2 * way);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connections::tcp::UNSCALED;

    #[test]
    fn bounds_there_and_back_without_touching_the_neighbours() {
        let bounds = |n: u32| {
            let end = |m: u32| EndBounds {
                end: n * 10 + m,
                acked: u32::MAX - n - m,
                largest: u16::try_from(n * 7 + m).unwrap_or(0),
                scale: [UNSCALED, 14, 3, 0][(n + m) as usize % 4],
            };
            Bounds {
                ends: [end(0), end(1)],
                sack: n.is_multiple_of(2),
                strict: n.is_multiple_of(3),
            }
        };
        let mut line = WindowLine::new_zeroed();
        for round in 0..4 {
            for way in 0..3u32 {
                line.store(way as usize, &bounds(round + way));
            }
            for way in 0..3u32 {
                let expected = bounds(round + way);
                assert_eq!(line.load(way as usize), expected);
                for from in End::BOTH {
                    let seen = line.load_of(way as usize, from);
                    let ends = [seen.own, seen.peer];
                    let (own, peer) = (from.index(), from.other().index());
                    assert_eq!(ends, [expected.ends[own], expected.ends[peer]]);
                    assert_eq!((seen.sack, seen.strict), (expected.sack, expected.strict));
                    line.store_ack(way as usize, from, &seen);
                }
                assert_eq!(line.load(way as usize), expected);
            }
        }
    }
}
