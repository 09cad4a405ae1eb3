// SPDX-License-Identifier: Apache-2.0
//! Owners of connections: what each has of every class, in lists from the oldest on, and its quotas.

use super::super::phase::Phase;
use super::cold::{Cold, Links, NOWHERE, Place};

/// Class of a connection, by what its loss would cost.
///
/// An entry is not a permission: what the policy would let the *remote* open again is *re-derivable*, and losing
/// it costs nothing, since any of its frames can be judged anew. What only the pod could open hangs on its entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Class {
    /// Over, but for frames that are late; or revoked.
    Closing = 0,
    /// Re-derivable, on its way to be established.
    RederivableEmbryonic = 1,
    /// Re-derivable, and nothing has come back.
    RederivableOneWay = 2,
    /// Re-derivable, with frames of both ends.
    Rederivable = 3,
    /// The pod's, and nothing has come back.
    OneWay = 4,
    /// The pod's, on its way to be established.
    Embryonic = 5,
    /// The pod's, with frames of both ends: never evicted.
    Established = 6,
}

impl Class {
    /// Number of classes.
    pub const COUNT: usize = 7;

    /// Classes in the order in which they make room.
    pub const EVICTED: [Class; 6] = [
        Class::Closing,
        Class::RederivableEmbryonic,
        Class::RederivableOneWay,
        Class::Rederivable,
        Class::OneWay,
        Class::Embryonic,
    ];

    /// Class of a connection.
    pub(crate) fn of(phase: Phase, rederivable: bool, revoked: bool) -> Class {
        if revoked || phase.is_closing() {
            return Class::Closing;
        }
        match (phase.is_embryonic(), phase.is_one_way(), rederivable) {
            (true, _, true) => Class::RederivableEmbryonic,
            (true, _, false) => Class::Embryonic,
            (_, true, true) => Class::RederivableOneWay,
            (_, true, false) => Class::OneWay,
            (_, _, true) => Class::Rederivable,
            (_, _, false) => Class::Established,
        }
    }
}

/// Connections that one attachment may have in one IP version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quotas {
    /// Connections of all kinds.
    pub all: u32,
    /// Embryonic connections.
    pub embryonic: u32,
    /// Connections with frames of one end only, of protocols without a handshake.
    pub one_way: u32,
    /// Connections that one source has opened from outside, an IPv6 source being a /64: no remote can fill what a pod
    /// has.
    pub per_source: u16,
}

impl Default for Quotas {
    fn default() -> Quotas {
        Quotas {
            all: 65_536,
            embryonic: 16_384,
            one_way: 16_384,
            per_source: 8_192,
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct List {
    first: Place,
    last: Place,
    count: u32,
}

const EMPTY: List = List {
    first: NOWHERE,
    last: NOWHERE,
    count: 0,
};

#[derive(Debug, Clone)]
struct Owner {
    lists: [List; Class::COUNT],
    quotas: Quotas,
}

/// Bit of a link back that says that the place is its list's first.
const IS_FIRST: u32 = 1 << 31;

/// Owners, by number.
#[derive(Debug)]
pub(crate) struct Owners(Box<[Owner]>);

impl Owners {
    /// Makes `count` owners without connections.
    pub(crate) fn new(count: usize) -> Owners {
        let owner = Owner {
            lists: [EMPTY; Class::COUNT],
            quotas: Quotas::default(),
        };
        Owners(vec![owner; count].into_boxed_slice())
    }

    /// Number of owners.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn quotas(&self, owner: usize) -> Quotas {
        self.0[owner].quotas
    }

    pub(crate) fn set_quotas(&mut self, owner: usize, quotas: Quotas) {
        self.0[owner].quotas = quotas;
    }

    /// Connections of an owner in these classes.
    pub(crate) fn count(&self, owner: usize, classes: &[Class]) -> u32 {
        let lists = &self.0[owner].lists;
        classes
            .iter()
            .map(|&class| lists[class as usize].count)
            .sum()
    }

    /// Connections of an owner.
    pub(crate) fn total(&self, owner: usize) -> u32 {
        self.0[owner].lists.iter().map(|list| list.count).sum()
    }

    /// Oldest connection of an owner in the first of these classes that it has any in.
    pub(crate) fn oldest(&self, owner: usize, classes: &[Class]) -> Option<(Place, Class)> {
        classes.iter().find_map(|&class| {
            let first = self.0[owner].lists[class as usize].first;
            (first != NOWHERE).then_some((first, class))
        })
    }

    /// Appends a place to its owner's list of a class.
    pub(crate) fn append(&mut self, cold: &mut [Cold], place: Place, class: Class) {
        let owner = cold[place as usize].owner();
        let list = &mut self.0[owner].lists[class as usize];
        let previous = if list.last == NOWHERE {
            list.first = place;
            IS_FIRST
        } else {
            cold[list.last as usize].list.next = place;
            list.last
        };
        list.last = place;
        list.count += 1;
        cold[place as usize].list = Links {
            next: NOWHERE,
            previous,
        };
    }

    /// Takes a place out of its owner's list of a class.
    pub(crate) fn remove(&mut self, cold: &mut [Cold], place: Place, class: Class) {
        let links = cold[place as usize].list;
        let owner = cold[place as usize].owner();
        let list = &mut self.0[owner].lists[class as usize];
        if links.previous == IS_FIRST {
            list.first = links.next;
        } else {
            cold[links.previous as usize].list.next = links.next;
        }
        if links.next == NOWHERE {
            list.last = if links.previous == IS_FIRST {
                NOWHERE
            } else {
                links.previous
            };
        } else {
            cold[links.next as usize].list.previous = links.previous;
        }
        list.count -= 1;
    }

    /// Lets the neighbours of a place that was moved know; its cold part was copied.
    pub(crate) fn moved(&mut self, cold: &mut [Cold], to: Place, class: Class) {
        let links = cold[to as usize].list;
        let owner = cold[to as usize].owner();
        let list = &mut self.0[owner].lists[class as usize];
        if links.previous == IS_FIRST {
            list.first = to;
        } else {
            cold[links.previous as usize].list.next = to;
        }
        if links.next == NOWHERE {
            list.last = to;
        } else {
            cold[links.next as usize].list.previous = to;
        }
    }
}
