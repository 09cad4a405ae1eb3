// SPDX-License-Identifier: Apache-2.0
//! TCP connection of the naive tracker: facts about both ends.

use super::Effect;
use crate::connections::event::Event;
use crate::connections::frame::TrackedFrame;
use crate::connections::outcome::Cause;
use crate::connections::tcp::{Segment, Tracking};
use crate::connections::timeouts::Timeouts;

/// Progress of the handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Handshake {
    Asked,
    Crossed,
    Answered,
    Done,
    /// Picked up by a frame of this end.
    PickedUp(usize),
}

/// Facts about one end, in bytes.
#[derive(Debug, Clone, Copy, Default)]
struct Side {
    heard: bool,
    closed: bool,
    sent: u32,
    acked: u32,
    window: u32,
    scale: Option<u8>,
}

/// Facts about a connection. End 0 has opened it.
#[derive(Debug, Clone)]
pub(super) struct NaiveTcp {
    tracking: Tracking,
    handshake: Handshake,
    sides: [Side; 2],
    sack: bool,
    over: bool,
    reset: bool,
    doubted_by: Option<usize>,
    syn_in_midst: Option<(usize, Segment)>,
}

/// Whether `a` is behind `b` on the circle of sequence numbers.
#[allow(clippy::cast_possible_wrap, reason = "the sign is what is asked for")]
fn behind(a: u32, b: u32) -> bool {
    (b.wrapping_sub(a) as i32) < 0
}

fn furthest(a: u32, b: u32) -> u32 {
    if behind(b, a) { b } else { a }
}

const GOES: Effect = Effect::Goes { renew: true };
const UNTOUCHED: Effect = Effect::Goes { renew: false };

impl NaiveTcp {
    pub(super) fn opened(frame: &TrackedFrame, tracking: Tracking) -> NaiveTcp {
        let mut tcp = NaiveTcp {
            tracking,
            handshake: Handshake::Asked,
            sides: [Side::default(); 2],
            sack: false,
            over: false,
            reset: false,
            doubted_by: None,
            syn_in_midst: None,
        };
        tcp.asks(&frame.segment);
        tcp
    }

    pub(super) fn picked_up(frame: &TrackedFrame, by_opener: bool, tracking: Tracking) -> NaiveTcp {
        let mut tcp = NaiveTcp::opened(frame, tracking);
        let from = usize::from(!by_opener);
        let segment = &frame.segment;
        tcp.handshake = Handshake::PickedUp(from);
        tcp.sack = true;
        tcp.sides = [Side {
            scale: Some(14),
            ..Side::default()
        }; 2];
        tcp.sides[from].heard = true;
        tcp.sides[from].sent = segment.end;
        tcp.sides[from].acked = segment.seq;
        tcp.sides[from].window = u32::from(segment.window.max(1)) << 14;
        tcp.sides[1 - from].sent = segment.ack;
        tcp.sides[1 - from].acked = segment.ack;
        tcp
    }

    pub(super) fn is_new(&self) -> bool {
        self.handshake == Handshake::Asked
    }

    pub(super) fn seconds(&self, timeouts: &Timeouts) -> u32 {
        let closed = self.sides.iter().filter(|side| side.closed).count();
        let data_is_open = self.has_windows() && self.sides.iter().any(|s| s.acked != s.sent);
        if self.reset {
            timeouts.reset
        } else if self.over {
            timeouts.time_wait
        } else if closed == 2 {
            timeouts.last_ack
        } else if self.doubted_by.is_some() {
            timeouts.reset
        } else if closed == 1 {
            timeouts.half_closed
        } else {
            match self.handshake {
                Handshake::Asked => timeouts.syn_sent,
                Handshake::Crossed | Handshake::Answered => timeouts.syn_received,
                Handshake::PickedUp(_) => timeouts.picked_up,
                Handshake::Done if data_is_open => timeouts.unanswered.min(timeouts.established),
                Handshake::Done => timeouts.established,
            }
        }
    }

    fn has_windows(&self) -> bool {
        self.tracking != Tracking::Flags
    }

    fn is_established(&self) -> bool {
        self.handshake == Handshake::Done && !self.over && !self.reset
    }

    fn both_closed(&self) -> bool {
        self.sides[0].closed && self.sides[1].closed
    }

    /// SYN of the opener.
    fn asks(&mut self, syn: &Segment) {
        self.sides = [side_of_syn(syn), Side::default()];
        self.sack = syn.sack_permitted;
    }

    /// First SYN of the responder.
    fn answers(&mut self, syn: &Segment) {
        self.sides[1] = side_of_syn(syn);
        self.sack = self.sack && syn.sack_permitted;
        for end in [0, 1] {
            let scales = (self.sides[0].scale, self.sides[1].scale);
            if let ((Some(_), Some(_)), Some(scale)) = (scales, self.sides[end].scale) {
                // Rounded up to what a scaled window can say.
                let unit = 1 << scale;
                self.sides[end].window = self.sides[end].window.div_ceil(unit) * unit;
            }
        }
        if self.sides.iter().any(|side| side.scale.is_none()) {
            self.sides[0].scale = None;
            self.sides[1].scale = None;
        }
        if syn.has_ack {
            self.sides[0].acked = syn.ack;
        }
    }

    pub(super) fn step(&mut self, from: usize, frame: &TrackedFrame) -> Effect {
        let segment = &frame.segment;
        match frame.event {
            Event::Piece | Event::Data | Event::Answer => UNTOUCHED,
            Event::Syn => self.syn(from, segment),
            Event::SynAck => self.syn_ack(from, segment),
            Event::Rst => self.rst(from, segment),
            Event::Ack => self.ack(from, segment, false),
            Event::Fin => self.ack(from, segment, true),
        }
    }

    fn syn(&mut self, from: usize, syn: &Segment) -> Effect {
        if self.over || self.reset || self.both_closed() {
            return Effect::Reopens;
        }
        match (self.handshake, from) {
            (Handshake::PickedUp(_), _) => Effect::Reopens,
            (Handshake::Asked, 0) => {
                self.asks(syn);
                UNTOUCHED
            }
            (Handshake::Asked, _) => {
                self.answers(syn);
                self.handshake = Handshake::Crossed;
                GOES
            }
            _ => {
                self.syn_in_midst = Some((from, *syn));
                UNTOUCHED
            }
        }
    }

    fn syn_ack(&mut self, from: usize, syn_ack: &Segment) -> Effect {
        let windows = self.has_windows();
        let peer = self.sides[1 - from];
        let is_answer = behind(syn_ack.ack, peer.acked) && !behind(syn_ack.ack, peer.sent);
        let is_live = !self.over && !self.reset && !self.both_closed();
        match self.handshake {
            Handshake::Asked if from == 0 => Effect::Invalid(Cause::OutOfPlace),
            Handshake::Asked | Handshake::Crossed if windows && !is_answer && is_live => {
                Effect::Invalid(Cause::AckOver)
            }
            Handshake::Asked => {
                self.answers(syn_ack);
                self.handshake = Handshake::Answered;
                GOES
            }
            Handshake::Crossed if is_live => {
                if from == 1 {
                    self.sides[0].acked = syn_ack.ack;
                }
                self.handshake = Handshake::Answered;
                GOES
            }
            before => {
                let Some((by, syn)) = self.syn_in_midst else {
                    return UNTOUCHED;
                };
                if !windows || by == from || syn.end != syn_ack.ack {
                    return UNTOUCHED;
                }
                if from == 0 {
                    return Effect::Invalid(Cause::OutOfPlace);
                }
                self.asks(&Segment {
                    seq: syn.end.wrapping_sub(1),
                    ..syn
                });
                self.answers(syn_ack);
                (self.syn_in_midst, self.doubted_by) = (None, None);
                (self.over, self.reset) = (false, false);
                self.handshake = Handshake::Answered;
                let renew = before != Handshake::Answered || !is_live;
                Effect::Goes { renew }
            }
        }
    }

    fn rst(&mut self, from: usize, rst: &Segment) -> Effect {
        let side = self.sides[from];
        let peer = self.sides[1 - from];
        if self.reset {
            return UNTOUCHED;
        }
        if let Handshake::PickedUp(by) = self.handshake {
            return if by == from { UNTOUCHED } else { Effect::Ends };
        }
        if self.has_windows() {
            if self.handshake == Handshake::Asked && from == 0 {
                return if rst.seq == side.sent {
                    Effect::Ends
                } else {
                    UNTOUCHED
                };
            }
            if self.handshake == Handshake::Asked {
                let is_answer = behind(rst.ack, peer.acked) && !behind(rst.ack, peer.sent);
                return match (rst.has_ack, rst.ack) {
                    (true, _) if is_answer => Effect::Ends,
                    (true, 0) => UNTOUCHED,
                    _ => Effect::Invalid(Cause::RstWindow),
                };
            }
            if rst.seq == side.acked || rst.seq == side.sent {
                self.reset = true;
                self.doubted_by = None;
                return GOES;
            }
            let edge = side.acked.wrapping_add(peer.window.max(1));
            if behind(side.acked, rst.seq) || behind(rst.seq, edge) {
                return Effect::Invalid(Cause::RstWindow);
            }
        }
        if !self.is_established() || self.both_closed() {
            return UNTOUCHED;
        }
        let renew = self.doubted_by != Some(from);
        self.doubted_by = Some(from);
        Effect::Goes { renew }
    }

    fn ack(&mut self, from: usize, segment: &Segment, fin: bool) -> Effect {
        if self.reset {
            return UNTOUCHED;
        }
        match (self.handshake, from, fin) {
            (Handshake::Asked, 1, false) => return UNTOUCHED,
            (Handshake::Asked, ..) => return Effect::Invalid(Cause::OutOfPlace),
            (Handshake::Crossed, 1, true) => return UNTOUCHED,
            _ => {}
        }
        let peer = self.sides[1 - from];
        let is_news = behind(segment.ack, peer.acked) && !behind(segment.ack, peer.sent);
        if self.has_windows() {
            match self.look_at_numbers(from, segment) {
                Ok(()) => self.take(from, segment),
                Err((cause, late)) if !late || self.tracking == Tracking::Strict => {
                    return Effect::Invalid(cause);
                }
                Err(_) => return UNTOUCHED,
            }
        }
        // The timer of what is over, and of what nobody has confirmed, runs on.
        if self.over {
            return Effect::Goes { renew: fin };
        }
        if self.both_closed() {
            let everything = self.sides.iter().all(|side| side.acked == side.sent);
            self.over = if self.has_windows() { everything } else { !fin };
            return GOES;
        }
        match self.handshake {
            Handshake::PickedUp(by) if by == from => return UNTOUCHED,
            Handshake::Crossed | Handshake::Answered if from == 0 => {
                if self.has_windows() && !is_news {
                    return UNTOUCHED;
                }
                self.handshake = Handshake::Done;
            }
            Handshake::Crossed => {
                self.handshake = Handshake::Answered;
                return GOES;
            }
            Handshake::Answered if !fin => return UNTOUCHED,
            _ => self.handshake = Handshake::Done,
        }
        self.sides[from].closed |= fin;
        if self.both_closed() {
            self.doubted_by = None;
            return GOES;
        }
        match self.doubted_by {
            Some(by) if by == from => UNTOUCHED,
            _ => {
                self.doubted_by = None;
                GOES
            }
        }
    }

    /// Looks where a segment lies; `Err` says why it does not fit, and whether it is merely late.
    fn look_at_numbers(&self, from: usize, segment: &Segment) -> Result<(), (Cause, bool)> {
        let (own, peer) = (self.sides[from], self.sides[1 - from]);
        if !own.heard || !peer.heard {
            return Ok(());
        }
        let right = if self.sack { segment.sack } else { segment.ack };
        if behind(right, peer.sent) {
            return Err((Cause::AckOver, false));
        }
        let edge = own.acked.wrapping_add(peer.window);
        let tolerated = match self.tracking {
            Tracking::Strict => edge,
            Tracking::Window | Tracking::Flags => edge.wrapping_add(peer.window),
        };
        if behind(segment.seq, edge) && behind(segment.seq, tolerated) {
            return Err((Cause::SeqOver, false));
        }
        if behind(own.sent.wrapping_sub(peer.window), segment.end) {
            return Err((Cause::SeqBelow, true));
        }
        if behind(peer.sent.wrapping_sub(own.window.max(66_000)), segment.ack) {
            return Err((Cause::AckBelow, true));
        }
        Ok(())
    }

    fn take(&mut self, from: usize, segment: &Segment) {
        let both_heard = self.sides[0].heard && self.sides[1].heard;
        let own = &mut self.sides[from];
        let window = u32::from(segment.window.max(1)) << own.scale.unwrap_or(0);
        own.heard = true;
        own.sent = furthest(own.sent, segment.end);
        own.window = own.window.max(window);
        let peer = &mut self.sides[1 - from];
        peer.acked = furthest(peer.acked, segment.ack);
        if !both_heard {
            peer.sent = furthest(peer.sent, segment.ack);
        }
    }
}

fn side_of_syn(syn: &Segment) -> Side {
    Side {
        heard: true,
        closed: false,
        sent: syn.end,
        acked: syn.seq,
        window: u32::from(syn.window.max(1)),
        scale: syn.scale,
    }
}
