// SPDX-License-Identifier: Apache-2.0
//! Time as a tracker has it, and how long a connection may be silent.

use super::phase::Phase;

/// Half-seconds in a second.
pub const TICKS_PER_SECOND: u32 = 2;

/// Moment in half-seconds since some start; whoever calls the tracker reads the clock, once a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Tick(pub u32);

impl Tick {
    /// Moment `ms` milliseconds after the start.
    #[must_use]
    pub const fn of_millis(ms: u64) -> Tick {
        #[allow(clippy::cast_possible_truncation, reason = "it wraps after 68 years")]
        Tick((ms / 500) as u32)
    }

    /// Ticks from `earlier` to this moment.
    #[inline(always)]
    #[must_use]
    pub const fn since(self, earlier: Tick) -> u32 {
        self.0.wrapping_sub(earlier.0)
    }

    /// Moment `ticks` later.
    #[must_use]
    pub const fn plus(self, ticks: u32) -> Tick {
        Tick(self.0.wrapping_add(ticks))
    }

    /// Moment `seconds` later.
    #[must_use]
    pub const fn plus_seconds(self, seconds: u32) -> Tick {
        self.plus(seconds.saturating_mul(TICKS_PER_SECOND))
    }
}

/// Seconds of silence after which a connection ends, by its phase. Each at least 1 and at most 1,000,000.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// TCP: a SYN without an answer.
    pub syn_sent: u32,
    /// TCP: a SYN+ACK without the opener's ACK.
    pub syn_received: u32,
    /// TCP: established (RFC 5382 asks for at least 7,440).
    pub established: u32,
    /// TCP: established, with data that was not acknowledged; only where windows are kept.
    pub unanswered: u32,
    /// TCP: one end has closed; it holds as long as either sends.
    pub half_closed: u32,
    /// TCP: both ends have closed.
    pub last_ack: u32,
    /// TCP: both FINs are acknowledged.
    pub time_wait: u32,
    /// TCP: after an RST, be it exact or doubtful.
    pub reset: u32,
    /// TCP: picked up and not confirmed; it is not renewed.
    pub picked_up: u32,
    /// UDP: nothing has come back.
    pub udp_one_way: u32,
    /// UDP: answered (RFC 4787 asks for at least 120, better 300).
    pub udp_answered: u32,
    /// UDP: more than one exchange.
    pub udp_stream: u32,
    /// UDP to port 53.
    pub dns: u32,
    /// ICMP queries (RFC 5508 asks for 60).
    pub icmp: u32,
    /// SCTP: opening, or closing.
    pub sctp_opening: u32,
    /// SCTP: up; heartbeats come every 30 s or more.
    pub sctp_up: u32,
    /// GRE, ESP, AH and all other protocols.
    pub other: u32,
}

impl Default for Timeouts {
    fn default() -> Timeouts {
        Timeouts {
            syn_sent: 60,
            syn_received: 60,
            established: 86_400,
            unanswered: 300,
            half_closed: 900,
            last_ack: 60,
            time_wait: 60,
            reset: 10,
            picked_up: 30,
            udp_one_way: 60,
            udp_answered: 300,
            udp_stream: 300,
            dns: 10,
            icmp: 60,
            sctp_opening: 30,
            sctp_up: 900,
            other: 600,
        }
    }
}

impl Timeouts {
    /// Longest timeout that is taken at its word, in seconds.
    pub const MAX: u32 = 1_000_000;

    /// Timeouts in seconds with the names of their fields, for whoever writes them down.
    #[must_use]
    pub const fn named(&self) -> [(&'static str, u32); 17] {
        [
            ("syn_sent", self.syn_sent),
            ("syn_received", self.syn_received),
            ("established", self.established),
            ("unanswered", self.unanswered),
            ("half_closed", self.half_closed),
            ("last_ack", self.last_ack),
            ("time_wait", self.time_wait),
            ("reset", self.reset),
            ("picked_up", self.picked_up),
            ("udp_one_way", self.udp_one_way),
            ("udp_answered", self.udp_answered),
            ("udp_stream", self.udp_stream),
            ("dns", self.dns),
            ("icmp", self.icmp),
            ("sctp_opening", self.sctp_opening),
            ("sctp_up", self.sctp_up),
            ("other", self.other),
        ]
    }

    /// Seconds of silence that end a connection in `phase`; 0 of [`Phase::Free`].
    #[must_use]
    pub const fn of(&self, phase: Phase) -> u32 {
        match phase.undoubted() {
            (_, Some(_)) => self.reset,
            (Phase::Free, None) => 0,
            (Phase::SynSent, None) => self.syn_sent,
            (Phase::SynCrossed | Phase::SynReceived, None) => self.syn_received,
            (Phase::Established, None) => self.established,
            (Phase::OpenerClosed | Phase::ResponderClosed, None) => self.half_closed,
            (Phase::LastAck, None) => self.last_ack,
            (Phase::TimeWait, None) => self.time_wait,
            (Phase::Reset, None) => self.reset,
            (Phase::PickedUpByOpener | Phase::PickedUpByResponder, None) => self.picked_up,
            (Phase::UdpOneWay, None) => self.udp_one_way,
            (Phase::UdpAnswered, None) => self.udp_answered,
            (Phase::UdpStream, None) => self.udp_stream,
            (Phase::DnsOneWay | Phase::DnsAnswered, None) => self.dns,
            (Phase::QueryOneWay | Phase::QueryAnswered, None) => self.icmp,
            (Phase::SctpOpening | Phase::SctpClosing, None) => self.sctp_opening,
            (Phase::SctpUp, None) => self.sctp_up,
            (_, None) => self.other,
        }
    }

    /// Ticks of silence that end a connection in `phase`.
    pub(crate) const fn ticks(&self, phase: Phase) -> u32 {
        let seconds = self.of(phase);
        let most = if seconds > Timeouts::MAX {
            Timeouts::MAX
        } else {
            seconds
        };
        most * TICKS_PER_SECOND
    }

    /// Ticks of silence that end an established connection whose data is not acknowledged.
    pub(crate) const fn unanswered_ticks(&self) -> u32 {
        let ticks = self.unanswered.saturating_mul(TICKS_PER_SECOND);
        let most = self.ticks(Phase::Established);
        if ticks < most { ticks } else { most }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_phase_has_its_time() {
        let times = Timeouts::default();
        for phase in Phase::ALL.into_iter().skip(1) {
            assert!(times.of(phase) >= 10, "{phase:?}");
        }
        assert_eq!(times.of(Phase::Established), 86_400);
        assert_eq!(times.of(Phase::EstablishedDoubtedByOpener), 10);
        assert_eq!(times.unanswered_ticks(), 600);
        let endless = Timeouts {
            established: u32::MAX,
            ..times
        };
        assert_eq!(endless.ticks(Phase::Established), 2_000_000);
    }

    #[test]
    fn ticks_wrap() {
        let late = Tick(u32::MAX);
        assert_eq!(late.plus_seconds(1), Tick(1));
        assert_eq!(late.plus_seconds(1).since(late), 2);
        assert_eq!(Tick::of_millis(1_499), Tick(2));
    }
}
