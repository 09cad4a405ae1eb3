// SPDX-License-Identifier: Apache-2.0
//! Bounds of the sequence numbers of one connection, after van Rooij (2001).
//!
//! Of each end three numbers are kept: the highest sequence number that it has sent, the highest of them that
//! its peer has acknowledged, and the largest window that it has advertised. The highest number that it may
//! send is the acknowledged one plus the peer's largest window: it is reckoned, not kept, so that a window
//! that closes does not move it back.

use super::super::outcome::Cause;
use super::super::phase::End;
use super::segment::{Segment, is_after};

/// Scale of an end whose SYN offered none.
pub(crate) const UNSCALED: u8 = 15;
/// Scale of an end whose SYN was not seen: the largest there is, so that no window is taken for too small.
const UNKNOWN_SCALE: u8 = 14;
/// Least distance below the highest number sent at which an ACK is late: data may be in flight that long,
/// whatever the windows (Linux and van Rooij have the same).
const LATE_ACK_BYTES: u32 = 66_000;

/// Numbers of one end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct EndBounds {
    /// Sequence number behind the last byte that it has sent.
    pub(crate) end: u32,
    /// Highest acknowledgement that its peer has sent.
    pub(crate) acked: u32,
    /// Largest window that it has advertised, in units of its scale; 0: it was not heard of yet.
    pub(crate) largest: u16,
    /// Scale of its windows, 0 to 14, or [`UNSCALED`].
    pub(crate) scale: u8,
}

impl EndBounds {
    /// Bounds of an end by its SYN.
    fn of_syn(segment: &Segment) -> EndBounds {
        EndBounds {
            end: segment.end,
            acked: segment.seq,
            largest: segment.window.max(1),
            scale: segment.scale.unwrap_or(UNSCALED),
        }
    }

    fn is_seen(&self) -> bool {
        self.largest != 0
    }

    /// Largest window in bytes, at least 1: a probe of a window of 0 is one byte.
    fn window_bytes(&self) -> u32 {
        let scale = if self.scale > UNKNOWN_SCALE {
            0
        } else {
            self.scale
        };
        u32::from(self.largest.max(1)) << scale
    }
}

/// Numbers of both ends of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Bounds {
    /// Ends, in the order of [`End::BOTH`].
    pub(crate) ends: [EndBounds; 2],
    /// Whether both ends take selective acknowledgements; until the second SYN, whether the first does.
    pub(crate) sack: bool,
    /// Whether all that lies outside is invalid.
    pub(crate) strict: bool,
}

/// Position of a segment among the bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fit {
    /// Inside, or over the edge by less than a window.
    Inside,
    /// An old segment or a late ACK: it passes and touches nothing, or is invalid if all is strict.
    Late(Cause),
    /// Impossible.
    Far(Cause),
}

impl Bounds {
    /// Bounds of a connection that `syn` opens.
    pub(crate) fn of_syn(syn: &Segment, strict: bool) -> Bounds {
        let mut bounds = Bounds {
            strict,
            ..Bounds::default()
        };
        bounds.restart(syn);
        bounds
    }

    /// Bounds of a connection whose beginning was not seen, by a segment of `from`: the scales are unknown, and
    /// nothing is checked until both ends were heard of.
    pub(crate) fn picked_up(from: End, segment: &Segment, strict: bool) -> Bounds {
        let mut ends = [EndBounds {
            scale: UNKNOWN_SCALE,
            ..EndBounds::default()
        }; 2];
        let own = &mut ends[from.index()];
        (own.end, own.acked) = (segment.end, segment.seq);
        own.largest = segment.window.max(1);
        let peer = &mut ends[from.other().index()];
        (peer.end, peer.acked) = (segment.ack, segment.ack);
        Bounds {
            ends,
            sack: true,
            strict,
        }
    }

    /// Starts the opener anew by its SYN.
    pub(super) fn restart(&mut self, syn: &Segment) {
        self.ends = [EndBounds::of_syn(syn), EndBounds::default()];
        self.sack = syn.sack_permitted;
    }

    /// Takes the responder's SYN, with or without ACK, after which the options of both are known.
    pub(super) fn answer(&mut self, syn: &Segment) {
        self.ends[1] = EndBounds::of_syn(syn);
        self.sack &= syn.sack_permitted;
        let is_scaled = self.ends.iter().all(|end| end.scale != UNSCALED);
        for end in &mut self.ends {
            if is_scaled {
                // The window of a SYN is never scaled (RFC 7323, 2.2).
                end.largest = end.largest.div_ceil(1 << end.scale).max(1);
            } else {
                end.scale = 0;
            }
        }
        if syn.has_ack {
            self.ends[0].acked = syn.ack;
        }
    }

    /// Whether `ack` of `from` acknowledges something that was sent and not acknowledged before.
    pub(super) fn is_new_ack(&self, from: End, ack: u32) -> bool {
        let peer = &self.ends[from.other().index()];
        is_after(ack, peer.acked) && !is_after(ack, peer.end)
    }

    /// Whether everything that both ends have sent is acknowledged.
    pub(super) fn is_all_acked(&self) -> bool {
        self.ends.iter().all(|end| end.acked == end.end)
    }

    /// Whether an end has sent what is not acknowledged.
    pub(crate) fn is_unanswered(&self) -> bool {
        !self.is_all_acked()
    }

    /// Highest sequence number that `from` may send.
    pub(super) fn edge(&self, from: End) -> u32 {
        let peer = &self.ends[from.other().index()];
        self.ends[from.index()]
            .acked
            .wrapping_add(peer.window_bytes())
    }

    /// Whether `seq` is exactly what the receiver expects next of `from`, or right behind what `from` sent last.
    pub(super) fn is_exact(&self, from: End, seq: u32) -> bool {
        let own = &self.ends[from.index()];
        seq == own.acked || seq == own.end
    }

    /// Whether `seq` of `from` lies between what is acknowledged and the receiver's edge.
    pub(super) fn is_in_window(&self, from: End, seq: u32) -> bool {
        let own = &self.ends[from.index()];
        !is_after(own.acked, seq) && !is_after(seq, self.edge(from))
    }

    /// Whether a segment of `from` that begins at `seq` may be in flight (RFC 5927, 4.1).
    pub(crate) fn is_in_flight(&self, from: End, seq: u32) -> bool {
        let own = &self.ends[from.index()];
        !own.is_seen() || !is_after(own.acked, seq) && !is_after(seq, own.end)
    }

    /// Bounds as `from` has them.
    #[inline(always)]
    fn seen_by(&self, from: End) -> OwnBounds {
        OwnBounds {
            own: self.ends[from.index()],
            peer: self.ends[from.other().index()],
            sack: self.sack,
            strict: self.strict,
        }
    }

    /// Compares a segment of `from` with the four bounds.
    pub(super) fn fit(&self, from: End, segment: &Segment) -> Fit {
        self.seen_by(from).fit(segment)
    }

    /// Takes the numbers of a segment of `from` that fits.
    pub(super) fn take(&mut self, from: End, segment: &Segment) {
        let mut bounds = self.seen_by(from);
        bounds.take(segment);
        self.ends[from.index()] = bounds.own;
        self.ends[from.other().index()] = bounds.peer;
    }

    /// Takes the acknowledgement of a SYN+ACK of `from`, whose window is not scaled.
    pub(super) fn take_ack(&mut self, from: End, ack: u32) {
        self.ends[from.other().index()].acked = ack;
    }
}

/// Numbers of both ends, as the sender of a segment has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OwnBounds {
    /// Numbers of the sender.
    pub(crate) own: EndBounds,
    /// Numbers of the receiver.
    pub(crate) peer: EndBounds,
    /// As in [`Bounds`].
    pub(crate) sack: bool,
    /// As in [`Bounds`].
    pub(crate) strict: bool,
}

impl OwnBounds {
    /// Compares a segment with the four bounds.
    #[inline(always)]
    pub(super) fn fit(&self, segment: &Segment) -> Fit {
        let (own, peer) = (&self.own, &self.peer);
        let window = peer.window_bytes();
        let edge = own.acked.wrapping_add(window);
        let in_flight = own.window_bytes().max(LATE_ACK_BYTES);
        let sack = if self.sack { segment.sack } else { segment.ack };
        let is_over_ack = is_after(sack, peer.end);
        let is_over = is_after(segment.seq, edge);
        let is_below = is_after(own.end.wrapping_sub(window), segment.end);
        let is_late_ack = is_after(peer.end.wrapping_sub(in_flight), segment.ack);
        // One branch for all four: nearly always none of them is so.
        if !(is_over_ack | is_over | is_below | is_late_ack) || !own.is_seen() || !peer.is_seen() {
            return Fit::Inside;
        }
        let is_far = self.strict || is_after(segment.seq, edge.wrapping_add(window));
        if is_over_ack {
            Fit::Far(Cause::AckOver)
        } else if is_over && is_far {
            Fit::Far(Cause::SeqOver)
        } else if is_below {
            Fit::Late(Cause::SeqBelow)
        } else if is_late_ack {
            Fit::Late(Cause::AckBelow)
        } else {
            Fit::Inside
        }
    }

    /// Takes the numbers of a segment that fits. Its end moves even over the edge: else all later ACKs would be of what
    /// was never sent, and the connection dead.
    #[inline(always)]
    pub(super) fn take(&mut self, segment: &Segment) {
        let (own, peer) = (&mut self.own, &mut self.peer);
        let were_seen = own.is_seen() && peer.is_seen();
        own.end = later(own.end, segment.end);
        own.largest = own.largest.max(segment.window.max(1));
        peer.acked = later(peer.acked, segment.ack);
        if !were_seen {
            peer.end = later(peer.end, segment.ack);
        }
    }
}

/// Later of two sequence numbers.
#[inline(always)]
fn later(a: u32, b: u32) -> u32 {
    if is_after(b, a) { b } else { a }
}
