// SPDX-License-Identifier: Apache-2.0
//! Phase of a connection, of whatever protocol, in the five bits that a table keeps of it.

/// End of a connection that sends a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum End {
    /// Sender of the frame that opened the connection.
    Opener,
    /// Peer of the opener.
    Responder,
}

impl End {
    /// Both ends, in the order in which arrays are kept.
    pub const BOTH: [End; 2] = [End::Opener, End::Responder];

    /// Returns the other end.
    #[inline(always)]
    #[must_use]
    pub const fn other(self) -> End {
        match self {
            End::Opener => End::Responder,
            End::Responder => End::Opener,
        }
    }

    /// Index in [`End::BOTH`].
    #[inline(always)]
    pub(crate) const fn index(self) -> usize {
        match self {
            End::Opener => 0,
            End::Responder => 1,
        }
    }
}

/// Phase of a connection.
///
/// Those of TCP are the ten states of a tracker that sees both directions. Two of them come in kinds: a
/// *doubted* phase is that of a connection with an RST in the window that was not exact, and says who sent
/// it; a *picked up* one is that of a connection whose beginning was not seen, and says whose frame made it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Phase {
    /// No connection.
    Free = 0,
    /// TCP: a SYN was seen.
    SynSent = 1,
    /// TCP: SYNs of both ends were seen, a simultaneous open.
    SynCrossed = 2,
    /// TCP: a SYN was answered by SYN+ACK.
    SynReceived = 3,
    /// TCP: the opener has acknowledged the responder's SYN.
    Established = 4,
    /// TCP: the opener has sent its FIN.
    OpenerClosed = 5,
    /// TCP: the responder has sent its FIN.
    ResponderClosed = 6,
    /// TCP: both ends have sent their FIN.
    LastAck = 7,
    /// TCP: both FINs are acknowledged.
    TimeWait = 8,
    /// TCP: an exact RST has ended it.
    Reset = 9,
    /// TCP: [`Phase::Established`], doubted by the opener's RST.
    EstablishedDoubtedByOpener = 10,
    /// TCP: [`Phase::Established`], doubted by the responder's RST.
    EstablishedDoubtedByResponder = 11,
    /// TCP: [`Phase::OpenerClosed`], doubted by the opener's RST.
    OpenerClosedDoubtedByOpener = 12,
    /// TCP: [`Phase::OpenerClosed`], doubted by the responder's RST.
    OpenerClosedDoubtedByResponder = 13,
    /// TCP: [`Phase::ResponderClosed`], doubted by the opener's RST.
    ResponderClosedDoubtedByOpener = 14,
    /// TCP: [`Phase::ResponderClosed`], doubted by the responder's RST.
    ResponderClosedDoubtedByResponder = 15,
    /// TCP: picked up by a frame of the opener, to be confirmed by the responder.
    PickedUpByOpener = 16,
    /// TCP: picked up by a frame of the responder, to be confirmed by the opener.
    PickedUpByResponder = 17,
    /// UDP: nothing has come back.
    UdpOneWay = 18,
    /// UDP: the responder has answered.
    UdpAnswered = 19,
    /// UDP: the opener went on after an answer.
    UdpStream = 20,
    /// UDP to port 53: nothing has come back.
    DnsOneWay = 21,
    /// UDP to port 53: the responder has answered.
    DnsAnswered = 22,
    /// ICMP query: nothing has come back.
    QueryOneWay = 23,
    /// ICMP query: it was answered.
    QueryAnswered = 24,
    /// SCTP: nothing has come back.
    SctpOpening = 25,
    /// SCTP: both ends have sent.
    SctpUp = 26,
    /// SCTP: an end has sent ABORT or SHUTDOWN COMPLETE.
    SctpClosing = 27,
    /// Any other protocol: nothing has come back.
    OtherOneWay = 28,
    /// Any other protocol: both ends have sent.
    OtherAnswered = 29,
}

impl Phase {
    /// Number of values of the five bits that hold a phase.
    pub(crate) const VALUES: usize = 32;

    /// All phases, by number.
    pub(crate) const ALL: [Phase; 30] = [
        Phase::Free,
        Phase::SynSent,
        Phase::SynCrossed,
        Phase::SynReceived,
        Phase::Established,
        Phase::OpenerClosed,
        Phase::ResponderClosed,
        Phase::LastAck,
        Phase::TimeWait,
        Phase::Reset,
        Phase::EstablishedDoubtedByOpener,
        Phase::EstablishedDoubtedByResponder,
        Phase::OpenerClosedDoubtedByOpener,
        Phase::OpenerClosedDoubtedByResponder,
        Phase::ResponderClosedDoubtedByOpener,
        Phase::ResponderClosedDoubtedByResponder,
        Phase::PickedUpByOpener,
        Phase::PickedUpByResponder,
        Phase::UdpOneWay,
        Phase::UdpAnswered,
        Phase::UdpStream,
        Phase::DnsOneWay,
        Phase::DnsAnswered,
        Phase::QueryOneWay,
        Phase::QueryAnswered,
        Phase::SctpOpening,
        Phase::SctpUp,
        Phase::SctpClosing,
        Phase::OtherOneWay,
        Phase::OtherAnswered,
    ];

    /// Phase of a number; [`Phase::Free`] of one that has none.
    #[inline(always)]
    pub(crate) const fn of_number(number: u8) -> Phase {
        let number = number as usize;
        if number < Phase::ALL.len() {
            Phase::ALL[number]
        } else {
            Phase::Free
        }
    }

    /// Phase without doubt, and the end whose RST doubts it.
    #[must_use]
    pub const fn undoubted(self) -> (Phase, Option<End>) {
        match self {
            Phase::EstablishedDoubtedByOpener => (Phase::Established, Some(End::Opener)),
            Phase::EstablishedDoubtedByResponder => (Phase::Established, Some(End::Responder)),
            Phase::OpenerClosedDoubtedByOpener => (Phase::OpenerClosed, Some(End::Opener)),
            Phase::OpenerClosedDoubtedByResponder => (Phase::OpenerClosed, Some(End::Responder)),
            Phase::ResponderClosedDoubtedByOpener => (Phase::ResponderClosed, Some(End::Opener)),
            Phase::ResponderClosedDoubtedByResponder => {
                (Phase::ResponderClosed, Some(End::Responder))
            }
            other => (other, None),
        }
    }

    /// Phase doubted by an RST of `end`; a phase that none can shorten stays as it is.
    #[must_use]
    pub const fn doubted(self, end: End) -> Phase {
        match (self, end) {
            (Phase::Established, End::Opener) => Phase::EstablishedDoubtedByOpener,
            (Phase::Established, End::Responder) => Phase::EstablishedDoubtedByResponder,
            (Phase::OpenerClosed, End::Opener) => Phase::OpenerClosedDoubtedByOpener,
            (Phase::OpenerClosed, End::Responder) => Phase::OpenerClosedDoubtedByResponder,
            (Phase::ResponderClosed, End::Opener) => Phase::ResponderClosedDoubtedByOpener,
            (Phase::ResponderClosed, End::Responder) => Phase::ResponderClosedDoubtedByResponder,
            (other, _) => other,
        }
    }

    /// Whether the connection is on its way to be established: it counts against that quota.
    #[must_use]
    pub const fn is_embryonic(self) -> bool {
        matches!(
            self,
            Phase::SynSent
                | Phase::SynCrossed
                | Phase::SynReceived
                | Phase::PickedUpByOpener
                | Phase::PickedUpByResponder
                | Phase::SctpOpening
        )
    }

    /// Whether nothing has come back, of a protocol without a handshake.
    #[must_use]
    pub const fn is_one_way(self) -> bool {
        matches!(
            self,
            Phase::UdpOneWay | Phase::DnsOneWay | Phase::QueryOneWay | Phase::OtherOneWay
        )
    }

    /// Whether the connection is over, but for frames that are late.
    #[must_use]
    pub const fn is_closing(self) -> bool {
        matches!(
            self,
            Phase::LastAck | Phase::TimeWait | Phase::Reset | Phase::SctpClosing
        )
    }

    /// Whether the policy's word for it is `new`: the responder has sent nothing yet.
    #[must_use]
    pub const fn is_new(self) -> bool {
        self.is_one_way() || matches!(self, Phase::SynSent | Phase::SctpOpening)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_there_and_back() {
        for (number, phase) in (0u8..).zip(Phase::ALL) {
            assert_eq!(phase as u8, number);
            assert_eq!(Phase::of_number(number), phase);
        }
        for number in 30..=u8::MAX {
            assert_eq!(Phase::of_number(number), Phase::Free);
        }
        assert!(Phase::ALL.len() <= Phase::VALUES);
    }

    #[test]
    fn doubt_keeps_what_it_doubts() {
        for phase in Phase::ALL {
            for end in End::BOTH {
                let doubted = phase.doubted(end);
                if doubted != phase {
                    assert_eq!(doubted.undoubted(), (phase, Some(end)));
                }
            }
        }
        let doubted = Phase::ALL
            .iter()
            .filter(|phase| phase.undoubted().1.is_some());
        assert_eq!(doubted.count(), 6);
    }
}
