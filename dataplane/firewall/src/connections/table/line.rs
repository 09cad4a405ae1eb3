// SPDX-License-Identifier: Apache-2.0
//! Lines of a table: three connections each. In IPv4 one is a cache line, in IPv6 a pair of them.

use zerocopy::{FromZeros, Immutable};

use super::super::frame::Scope;
use super::super::key::{Key, V4Key, V6Key};
use super::super::phase::{End, Phase};

/// Connections of a line.
pub(crate) const WAYS: usize = 3;

/// State of a connection in one byte: its phase in five bits and three flags. 0: the way is free.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromZeros, Immutable)]
#[repr(transparent)]
pub(crate) struct StateByte(u8);

impl StateByte {
    /// Bits of the phase.
    const PHASE: u8 = 0x1f;
    /// Flag: the lesser endpoint has opened it.
    const OPENED_BY_LESSER: u8 = 0x20;
    /// Flag: windows are kept.
    const WINDOWED: u8 = 0x40;
    /// Flag: a change of rules has revoked it.
    const REVOKED: u8 = 0x80;

    /// State of a new connection.
    pub(crate) fn new(phase: Phase, opened_by_lesser: bool, windowed: bool) -> StateByte {
        let flag = |is: bool, flag| if is { flag } else { 0 };
        StateByte(
            phase as u8
                | flag(opened_by_lesser, StateByte::OPENED_BY_LESSER)
                | flag(windowed, StateByte::WINDOWED),
        )
    }

    #[inline(always)]
    pub(crate) fn phase(self) -> Phase {
        Phase::of_number(self.phase_number())
    }

    /// Number of the phase, below [`Phase::VALUES`].
    #[inline(always)]
    pub(crate) fn phase_number(self) -> u8 {
        self.0 & StateByte::PHASE
    }

    #[inline(always)]
    pub(crate) fn with_phase(self, phase: Phase) -> StateByte {
        StateByte(self.0 & !StateByte::PHASE | phase as u8)
    }

    #[inline(always)]
    pub(crate) fn is_free(self) -> bool {
        self.0 == 0
    }

    #[inline(always)]
    pub(crate) fn opened_by_lesser(self) -> bool {
        self.0 & StateByte::OPENED_BY_LESSER != 0
    }

    /// End that a frame of the lesser endpoint, or of the greater, is from.
    #[inline(always)]
    pub(crate) fn end(self, from_lesser: bool) -> End {
        if from_lesser == self.opened_by_lesser() {
            End::Opener
        } else {
            End::Responder
        }
    }

    #[inline(always)]
    pub(crate) fn is_windowed(self) -> bool {
        self.0 & StateByte::WINDOWED != 0
    }

    #[inline(always)]
    pub(crate) fn is_revoked(self) -> bool {
        self.0 & StateByte::REVOKED != 0
    }

    pub(crate) fn with_revoked(self, revoked: bool) -> StateByte {
        if revoked {
            StateByte(self.0 | StateByte::REVOKED)
        } else {
            StateByte(self.0 & !StateByte::REVOKED)
        }
    }
}

/// Part of a line that both IP versions have alike, in 16 bytes.
#[derive(Debug, Clone, Copy, FromZeros, Immutable)]
#[repr(C)]
pub(crate) struct Ways {
    /// Pair of paths.
    pub(crate) pair: [u16; WAYS],
    /// Lower half of the tick of the last frame; half its range ahead of the last look if that was long ago.
    pub(crate) seen: [u16; WAYS],
    /// State.
    pub(crate) state: [StateByte; WAYS],
    /// Connections of this line that are in their other line, so that a miss looks there only if there are any;
    /// at 255 it counts no more.
    pub(crate) over: u8,
}

impl Ways {
    /// A way that is free.
    pub(crate) fn free(&self) -> Option<usize> {
        self.state.iter().position(|state| state.is_free())
    }
}

/// Line of one IP version.
pub(crate) trait Line: Copy + FromZeros {
    /// Key of its connections.
    type Key: Key;

    /// Set of the ways, by bit, whose connection has this key, but for its scope if [`Line::HAS_SCOPE`] is not set.
    fn of_key(&self, key: &Self::Key) -> u32;

    /// Whether a way has this key, as [`Line::of_key`] says.
    fn is_of_key(&self, way: usize, key: &Self::Key) -> bool;

    /// Whether lines have the scope of keys; else it is that of the pair of paths.
    const HAS_SCOPE: bool;

    /// Key of a way; `scope` is that of its pair.
    fn key(&self, way: usize, scope: Scope) -> Self::Key;

    /// Sets the key of a way.
    fn set_key(&mut self, way: usize, key: &Self::Key);

    /// Common part.
    fn ways(&self) -> &Ways;

    /// Common part.
    fn ways_mut(&mut self) -> &mut Ways;
}

/// Line of IPv4.
#[derive(Debug, Clone, Copy, FromZeros, Immutable)]
#[repr(C, align(64))]
pub(crate) struct V4Line {
    lesser: [u64; WAYS],
    greater: [u64; WAYS],
    ways: Ways,
}

/// Line of IPv6.
#[derive(Debug, Clone, Copy, FromZeros, Immutable)]
#[repr(C, align(128))]
pub(crate) struct V6Line {
    addresses: [[u64; 4]; WAYS],
    ports: [u32; WAYS],
    proto: [u8; WAYS],
    unused: u8,
    ways: Ways,
}

const _: () = assert!(size_of::<V4Line>() == 64 && size_of::<V6Line>() == 128);

impl Line for V4Line {
    type Key = V4Key;

    const HAS_SCOPE: bool = true;

    #[inline(always)]
    fn of_key(&self, key: &V4Key) -> u32 {
        // Without branches: nearly always one of the three is it.
        let mut found = 0;
        for way in 0..WAYS {
            found |= u32::from(self.is_of_key(way, key)) << way;
        }
        found
    }

    #[inline(always)]
    fn is_of_key(&self, way: usize, key: &V4Key) -> bool {
        let [lesser, greater] = key.0;
        let differs = (self.lesser[way] ^ lesser) | (self.greater[way] ^ greater);
        (differs == 0) & !self.ways.state[way].is_free()
    }

    #[inline(always)]
    fn key(&self, way: usize, _scope: Scope) -> V4Key {
        V4Key([self.lesser[way], self.greater[way]])
    }

    fn set_key(&mut self, way: usize, key: &V4Key) {
        [self.lesser[way], self.greater[way]] = key.0;
    }

    #[inline(always)]
    fn ways(&self) -> &Ways {
        &self.ways
    }

    #[inline(always)]
    fn ways_mut(&mut self) -> &mut Ways {
        &mut self.ways
    }
}

impl Line for V6Line {
    type Key = V6Key;

    const HAS_SCOPE: bool = false;

    #[inline(always)]
    fn of_key(&self, key: &V6Key) -> u32 {
        let mut found = 0;
        for way in 0..WAYS {
            found |= u32::from(self.is_of_key(way, key)) << way;
        }
        found
    }

    #[inline(always)]
    fn is_of_key(&self, way: usize, key: &V6Key) -> bool {
        let [a, b, c, d] = key.addresses;
        let [p, q, r, s] = self.addresses[way];
        let addresses = (a ^ p) | (b ^ q) | (c ^ r) | (d ^ s);
        let rest = (self.ports[way] ^ key.ports) | u32::from(self.proto[way] ^ key.proto);
        (addresses | u64::from(rest) == 0) & !self.ways.state[way].is_free()
    }

    #[inline(always)]
    fn key(&self, way: usize, scope: Scope) -> V6Key {
        V6Key {
            addresses: self.addresses[way],
            ports: self.ports[way],
            proto: self.proto[way],
            scope,
        }
    }

    fn set_key(&mut self, way: usize, key: &V6Key) {
        self.addresses[way] = key.addresses;
        self.ports[way] = key.ports;
        self.proto[way] = key.proto;
    }

    #[inline(always)]
    fn ways(&self) -> &Ways {
        &self.ways
    }

    #[inline(always)]
    fn ways_mut(&mut self) -> &mut Ways {
        &mut self.ways
    }
}
