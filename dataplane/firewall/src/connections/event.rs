// SPDX-License-Identifier: Apache-2.0
//! Event that a frame is for the state of its connection.

use sluice_packet::tcp::flag;

/// Event that a frame is for its connection. The first five are TCP's; of these SCTP has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Event {
    /// SYN alone.
    Syn = 0,
    /// SYN and ACK.
    SynAck = 1,
    /// FIN and ACK; of SCTP, ABORT or SHUTDOWN COMPLETE.
    Fin = 2,
    /// ACK alone.
    Ack = 3,
    /// RST, with or without ACK.
    Rst = 4,
    /// Packet of another protocol than TCP; of ICMP, a query.
    Data = 5,
    /// Packet that opens nothing: the answer to an ICMP query; of SCTP, COOKIE ACK.
    Answer = 6,
    /// Fragment without a transport header: it follows its datagram and is no event of its own.
    Piece = 7,
}

impl Event {
    /// All events, by number.
    pub(crate) const ALL: [Event; 8] = [
        Event::Syn,
        Event::SynAck,
        Event::Fin,
        Event::Ack,
        Event::Rst,
        Event::Data,
        Event::Answer,
        Event::Piece,
    ];

    /// Event of TCP flags; `None` if they are not legal together.
    ///
    /// PSH, ECE and CWR never matter: SYN+ECE+CWR is an ordinary SYN that offers ECN (RFC 3168), and the
    /// low bit of the byte before is AE (RFC 9768). URG may stand beside SYN, ACK and FIN+ACK.
    #[inline(always)]
    #[must_use]
    pub const fn of_tcp_flags(flags: u8) -> Option<Event> {
        const SYN_URG: u8 = flag::SYN | flag::URG;
        const SYN_ACK: u8 = flag::SYN | flag::ACK;
        const FIN_ACK: u8 = flag::FIN | flag::ACK;
        const FIN_ACK_URG: u8 = FIN_ACK | flag::URG;
        const ACK_URG: u8 = flag::ACK | flag::URG;
        const RST_ACK: u8 = flag::RST | flag::ACK;
        const THAT_MATTER: u8 = flag::SYN | flag::ACK | flag::FIN | flag::RST | flag::URG;
        match flags & THAT_MATTER {
            flag::ACK | ACK_URG => Some(Event::Ack),
            flag::SYN | SYN_URG => Some(Event::Syn),
            SYN_ACK => Some(Event::SynAck),
            FIN_ACK | FIN_ACK_URG => Some(Event::Fin),
            flag::RST | RST_ACK => Some(Event::Rst),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nine_combinations_are_legal_whatever_psh_ece_and_cwr_say() {
        let legal = [
            (flag::SYN, Event::Syn),
            (flag::SYN | flag::URG, Event::Syn),
            (flag::SYN | flag::ACK, Event::SynAck),
            (flag::ACK, Event::Ack),
            (flag::ACK | flag::URG, Event::Ack),
            (flag::FIN | flag::ACK, Event::Fin),
            (flag::FIN | flag::ACK | flag::URG, Event::Fin),
            (flag::RST, Event::Rst),
            (flag::RST | flag::ACK, Event::Rst),
        ];
        let ignored = flag::PSH | flag::ECE | flag::CWR;
        for flags in 0..=u8::MAX {
            let expected = legal.iter().find(|(legal, _)| *legal == flags & !ignored);
            let event = Event::of_tcp_flags(flags);
            assert_eq!(event, expected.map(|(_, event)| *event), "{flags:#04x}");
        }
    }

    #[test]
    fn numbers_are_places() {
        for (number, event) in Event::ALL.iter().enumerate() {
            assert_eq!(*event as usize, number);
        }
    }
}
