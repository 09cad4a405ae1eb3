// SPDX-License-Identifier: Apache-2.0
//! Match of a rule in normal form: a product of number sets, one per coordinate of a key.
//!
//! | module | holds |
//! |---|---|
//! | `numbers` | the coordinates, and those of a key |
//! | `written` | a rule's written conditions as sets of coordinates |

mod numbers;
mod written;

use crate::compile::ranges::{Coordinate, Ranges};

pub(crate) use numbers::{
    Address, CLASSES, L4S, class_of, dst_mac_of, dst_of, dst_v4_of, has_v4, l4_of, src_mac_of,
    src_of, src_port_of, src_v4_of,
};

/// Match in normal form: matches that differ only in order or notation are equal. `None` holds for
/// every frame.
///
/// EtherType, protocol and kind of fragment are one coordinate (class), destination port and ICMP type
/// with its code are one (l4): no frame has both, and one table less is searched per frame.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Region {
    pub(crate) class: Option<Ranges<u32>>,
    pub(crate) src: Option<Prefixes>,
    pub(crate) dst: Option<Prefixes>,
    pub(crate) src_port: Option<Ranges<u32>>,
    pub(crate) l4: Option<Ranges<u32>>,
    pub(crate) src_mac: Option<Ranges<u64>>,
    pub(crate) dst_mac: Option<Ranges<u64>>,
}

/// Addresses of both families; frames that have no address are in none of them.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Prefixes {
    pub(crate) v4: Ranges<u32>,
    pub(crate) v6: Ranges<u128>,
}

impl Region {
    /// Region of no frame.
    pub(crate) fn nothing() -> Region {
        Region {
            class: Some(Ranges::new([])),
            src: None,
            dst: None,
            src_port: None,
            l4: None,
            src_mac: None,
            dst_mac: None,
        }
    }

    /// Whether no frame is in it, as far as each coordinate alone tells.
    pub(crate) fn is_empty(&self) -> bool {
        fn none<T: Coordinate>(set: Option<&Ranges<T>>) -> bool {
            set.is_some_and(Ranges::is_empty)
        }
        let nowhere = |set: &Prefixes| set.v4.is_empty() && set.v6.is_empty();
        none(self.class.as_ref())
            || self.src.as_ref().is_some_and(nowhere)
            || self.dst.as_ref().is_some_and(nowhere)
            || none(self.src_port.as_ref())
            || none(self.l4.as_ref())
            || none(self.src_mac.as_ref())
            || none(self.dst_mac.as_ref())
    }

    /// Whether a frame is in both regions, as far as each coordinate alone tells.
    pub(crate) fn intersects(&self, other: &Region) -> bool {
        fn side<T>(a: Option<&T>, b: Option<&T>, meet: impl Fn(&T, &T) -> bool) -> bool {
            a.zip(b).is_none_or(|(a, b)| meet(a, b))
        }
        let prefixes =
            |a: &Prefixes, b: &Prefixes| a.v4.intersects(&b.v4) || a.v6.intersects(&b.v6);
        side(
            self.class.as_ref(),
            other.class.as_ref(),
            Ranges::intersects,
        ) && side(self.l4.as_ref(), other.l4.as_ref(), Ranges::intersects)
            && side(
                self.src_port.as_ref(),
                other.src_port.as_ref(),
                Ranges::intersects,
            )
            && side(self.src.as_ref(), other.src.as_ref(), prefixes)
            && side(self.dst.as_ref(), other.dst.as_ref(), prefixes)
            && side(
                self.src_mac.as_ref(),
                other.src_mac.as_ref(),
                Ranges::intersects,
            )
            && side(
                self.dst_mac.as_ref(),
                other.dst_mac.as_ref(),
                Ranges::intersects,
            )
    }

    /// Whether every frame in `other` is in this region too. May say no of two regions that would
    /// take reasoning across coordinates; a yes is exact.
    pub(crate) fn contains_all(&self, other: &Region) -> bool {
        fn side<T>(a: Option<&T>, b: Option<&T>, within: impl Fn(&T, &T) -> bool) -> bool {
            match (a, b) {
                (None, _) => true,
                (Some(_), None) => false,
                (Some(a), Some(b)) => within(a, b),
            }
        }
        let prefixes =
            |a: &Prefixes, b: &Prefixes| a.v4.contains_all(&b.v4) && a.v6.contains_all(&b.v6);
        side(
            self.class.as_ref(),
            other.class.as_ref(),
            Ranges::contains_all,
        ) && side(self.l4.as_ref(), other.l4.as_ref(), Ranges::contains_all)
            && side(
                self.src_port.as_ref(),
                other.src_port.as_ref(),
                Ranges::contains_all,
            )
            && side(self.src.as_ref(), other.src.as_ref(), prefixes)
            && side(self.dst.as_ref(), other.dst.as_ref(), prefixes)
            && side(
                self.src_mac.as_ref(),
                other.src_mac.as_ref(),
                Ranges::contains_all,
            )
            && side(
                self.dst_mac.as_ref(),
                other.dst_mac.as_ref(),
                Ranges::contains_all,
            )
    }
}
