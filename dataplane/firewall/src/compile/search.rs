// SPDX-License-Identifier: Apache-2.0
//! Search by address: from either family, or none, to the id of its class.

use crate::compile::region::Address;
use crate::simd::{Isa, Kernel, LANES, Node8, Node16, Simd, Tree};

/// Search by IPv6 address: the upper halves in a tree, then the starts that share the one found.
pub(crate) struct Sixes {
    /// Index into `groups` by upper half.
    uppers: Tree<Node8>,
    groups: Box<[Group]>,
    /// Lower halves of all starts, ascending within each group.
    lowers: Box<[u64]>,
    ids: Box<[u32]>,
}

/// Starts with one upper half.
struct Group {
    upper: u64,
    from: usize,
    to: usize,
}

impl Sixes {
    /// Builds the search over intervals that begin at `starts`, ascending, the first at zero.
    pub(crate) fn new(starts: &[u128], ids: &[u32]) -> Sixes {
        let mut groups: Vec<Group> = Vec::new();
        for (index, start) in starts.iter().enumerate() {
            let (upper, _) = halves(*start);
            match groups.last_mut() {
                Some(group) if group.upper == upper => group.to = index + 1,
                _ => groups.push(Group {
                    upper,
                    from: index,
                    to: index + 1,
                }),
            }
        }
        let uppers: Vec<u64> = groups.iter().map(|group| group.upper).collect();
        let numbers: Vec<u32> = (0..).take(groups.len()).collect();
        Sixes {
            uppers: Tree::new(&uppers, &numbers),
            groups: groups.into(),
            lowers: starts.iter().map(|start| halves(*start).1).collect(),
            ids: ids.into(),
        }
    }

    fn bytes(&self) -> usize {
        self.uppers.bytes()
            + size_of_val(&*self.groups)
            + size_of_val(&*self.lowers)
            + size_of_val(&*self.ids)
    }

    /// Writes the ids of `addresses`, at most [`LANES`].
    #[inline(always)]
    fn find_all<I: Isa>(&self, isa: I, addresses: &[u128], ids: &mut [u32; LANES]) {
        let mut groups = [0; LANES];
        self.uppers
            .find_all(isa, addresses, &mut groups, |address| halves(*address).0);
        for ((id, address), group) in ids.iter_mut().zip(addresses).zip(groups) {
            *id = self.ids[self.within(&self.groups[group as usize], *address)];
        }
    }

    /// Index of the interval of an address whose upper half is that of the group, or between it and the
    /// next group's.
    #[inline(always)]
    fn within(&self, group: &Group, address: u128) -> usize {
        let (upper, lower) = halves(address);
        let lowers = &self.lowers[group.from..group.to];
        let below = match upper == group.upper {
            true => lowers.partition_point(|start| *start <= lower),
            false => lowers.len(),
        };
        // The first group begins with zero, so there is one below.
        group.from + below - 1
    }
}

#[inline(always)]
#[allow(
    clippy::cast_possible_truncation,
    reason = "halves are what is asked for"
)]
fn halves(address: u128) -> (u64, u64) {
    ((address >> 64) as u64, address as u64)
}

/// Search by address, of either family or none.
pub(crate) struct Addresses {
    v4: Tree<Node16>,
    v6: Sixes,
    /// Id of frames without an address.
    neither: u32,
}

impl Addresses {
    /// Builds the search; `ids` are those of the IPv4 intervals, of the IPv6 intervals, and of frames without
    /// an address.
    pub(crate) fn new(v4: &[u32], v6: &[u128], ids: &[u32]) -> Addresses {
        let (v4_ids, rest) = ids.split_at(v4.len());
        let (v6_ids, neither) = rest.split_at(v6.len());
        Addresses {
            v4: Tree::new(v4, v4_ids),
            v6: Sixes::new(v6, v6_ids),
            neither: neither.first().copied().unwrap_or(0),
        }
    }

    /// Bytes of the searches.
    pub(crate) fn bytes(&self) -> usize {
        self.v4.bytes() + self.v6.bytes()
    }

    /// Search of IPv4 addresses.
    pub(crate) fn v4(&self) -> &Tree<Node16> {
        &self.v4
    }

    /// Writes the ids of those of `addresses` that are not IPv4.
    #[inline(never)]
    pub(crate) fn find_others(&self, simd: Simd, addresses: &[Address], ids: &mut [u32]) {
        simd.run(Others {
            search: self,
            addresses,
            ids,
        });
    }
}

/// Search for addresses that are not IPv4.
struct Others<'a> {
    search: &'a Addresses,
    addresses: &'a [Address],
    ids: &'a mut [u32],
}

impl Kernel for Others<'_> {
    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let mut lanes = [0; LANES];
        let mut sixes = [0; LANES];
        let mut count = 0;
        for (lane, address) in self.addresses.iter().enumerate() {
            match *address {
                Address::V4(_) => {}
                Address::V6(address) => {
                    (lanes[count], sixes[count]) = (lane, address);
                    count += 1;
                }
                Address::None => self.ids[lane] = self.search.neither,
            }
        }
        let mut found = [0; LANES];
        self.search.v6.find_all(isa, &sixes[..count], &mut found);
        for (lane, id) in lanes[..count].iter().zip(found) {
            self.ids[*lane] = id;
        }
    }
}
