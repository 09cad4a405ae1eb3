// SPDX-License-Identifier: Apache-2.0
//! Source filter of one member of a group (RFC 3376, 3.2), as far as it decides whether it is still
//! one. Frames are delivered whatever their source: the pod's own stack filters them.

use sluice_packet::membership::{Record, RecordKind};

/// Sources that are told apart; a member that names more is one until it says that it wants none.
const SOURCES: usize = 8;

/// Sources that a member wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Filter {
    /// Numbers of the sources; the first `count` are valid.
    sources: [u32; SOURCES],
    count: u8,
}

impl Filter {
    /// No source: not a member.
    pub(crate) const NOTHING: Filter = Filter::counted(0);
    /// Any source, or more than are told apart.
    pub(crate) const ANY: Filter = Filter::counted(u8::MAX);
    /// Any source: control has made it a member, and no report changes that.
    pub(crate) const GIVEN: Filter = Filter::counted(u8::MAX - 1);

    const fn counted(count: u8) -> Filter {
        Filter {
            sources: [0; SOURCES],
            count,
        }
    }

    /// Whether control has made it a member.
    pub(crate) fn is_given(&self) -> bool {
        self.count == Filter::GIVEN.count
    }

    /// Whether any source is wanted: then it is a member.
    pub(crate) fn wants_any(&self) -> bool {
        self.count > 0
    }

    /// Returns the filter as it is after a record.
    pub(crate) fn after(&self, record: &Record<'_>) -> Filter {
        if self.is_given() {
            return *self;
        }
        let names = || record.sources().map(number);
        match record.kind {
            RecordKind::Exclude => Filter::ANY,
            RecordKind::Include => names().fold(Filter::NOTHING, Filter::with),
            RecordKind::Allow => names().fold(*self, Filter::with),
            RecordKind::Block => names().fold(*self, Filter::without),
        }
    }

    fn with(mut self, source: u32) -> Filter {
        let count = usize::from(self.count);
        if count > SOURCES || self.sources[..count].contains(&source) {
            return self;
        }
        match self.sources.get_mut(count) {
            Some(free) => {
                *free = source;
                self.count += 1;
                self
            }
            None => Filter::ANY,
        }
    }

    fn without(mut self, source: u32) -> Filter {
        let count = usize::from(self.count);
        if count <= SOURCES
            && let Some(at) = self.sources[..count].iter().position(|&one| one == source)
        {
            self.sources.swap(at, count - 1);
            self.count -= 1;
        }
        self
    }
}

/// Folds a source address into a number. Two that fall together are the pod's own, and make it leave
/// a group a source too early.
fn number(source: &[u8]) -> u32 {
    source.chunks(4).fold(0, |sum, word| {
        let word = word.try_into().map_or(0, u32::from_be_bytes);
        (sum ^ word).wrapping_mul(0x9e37_79b1).rotate_left(7)
    })
}
