// SPDX-License-Identifier: Apache-2.0
//! Pseudo-state of the protocols without a handshake, or with one that is not followed: UDP, ICMP queries,
//! SCTP, GRE, ESP, AH and all others.

use sluice_packet::IpProto;

use super::event::Event;
use super::outcome::{Cause, Outcome};
use super::phase::{End, Phase};

/// Port of DNS, whose exchanges are short.
const DNS: u16 = 53;

/// Phase of a connection that a frame opens.
///
/// # Errors
/// The frame can open none. TCP opens by a SYN only, and neither an answer nor a piece of a datagram does.
pub(crate) const fn opening(proto: u8, dst_port: u16, event: Event) -> Result<Phase, Cause> {
    match (proto, event) {
        (IpProto::TCP, Event::Syn) => Ok(Phase::SynSent),
        (IpProto::TCP, _) => Err(Cause::NoConnection),
        (IpProto::UDP, Event::Data) if dst_port == DNS => Ok(Phase::DnsOneWay),
        (IpProto::UDP | IpProto::UDP_LITE, Event::Data) => Ok(Phase::UdpOneWay),
        (IpProto::ICMP | IpProto::ICMPV6, Event::Data) => Ok(Phase::QueryOneWay),
        (IpProto::SCTP, Event::Data) => Ok(Phase::SctpOpening),
        (_, Event::Data) => Ok(Phase::OtherOneWay),
        _ => Err(Cause::NoConnection),
    }
}

/// Outcome of a frame of another protocol than TCP.
pub(crate) const fn by_event(phase: Phase, from: End, event: Event) -> Outcome {
    if let Event::Piece = event {
        return Outcome::Untouched;
    }
    let next = match (phase, from, event) {
        (Phase::UdpOneWay, End::Opener, Event::Data) => Phase::UdpOneWay,
        (Phase::UdpOneWay, End::Responder, Event::Data)
        | (Phase::UdpAnswered, End::Responder, Event::Data) => Phase::UdpAnswered,
        (Phase::UdpAnswered, End::Opener, Event::Data) | (Phase::UdpStream, _, Event::Data) => {
            Phase::UdpStream
        }
        (Phase::DnsOneWay, End::Opener, Event::Data) => Phase::DnsOneWay,
        (Phase::DnsOneWay | Phase::DnsAnswered, _, Event::Data) => Phase::DnsAnswered,
        (Phase::QueryOneWay, End::Opener, Event::Data) => Phase::QueryOneWay,
        (Phase::QueryAnswered, End::Opener, Event::Data)
        | (Phase::QueryOneWay | Phase::QueryAnswered, End::Responder, Event::Answer) => {
            Phase::QueryAnswered
        }
        (Phase::OtherOneWay, End::Opener, Event::Data) => Phase::OtherOneWay,
        (Phase::OtherOneWay | Phase::OtherAnswered, _, Event::Data) => Phase::OtherAnswered,
        (Phase::SctpOpening, End::Opener, Event::Data) => Phase::SctpOpening,
        // An ABORT may be forged: it shortens the timer, and the association going on restores it.
        (
            Phase::SctpOpening | Phase::SctpUp | Phase::SctpClosing,
            _,
            Event::Data | Event::Answer,
        ) => Phase::SctpUp,
        (Phase::SctpClosing, _, Event::Fin) => {
            return Outcome::Pass {
                next: phase,
                renew: false,
            };
        }
        (Phase::SctpOpening | Phase::SctpUp, _, Event::Fin) => Phase::SctpClosing,
        _ => return Outcome::Invalid(Cause::OutOfPlace),
    };
    Outcome::Pass { next, renew: true }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn follow(proto: u8, port: u16, frames: &[(End, Event)]) -> Result<Phase, Cause> {
        let mut phase = opening(proto, port, frames[0].1)?;
        for &(from, event) in &frames[1..] {
            match by_event(phase, from, event) {
                Outcome::Pass { next, .. } => phase = next,
                Outcome::Invalid(cause) => return Err(cause),
                _ => {}
            }
        }
        Ok(phase)
    }

    const ASKS: (End, Event) = (End::Opener, Event::Data);
    const SENDS: (End, Event) = (End::Responder, Event::Data);
    const ANSWERS: (End, Event) = (End::Responder, Event::Answer);

    #[test]
    fn udp_is_new_answered_and_a_stream() {
        let udp = |frames: &[_]| follow(IpProto::UDP, 4000, frames);
        assert_eq!(udp(&[ASKS, ASKS]), Ok(Phase::UdpOneWay));
        assert_eq!(udp(&[ASKS, SENDS, SENDS]), Ok(Phase::UdpAnswered));
        assert_eq!(udp(&[ASKS, SENDS, ASKS, SENDS]), Ok(Phase::UdpStream));
        let dns = follow(IpProto::UDP, 53, &[ASKS, SENDS, ASKS]);
        assert_eq!(dns, Ok(Phase::DnsAnswered));
    }

    #[test]
    fn a_query_is_answered_by_an_answer_and_an_answer_opens_nothing() {
        let icmp = |frames: &[_]| follow(IpProto::ICMP, 0, frames);
        assert_eq!(icmp(&[ASKS, ANSWERS, ASKS]), Ok(Phase::QueryAnswered));
        assert_eq!(icmp(&[ANSWERS]), Err(Cause::NoConnection));
        assert_eq!(icmp(&[ASKS, SENDS]), Err(Cause::OutOfPlace));
        let opener_answers = [ASKS, (End::Opener, Event::Answer)];
        assert_eq!(icmp(&opener_answers), Err(Cause::OutOfPlace));
    }

    #[test]
    fn an_abort_of_sctp_shortens_and_opens_nothing() {
        let sctp = |frames: &[_]| follow(IpProto::SCTP, 36_412, frames);
        let aborts = (End::Responder, Event::Fin);
        assert_eq!(sctp(&[ASKS, SENDS]), Ok(Phase::SctpUp));
        assert_eq!(sctp(&[ASKS, SENDS, aborts, aborts]), Ok(Phase::SctpClosing));
        assert_eq!(sctp(&[ASKS, SENDS, aborts, ASKS]), Ok(Phase::SctpUp));
        assert_eq!(sctp(&[aborts]), Err(Cause::NoConnection));
        assert_eq!(sctp(&[ANSWERS]), Err(Cause::NoConnection));
    }

    #[test]
    fn a_piece_touches_nothing() {
        for phase in [Phase::UdpOneWay, Phase::SctpUp, Phase::OtherAnswered] {
            let piece = by_event(phase, End::Responder, Event::Piece);
            assert_eq!(piece, Outcome::Untouched);
        }
        let opened = opening(IpProto::UDP, 1, Event::Piece);
        assert_eq!(opened, Err(Cause::NoConnection));
    }
}
