// SPDX-License-Identifier: Apache-2.0
//! Coordinates of all rules in ranks: numbers of the intervals that their boundaries cut a coordinate into.
//!
//! Grouping, sweeping and merging only need to know what lies before what. In ranks a prefix of either
//! family, a range of ports and a MAC are the same: a span of small numbers.

use crate::compile::ranges::{Coordinate, Ranges};
use crate::compile::region::{Prefixes, Region};

/// Coordinate of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Field {
    /// Protocol of IPv4 or IPv6, else EtherType.
    Class,
    /// Destination port or ICMP type.
    L4,
    /// Source port.
    SrcPort,
    /// Source address.
    Src,
    /// Destination address.
    Dst,
    /// Source MAC.
    SrcMac,
    /// Destination MAC.
    DstMac,
}

/// Lowest numbers of the intervals, in order of rank.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Starts {
    /// Numbers of at most 18 bits.
    Dense(Vec<u32>),
    /// Addresses: IPv4, then IPv6, then one interval of frames that have none.
    Addresses(Vec<u32>, Vec<u128>),
    /// MACs.
    Macs(Vec<u64>),
}

/// Ranks `from..to`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    /// First rank.
    pub(crate) from: u32,
    /// Rank behind the last.
    pub(crate) to: u32,
}

/// Coordinate that at least one rule has a condition on, of all rules.
#[derive(Debug)]
pub(crate) struct Axis {
    /// Coordinate.
    pub(crate) field: Field,
    /// Intervals.
    pub(crate) starts: Starts,
    /// Number of intervals, at least one.
    pub(crate) ranks: u32,
    /// Indices into `spans` by rule, and their number.
    begins: Vec<u32>,
    /// Spans of the rules, ascending within each.
    spans: Vec<Span>,
}

impl Axis {
    /// Coordinates that `regions`, one per rule, have conditions on.
    pub(crate) fn all(regions: &[&Region]) -> Vec<Axis> {
        let dense = |field, of: fn(&Region) -> &Option<Ranges<u32>>| {
            let sets = regions.iter().map(|region| of(region).as_ref());
            ranked(field, sets, Starts::Dense)
        };
        let addresses = |field, of: fn(&Region) -> &Option<Prefixes>| {
            prefixes(field, regions.iter().map(|region| of(region).as_ref()))
        };
        let macs = |field, of: fn(&Region) -> &Option<Ranges<u64>>| {
            let sets = regions.iter().map(|region| of(region).as_ref());
            ranked(field, sets, Starts::Macs)
        };
        [
            dense(Field::Class, |region| &region.class),
            dense(Field::L4, |region| &region.l4),
            dense(Field::SrcPort, |region| &region.src_port),
            addresses(Field::Src, |region| &region.src),
            addresses(Field::Dst, |region| &region.dst),
            macs(Field::SrcMac, |region| &region.src_mac),
            macs(Field::DstMac, |region| &region.dst_mac),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    /// Spans of a rule: none if it holds nowhere, all ranks if it has no condition here.
    pub(crate) fn spans(&self, rule: u32) -> &[Span] {
        let rule = rule as usize;
        &self.spans[self.begins[rule] as usize..self.begins[rule + 1] as usize]
    }

    /// Smallest span that holds all of a rule's; empty if it holds nowhere.
    pub(crate) fn hull(&self, rule: u32) -> Span {
        let spans = self.spans(rule);
        Span {
            from: spans.first().map_or(0, |span| span.from),
            to: spans.last().map_or(0, |span| span.to),
        }
    }

    /// Whether `outer` holds wherever `inner` does.
    pub(crate) fn covers(&self, outer: u32, inner: u32) -> bool {
        let mut outer = self.spans(outer).iter().peekable();
        self.spans(inner).iter().all(|inner| {
            while outer.next_if(|outer| outer.to <= inner.from).is_some() {}
            outer
                .peek()
                .is_some_and(|outer| outer.from <= inner.from && inner.to <= outer.to)
        })
    }

    fn new(field: Field) -> Axis {
        Axis {
            field,
            starts: Starts::Dense(Vec::new()),
            ranks: 0,
            begins: vec![0],
            spans: Vec::new(),
        }
    }

    fn push(&mut self, from: u32, to: u32) {
        self.spans.push(Span { from, to });
    }

    fn end_rule(&mut self) {
        self.begins.push(count(self.spans.len()));
    }
}

fn ranked<'r, T: Coordinate + 'r>(
    field: Field,
    sets: impl Iterator<Item = Option<&'r Ranges<T>>> + Clone,
    wrap: impl Fn(Vec<T>) -> Starts,
) -> Option<Axis> {
    sets.clone().any(|set| set.is_some()).then(|| {
        let starts = starts(sets.clone());
        let mut axis = Axis::new(field);
        axis.ranks = count(starts.len());
        for set in sets {
            match set {
                None => axis.push(0, axis.ranks),
                Some(ranges) => push_ranges(&mut axis, &starts, ranges, 0),
            }
            axis.end_rule();
        }
        axis.starts = wrap(starts);
        axis
    })
}

fn prefixes<'r>(
    field: Field,
    sets: impl Iterator<Item = Option<&'r Prefixes>> + Clone,
) -> Option<Axis> {
    sets.clone().any(|set| set.is_some()).then(|| {
        let v4 = starts(sets.clone().map(|set| set.map(|set| &set.v4)));
        let v6 = starts(sets.clone().map(|set| set.map(|set| &set.v6)));
        let mut axis = Axis::new(field);
        axis.ranks = count(v4.len() + v6.len() + 1);
        for set in sets {
            match set {
                None => axis.push(0, axis.ranks),
                Some(set) => {
                    push_ranges(&mut axis, &v4, &set.v4, 0);
                    push_ranges(&mut axis, &v6, &set.v6, count(v4.len()));
                }
            }
            axis.end_rule();
        }
        axis.starts = Starts::Addresses(v4, v6);
        axis
    })
}

/// Lowest numbers of the intervals between the boundaries of `sets`, zero first.
fn starts<'r, T: Coordinate + 'r>(sets: impl Iterator<Item = Option<&'r Ranges<T>>>) -> Vec<T> {
    let mut starts = vec![T::ZERO];
    for (first, last) in sets.flatten().flat_map(Ranges::iter) {
        starts.push(first);
        starts.extend(last.next());
    }
    starts.sort_unstable();
    starts.dedup();
    starts
}

/// Appends the spans of `ranges`, all of whose boundaries are among `starts`, which begin at `rank`.
fn push_ranges<T: Coordinate>(axis: &mut Axis, starts: &[T], ranges: &Ranges<T>, rank: u32) {
    for (first, last) in ranges.iter() {
        let from = starts.partition_point(|start| *start < first);
        // Most ranges end a few intervals on.
        let mut step = 1;
        while starts.get(from + step).is_some_and(|start| *start <= last) {
            step *= 2;
        }
        let to = (from + step).min(starts.len());
        let begin = from + step / 2;
        let to = begin + starts[begin..to].partition_point(|start| *start <= last);
        axis.push(rank + count(from), rank + count(to));
    }
}

/// Number of intervals or spans. Saturates at a number that no policy reaches.
fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

#[cfg(test)]
#[allow(clippy::expect_used, reason = "a failed expectation is a failed test")]
mod tests {
    use super::*;
    use crate::matches::Match;

    fn axes(rules: &[Match]) -> Vec<Axis> {
        let regions: Vec<Region> = rules.iter().map(Region::new).collect();
        Axis::all(&regions.iter().collect::<Vec<_>>())
    }

    fn spans(axis: &Axis, rule: u32) -> Vec<(u32, u32)> {
        let spans = axis.spans(rule).iter();
        spans.map(|span| (span.from, span.to)).collect()
    }

    #[test]
    fn ports_in_ranks() {
        let with_ports = |ports| Match {
            protocols: vec![17],
            ports,
            ..Match::default()
        };
        let axes = axes(&[
            with_ports(vec![0..=9, 20..=29]),
            with_ports(vec![5..=24]),
            Match::default(),
        ]);
        let fields: Vec<Field> = axes.iter().map(|axis| axis.field).collect();
        assert_eq!(fields, [Field::Class, Field::L4]);
        let ports = &axes[1];
        assert_eq!(ports.starts, Starts::Dense(vec![0, 5, 10, 20, 25, 30]));
        assert_eq!(spans(ports, 0), [(0, 2), (3, 5)]);
        assert_eq!(spans(ports, 1), [(1, 4)]);
        assert_eq!(spans(ports, 2), [(0, 6)]);
        assert_eq!(ports.hull(0), Span { from: 0, to: 5 });
        assert!(ports.covers(2, 0) && ports.covers(0, 0) && !ports.covers(1, 0));
        assert!(!ports.covers(0, 1), "it has a gap");
    }

    #[test]
    fn both_families_and_none() {
        let to = |nets: &[&str]| Match {
            to: nets
                .iter()
                .map(|net| net.parse().expect("a prefix"))
                .collect(),
            ..Match::default()
        };
        let axes = axes(&[
            to(&["10.0.0.0/8", "fd00::/8"]),
            to(&["0.0.0.0/0"]),
            Match::default(),
        ]);
        let to = axes
            .iter()
            .find(|axis| axis.field == Field::Dst)
            .expect("it has conditions");
        // IPv4: zero, 10/8, behind it; IPv6 likewise; frames without an address.
        assert_eq!(to.ranks, 7);
        assert_eq!(spans(to, 0), [(1, 2), (4, 5)]);
        assert_eq!(spans(to, 1), [(0, 3)]);
        assert_eq!(spans(to, 2), [(0, 7)]);
    }
}
