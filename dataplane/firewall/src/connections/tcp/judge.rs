// SPDX-License-Identifier: Apache-2.0
//! Judgement of a TCP segment by flags and windows.

use super::super::event::Event;
use super::super::outcome::{Cause, Outcome};
use super::super::phase::{End, Phase};
use super::machine::{by_flags, doubts};
use super::segment::Segment;
use super::window::{Bounds, Fit, OwnBounds};

/// SYN that passed in the midst of a connection: the tracker may be out of step, which the answer shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SynSeen {
    /// Sender.
    pub(crate) from: End,
    /// Sequence number behind it.
    pub(crate) end: u32,
    /// Window, unscaled.
    pub(crate) window: u16,
    /// Scale that it offers.
    pub(crate) scale: Option<u8>,
    /// Whether it permits selective acknowledgements.
    pub(crate) sack_permitted: bool,
}

impl SynSeen {
    fn new(from: End, syn: &Segment) -> SynSeen {
        SynSeen {
            from,
            end: syn.end,
            window: syn.window,
            scale: syn.scale,
            sack_permitted: syn.sack_permitted,
        }
    }

    /// Segment that it was, as far as bounds are made of it.
    fn segment(&self) -> Segment {
        Segment {
            seq: self.end.wrapping_sub(1),
            end: self.end,
            window: self.window,
            scale: self.scale,
            sack_permitted: self.sack_permitted,
            ..Segment::default()
        }
    }
}

/// Outcome of a segment that does not fit; `None` if it does.
#[inline(always)]
fn unfit(fit: Fit, strict: bool) -> Option<Outcome> {
    match fit {
        Fit::Inside => None,
        Fit::Late(cause) if strict => Some(Outcome::Invalid(cause)),
        Fit::Late(_) => Some(Outcome::Untouched),
        Fit::Far(cause) => Some(Outcome::Invalid(cause)),
    }
}

/// Judges an ACK of an established connection like [`judge`]: nearly every segment is one.
#[inline(always)]
pub(crate) fn judge_ack(segment: &Segment, bounds: &mut OwnBounds) -> Outcome {
    if let Some(outcome) = unfit(bounds.fit(segment), bounds.strict) {
        return outcome;
    }
    bounds.take(segment);
    Outcome::Pass {
        next: Phase::Established,
        renew: true,
    }
}

/// Judges a segment of `from`, and takes its numbers if it passes. `syn` is the SYN that passed in the midst of
/// the connection, if one did.
pub(crate) fn judge(
    phase: Phase,
    from: End,
    event: Event,
    segment: &Segment,
    bounds: &mut Bounds,
    syn: &mut Option<SynSeen>,
) -> Outcome {
    match (phase, event) {
        (_, Event::Ack | Event::Fin) => {}
        (Phase::SynSent, _) => return syn_sent(from, event, segment, bounds),
        (_, Event::Syn) => return syn_in_the_midst(phase, from, event, segment, syn),
        (_, Event::SynAck) => return syn_ack(phase, from, event, segment, bounds, syn),
        (_, Event::Rst) => return rst(phase, from, event, segment, bounds),
        (_, Event::Data | Event::Answer | Event::Piece) => return by_flags(phase, from, event),
    }
    let outcome = by_flags(phase, from, event);
    let Outcome::Pass { next, renew } = outcome else {
        return outcome;
    };
    if let Some(outcome) = unfit(bounds.fit(from, segment), bounds.strict) {
        return outcome;
    }
    let acks = bounds.is_new_ack(from, segment.ack);
    bounds.take(from, segment);
    match (phase, next) {
        // It must be the responder's SYN that the opener acknowledges.
        (Phase::SynReceived | Phase::SynCrossed, Phase::Established | Phase::OpenerClosed)
            if !acks =>
        {
            Outcome::Pass {
                next: phase,
                renew: false,
            }
        }
        (Phase::LastAck, _) => Outcome::Pass {
            next: if bounds.is_all_acked() {
                Phase::TimeWait
            } else {
                Phase::LastAck
            },
            renew: true,
        },
        _ => Outcome::Pass { next, renew },
    }
}

/// Judges what comes before the first answer.
#[cold]
fn syn_sent(from: End, event: Event, segment: &Segment, bounds: &mut Bounds) -> Outcome {
    let is_answer = bounds.is_new_ack(from, segment.ack);
    match (from, event) {
        (End::Opener, Event::Syn) => bounds.restart(segment),
        (End::Responder, Event::Syn) => bounds.answer(segment),
        (End::Responder, Event::SynAck) if is_answer => bounds.answer(segment),
        (End::Responder, Event::SynAck) => return Outcome::Invalid(Cause::AckOver),
        // An RST that answers a challenge ACK has the number of that, and is none of this connection.
        (End::Opener, Event::Rst) if segment.seq == bounds.ends[0].end => return Outcome::Ends,
        // It is valid by its acknowledgement; its sequence number may be 0 (RFC 9293, 3.10.7.3).
        (End::Responder, Event::Rst) if segment.has_ack && is_answer => return Outcome::Ends,
        // Some stacks set the flag and leave the number 0.
        (End::Responder, Event::Rst) if !segment.has_ack || segment.ack != 0 => {
            return Outcome::Invalid(Cause::RstWindow);
        }
        _ => {}
    }
    by_flags(Phase::SynSent, from, event)
}

/// Judges a SYN behind the first answer.
#[cold]
fn syn_in_the_midst(
    phase: Phase,
    from: End,
    event: Event,
    segment: &Segment,
    syn: &mut Option<SynSeen>,
) -> Outcome {
    let outcome = by_flags(phase, from, event);
    if outcome == Outcome::Untouched {
        *syn = Some(SynSeen::new(from, segment));
    }
    outcome
}

/// Judges a SYN+ACK behind the first answer. One that acknowledges a SYN in the midst proves that the ends have
/// begun anew; if it is the responder that sent that SYN, they have changed roles, which no verdict is for.
#[cold]
fn syn_ack(
    phase: Phase,
    from: End,
    event: Event,
    segment: &Segment,
    bounds: &mut Bounds,
    syn: &mut Option<SynSeen>,
) -> Outcome {
    if let Some(seen) = *syn
        && seen.from != from
        && seen.end == segment.ack
        && phase != Phase::SynCrossed
        && by_flags(phase, from, event) == Outcome::Untouched
    {
        if from == End::Opener {
            return Outcome::Invalid(Cause::OutOfPlace);
        }
        *syn = None;
        bounds.restart(&seen.segment());
        bounds.answer(segment);
        return Outcome::Pass {
            next: Phase::SynReceived,
            // SYN and SYN+ACK in turns do not keep an entry alive.
            renew: phase != Phase::SynReceived,
        };
    }
    if phase == Phase::SynCrossed {
        if !bounds.is_new_ack(from, segment.ack) {
            return Outcome::Invalid(Cause::AckOver);
        }
        // The opener's ACK that is to come must still be one of something new.
        if from == End::Responder {
            bounds.take_ack(from, segment.ack);
        }
    }
    by_flags(phase, from, event)
}

/// Judges an RST behind the first SYN by RFC 5961, section 3.
#[cold]
fn rst(phase: Phase, from: End, event: Event, segment: &Segment, bounds: &Bounds) -> Outcome {
    let (base, doubted_by) = phase.undoubted();
    match base {
        Phase::Reset | Phase::PickedUpByOpener | Phase::PickedUpByResponder => {
            by_flags(phase, from, event)
        }
        _ if bounds.is_exact(from, segment.seq) => Outcome::Pass {
            next: Phase::Reset,
            renew: true,
        },
        _ if !bounds.is_in_window(from, segment.seq) => Outcome::Invalid(Cause::RstWindow),
        Phase::Established | Phase::OpenerClosed | Phase::ResponderClosed => {
            doubts(base, doubted_by, from)
        }
        _ => Outcome::Untouched,
    }
}
