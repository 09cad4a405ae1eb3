//! The hash that finds a flow's bucket: keyed, so that nobody who does not know the key can choose
//! flows that meet in one.

use std::hash::{BuildHasher, RandomState};

use crate::frame::FrameInfo;

/// The key, drawn when the worker is made.
#[derive(Debug)]
pub(super) struct Hasher {
    key: [u64; 6],
}

impl Hasher {
    /// A key from the standard library's source of keys, which the system's random numbers seed.
    pub(super) fn new() -> Hasher {
        let source = RandomState::new();
        Hasher {
            key: std::array::from_fn(|n| source.hash_one(n)),
        }
    }

    /// What flows differ in: the lower halves of the addresses (an IPv4 address is there), the
    /// ports with EtherType and VID, most of the receiver's MAC, the protocol, the source; and the upper
    /// halves of the addresses together. A pod can make up flows that have all this in common, and
    /// with them fill a bucket: one, of which it has no more than before.
    #[inline(always)]
    pub(super) fn hash(&self, info: &FrameInfo) -> u64 {
        let [a, b, c, d, ports, _, last, mark] = *info.flow_words();
        let [p, q, r, s, t, u] = self.key;
        let low = fold(b ^ p, d ^ q);
        let high = fold(ports ^ r, last ^ mark.rotate_left(24) ^ s);
        fold(low ^ t, high ^ a ^ c.rotate_left(32) ^ u)
    }
}

/// Two numbers into one, each bit of which depends on all of theirs.
#[inline(always)]
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    #[allow(clippy::cast_possible_truncation, reason = "both halves are used")]
    let (low, high) = (product as u64, (product >> 64) as u64);
    low ^ high
}

/// The part that finds the bucket.
#[inline]
#[allow(
    clippy::cast_possible_truncation,
    reason = "the lower half is asked for"
)]
pub(super) fn index(hash: u64) -> usize {
    hash as u32 as usize
}

/// The part that is kept in the bucket.
#[inline]
#[allow(
    clippy::cast_possible_truncation,
    reason = "the upper bits are asked for"
)]
pub(super) fn tag(hash: u64) -> u16 {
    (hash >> 48) as u16
}
