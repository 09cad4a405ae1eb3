// SPDX-License-Identifier: Apache-2.0
//! State machine of TCP by flags alone. [`judge`](super::judge::judge) follows it where windows are kept, but for
//! what sequence numbers decide.

use super::super::event::Event;
use super::super::outcome::{Cause, Outcome};
use super::super::phase::{End, Phase};

/// Outcome of a frame in `phase`, by its flags.
///
/// An RST never ends a connection here: without windows anybody can send one. It shortens the timer, and
/// frames of its receiver restore it.
pub(crate) const fn by_flags(phase: Phase, from: End, event: Event) -> Outcome {
    let (base, doubted_by) = phase.undoubted();
    if let (Event::Rst, Phase::Established | Phase::OpenerClosed | Phase::ResponderClosed) =
        (event, base)
    {
        return doubts(base, doubted_by, from);
    }
    under_doubt(undoubted(base, from, event), doubted_by, from)
}

/// Outcome of an RST that is in the window and not exact: the timer is shortened, once.
pub(super) const fn doubts(base: Phase, doubted_by: Option<End>, from: End) -> Outcome {
    let again = match (doubted_by, from) {
        (Some(End::Opener), End::Opener) | (Some(End::Responder), End::Responder) => true,
        (_, End::Opener | End::Responder) => false,
    };
    Outcome::Pass {
        next: base.doubted(from),
        renew: !again,
    }
}

/// Outcome in a phase that is doubted: frames of the RST's sender leave the doubt, those of its receiver end it.
const fn under_doubt(outcome: Outcome, doubted_by: Option<End>, from: End) -> Outcome {
    match (outcome, doubted_by, from) {
        (Outcome::Pass { next, renew }, Some(End::Opener), End::Opener)
        | (Outcome::Pass { next, renew }, Some(End::Responder), End::Responder) => {
            let doubted = next.doubted(from);
            Outcome::Pass {
                next: doubted,
                renew: renew && doubted as u8 == next as u8,
            }
        }
        (outcome, _, _) => outcome,
    }
}

const fn undoubted(phase: Phase, from: End, event: Event) -> Outcome {
    match phase {
        Phase::SynSent => syn_sent(from, event),
        Phase::SynCrossed => syn_crossed(from, event),
        Phase::SynReceived => syn_received(from, event),
        Phase::Established => match (event, from) {
            (Event::Ack, _) => on(Phase::Established),
            (Event::Fin, End::Opener) => on(Phase::OpenerClosed),
            (Event::Fin, End::Responder) => on(Phase::ResponderClosed),
            _ => Outcome::Untouched,
        },
        Phase::OpenerClosed => match (event, from) {
            (Event::Ack, _) | (Event::Fin, End::Opener) => on(Phase::OpenerClosed),
            (Event::Fin, End::Responder) => on(Phase::LastAck),
            _ => Outcome::Untouched,
        },
        Phase::ResponderClosed => match (event, from) {
            (Event::Ack, _) | (Event::Fin, End::Responder) => on(Phase::ResponderClosed),
            (Event::Fin, End::Opener) => on(Phase::LastAck),
            _ => Outcome::Untouched,
        },
        Phase::LastAck => match event {
            Event::Syn => Outcome::Reopens,
            Event::Ack => on(Phase::TimeWait),
            Event::Fin => on(Phase::LastAck),
            _ => Outcome::Untouched,
        },
        Phase::TimeWait => match event {
            Event::Syn => Outcome::Reopens,
            Event::Ack => still(Phase::TimeWait),
            Event::Fin => on(Phase::TimeWait),
            _ => Outcome::Untouched,
        },
        Phase::Reset => match event {
            Event::Syn => Outcome::Reopens,
            _ => Outcome::Untouched,
        },
        Phase::PickedUpByOpener => picked_up(phase, End::Opener, from, event),
        Phase::PickedUpByResponder => picked_up(phase, End::Responder, from, event),
        _ => Outcome::Invalid(Cause::NoConnection),
    }
}

/// The opener's SYN again never renews the timer, and what comes back but SYN+ACK is a challenge ACK to a
/// reused port, or a refusal.
const fn syn_sent(from: End, event: Event) -> Outcome {
    match (from, event) {
        (End::Opener, Event::Syn) => still(Phase::SynSent),
        (End::Responder, Event::Syn) => on(Phase::SynCrossed),
        (End::Responder, Event::SynAck) => on(Phase::SynReceived),
        (End::Responder, Event::Ack) | (_, Event::Rst | Event::Piece) => Outcome::Untouched,
        _ => Outcome::Invalid(Cause::OutOfPlace),
    }
}

/// Simultaneous open (RFC 9293, 3.5): SYN+ACK both ways, or a bare ACK.
const fn syn_crossed(from: End, event: Event) -> Outcome {
    match (from, event) {
        (_, Event::SynAck) | (End::Responder, Event::Ack) => on(Phase::SynReceived),
        (End::Opener, Event::Ack) => on(Phase::Established),
        (End::Opener, Event::Fin) => on(Phase::OpenerClosed),
        _ => Outcome::Untouched,
    }
}

/// Only the opener's ACK establishes: SYN and SYN+ACK in turns do not, nor do they renew the timer.
const fn syn_received(from: End, event: Event) -> Outcome {
    match (from, event) {
        (End::Opener, Event::Ack) => on(Phase::Established),
        (End::Responder, Event::Ack) => still(Phase::SynReceived),
        (End::Opener, Event::Fin) => on(Phase::OpenerClosed),
        (End::Responder, Event::Fin) => on(Phase::ResponderClosed),
        _ => Outcome::Untouched,
    }
}

/// A frame of the other end than the one whose frame made the entry confirms it.
const fn picked_up(phase: Phase, by: End, from: End, event: Event) -> Outcome {
    let is_same = matches!(
        (by, from),
        (End::Opener, End::Opener) | (End::Responder, End::Responder)
    );
    match (is_same, event, from) {
        (_, Event::Syn, _) => Outcome::Reopens,
        (true, Event::Ack | Event::Fin, _) => still(phase),
        (false, Event::Ack, _) => on(Phase::Established),
        (false, Event::Fin, End::Opener) => on(Phase::OpenerClosed),
        (false, Event::Fin, End::Responder) => on(Phase::ResponderClosed),
        (false, Event::Rst, _) => Outcome::Ends,
        _ => Outcome::Untouched,
    }
}

/// On in `next`, with the timer started again.
const fn on(next: Phase) -> Outcome {
    Outcome::Pass { next, renew: true }
}

/// On in `next`, with the timer as it runs.
const fn still(next: Phase) -> Outcome {
    Outcome::Pass { next, renew: false }
}
