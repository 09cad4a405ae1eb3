// SPDX-License-Identifier: Apache-2.0
//! Cold part of a connection: what is touched when it begins, changes its phase, ends, or comes up in the
//! timer wheel.

use zerocopy::{FromZeros, Immutable};

use super::super::phase::End;
use super::super::tcp::{SynSeen, UNSCALED};
use super::super::timeouts::Tick;

/// Place of a connection in a table: its line times three plus its way.
pub(crate) type Place = u32;

/// Place of none.
pub(crate) const NOWHERE: Place = u32::MAX;

/// Neighbours in a list that is linked both ways.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromZeros, Immutable)]
#[repr(C)]
pub(crate) struct Links {
    pub(crate) next: Place,
    pub(crate) previous: Place,
}

/// Cold part, 32 bytes by place.
#[derive(Debug, Clone, Copy, FromZeros, Immutable)]
#[repr(C)]
pub(crate) struct Cold {
    /// Neighbours in the slot of the wheel.
    pub(crate) wheel: Links,
    /// Neighbours in the owner's list of its class.
    pub(crate) list: Links,
    /// Tick of the last frame in 24 bits, if that was long ago; above it the second of the last ICMP error.
    seen_and_second: u32,
    /// Sequence number behind a SYN in the midst of the connection.
    syn_end: u32,
    syn_window: u16,
    /// Owner in 12 bits; above it the ICMP errors of that second.
    owner_and_errors: u16,
    /// Bucket of the source that opened it from outside; [`Cold::NO_SOURCE`] if none did.
    pub(crate) source: u16,
    /// Flags: see the constants.
    flags: u8,
    /// Scale that the SYN offers in the lower four bits, then its sender, its SACK, and whether there is one.
    syn_options: u8,
}

const _: () = assert!(size_of::<Cold>() == 32);

/// ICMP errors in a second that are related to one connection.
pub(crate) const ERRORS_PER_SECOND: u16 = 4;

impl Cold {
    /// Source of a connection that was opened from inside.
    pub(crate) const NO_SOURCE: u16 = u16::MAX;

    /// Flag: if it were lost, the policy would let the remote open it again.
    const REDERIVABLE: u8 = 1;
    /// Flag: the pod has opened it.
    const FROM_POD: u8 = 2;
    /// Flag: the last frame is longer ago than the line can say.
    const LONG_AGO: u8 = 4;

    const SYN_FROM_RESPONDER: u8 = 0x10;
    const SYN_SACK: u8 = 0x20;
    const SYN_SEEN: u8 = 0x40;

    /// Cold part of a new connection, in no list yet.
    pub(crate) fn new(owner: usize, source: u16, from_pod: bool, rederivable: bool) -> Cold {
        let flag = |is: bool, flag| if is { flag } else { 0 };
        let nowhere = Links {
            next: NOWHERE,
            previous: NOWHERE,
        };
        Cold {
            wheel: nowhere,
            list: nowhere,
            seen_and_second: 0,
            syn_end: 0,
            syn_window: 0,
            owner_and_errors: u16::try_from(owner & 0xfff).unwrap_or(0),
            source,
            flags: flag(rederivable, Cold::REDERIVABLE) | flag(from_pod, Cold::FROM_POD),
            syn_options: 0,
        }
    }

    pub(crate) fn owner(&self) -> usize {
        usize::from(self.owner_and_errors & 0xfff)
    }

    pub(crate) fn is_rederivable(&self) -> bool {
        self.flags & Cold::REDERIVABLE != 0
    }

    pub(crate) fn is_from_pod(&self) -> bool {
        self.flags & Cold::FROM_POD != 0
    }

    /// Ticks since the last frame, if that was kept here.
    pub(crate) fn long_idle(&self, now: Tick) -> Option<u32> {
        let is_long_ago = self.flags & Cold::LONG_AGO != 0;
        is_long_ago.then_some(now.0.wrapping_sub(self.seen_and_second) & 0xff_ffff)
    }

    /// Keeps that the last frame was `idle` ticks ago, or that the line knows better.
    pub(crate) fn set_long_idle(&mut self, now: Tick, idle: Option<u32>) {
        match idle {
            Some(idle) => {
                let seen = now.0.wrapping_sub(idle) & 0xff_ffff;
                self.seen_and_second = self.seen_and_second & !0xff_ffff | seen;
                self.flags |= Cold::LONG_AGO;
            }
            None => self.flags &= !Cold::LONG_AGO,
        }
    }

    /// Takes one of the ICMP errors that the connection may have in this second.
    pub(crate) fn take_error(&mut self, now: Tick) -> bool {
        let second = (now.0 / 2) & 0xff;
        if self.seen_and_second >> 24 != second {
            self.seen_and_second = self.seen_and_second & 0xff_ffff | second << 24;
            self.owner_and_errors &= 0xfff;
        }
        let may = self.owner_and_errors >> 12 < ERRORS_PER_SECOND;
        if may {
            self.owner_and_errors += 1 << 12;
        }
        may
    }

    /// SYN in the midst of the connection.
    pub(crate) fn syn(&self) -> Option<SynSeen> {
        let has = |flag| self.syn_options & flag != 0;
        let scale = self.syn_options & 0xf;
        has(Cold::SYN_SEEN).then_some(SynSeen {
            from: if has(Cold::SYN_FROM_RESPONDER) {
                End::Responder
            } else {
                End::Opener
            },
            end: self.syn_end,
            window: self.syn_window,
            scale: (scale != UNSCALED).then_some(scale),
            sack_permitted: has(Cold::SYN_SACK),
        })
    }

    pub(crate) fn set_syn(&mut self, syn: Option<SynSeen>) {
        let Some(syn) = syn else {
            self.syn_options = 0;
            return;
        };
        let flag = |is: bool, flag| if is { flag } else { 0 };
        self.syn_end = syn.end;
        self.syn_window = syn.window;
        self.syn_options = syn.scale.unwrap_or(UNSCALED) & 0xf
            | flag(syn.from == End::Responder, Cold::SYN_FROM_RESPONDER)
            | flag(syn.sack_permitted, Cold::SYN_SACK)
            | Cold::SYN_SEEN;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_packed_comes_out_again() {
        let mut cold = Cold::new(4095, 7, true, false);
        assert_eq!((cold.owner(), cold.source), (4095, 7));
        assert!(cold.is_from_pod() && !cold.is_rederivable());
        for (from, scale) in [(End::Opener, None), (End::Responder, Some(14))] {
            let syn = SynSeen {
                from,
                end: 0xdead_beef,
                window: 77,
                scale,
                sack_permitted: scale.is_some(),
            };
            cold.set_syn(Some(syn));
            assert_eq!(cold.syn(), Some(syn));
        }
        cold.set_syn(None);
        assert_eq!(cold.syn(), None);
    }

    #[test]
    fn a_few_errors_a_second_and_the_owner_stays() {
        let mut cold = Cold::new(4095, 7, true, true);
        cold.set_long_idle(Tick(100), Some(40));
        for second in 0..3 {
            let taken = (0..20).filter(|_| cold.take_error(Tick(100 + 2 * second)));
            assert_eq!(taken.count(), usize::from(ERRORS_PER_SECOND));
        }
        assert_eq!(cold.owner(), 4095);
        assert_eq!(cold.long_idle(Tick(110)), Some(50));
        cold.set_long_idle(Tick(110), None);
        assert_eq!(cold.long_idle(Tick(110)), None);
    }

    #[test]
    fn long_ago_wraps() {
        let mut cold = Cold::new(1, 0, false, true);
        let now = Tick(0x0200_0003);
        cold.set_long_idle(now, Some(172_000));
        assert_eq!(cold.long_idle(now.plus(5)), Some(172_005));
    }
}
