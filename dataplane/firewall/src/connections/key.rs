// SPDX-License-Identifier: Apache-2.0
//! Keys of connections: both directions have one, the lesser endpoint first.

use std::fmt::Debug;

use super::event::Event;
use super::frame::{Scope, TrackedFrame};

/// Key of a connection in one IP version.
pub trait Key: Copy + Eq + Debug {
    /// Key of a frame of this version, and whether the lesser endpoint has sent it; `None` of the other version.
    fn of(frame: &TrackedFrame) -> Option<(Self, bool)>;

    /// Words that tell keys apart, for a hash; unused ones are 0.
    fn words(&self) -> [u64; 6];

    /// IP protocol.
    fn proto(&self) -> u8;

    /// Scope.
    fn scope(&self) -> Scope;

    /// Port of the greater endpoint if `of_greater`, else of the lesser.
    fn port(&self, of_greater: bool) -> u16;

    /// Two words of the address of the greater endpoint if `of_greater`, else of the lesser; of IPv6 the upper half
    /// alone, since one host has as many lower halves as it likes.
    fn source_words(&self, of_greater: bool) -> [u64; 2];
}

/// Key of an IPv4 connection in 16 bytes: each word has an endpoint in its upper 48 bits; below are the upper 16
/// bits of the scope, and protocol and lower bits of the scope.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct V4Key(pub(crate) [u64; 2]);

/// Key of an IPv6 connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct V6Key {
    /// Addresses of the lesser and of the greater endpoint.
    pub(crate) addresses: [u64; 4],
    /// Ports of both, the lesser's in the upper half.
    pub(crate) ports: u32,
    /// IP protocol.
    pub(crate) proto: u8,
    /// Scope.
    pub(crate) scope: Scope,
}

impl Key for V4Key {
    #[inline(always)]
    fn of(frame: &TrackedFrame) -> Option<(V4Key, bool)> {
        if frame.is_v6 {
            return None;
        }
        let endpoint = |address: &[u8; 16], port: u16| {
            let [.., a, b, c, d] = *address;
            u64::from(u32::from_be_bytes([a, b, c, d])) << 32 | u64::from(port) << 16
        };
        let src = endpoint(&frame.src, frame.src_port);
        let dst = endpoint(&frame.dst, frame.dst_port);
        let scope = u64::from(frame.scope.number());
        let low = u64::from(frame.proto) << 8 | scope & 0xff;
        let key = V4Key([src.min(dst) | scope >> 8, src.max(dst) | low]);
        Some((key, src <= dst))
    }

    #[inline(always)]
    fn words(&self) -> [u64; 6] {
        let [a, b] = self.0;
        [a, b, 0, 0, 0, 0]
    }

    #[inline(always)]
    fn proto(&self) -> u8 {
        self.0[1].to_le_bytes()[1]
    }

    #[inline(always)]
    fn scope(&self) -> Scope {
        let [low, ..] = self.0[1].to_le_bytes();
        let [a, b, ..] = self.0[0].to_le_bytes();
        Scope::of_bytes([low, a, b])
    }

    fn port(&self, of_greater: bool) -> u16 {
        let [_, _, a, b, ..] = self.0[usize::from(of_greater)].to_le_bytes();
        u16::from_le_bytes([a, b])
    }

    fn source_words(&self, of_greater: bool) -> [u64; 2] {
        [self.0[usize::from(of_greater)] >> 32, 0]
    }
}

impl Key for V6Key {
    #[inline(always)]
    fn of(frame: &TrackedFrame) -> Option<(V6Key, bool)> {
        if !frame.is_v6 {
            return None;
        }
        let (src, dst) = (halves(&frame.src), halves(&frame.dst));
        let is_lesser = (src, frame.src_port) <= (dst, frame.dst_port);
        let (lesser, greater) = if is_lesser { (src, dst) } else { (dst, src) };
        let (low, high) = if is_lesser {
            (frame.src_port, frame.dst_port)
        } else {
            (frame.dst_port, frame.src_port)
        };
        let key = V6Key {
            addresses: [lesser[0], lesser[1], greater[0], greater[1]],
            ports: u32::from(low) << 16 | u32::from(high),
            proto: frame.proto,
            scope: frame.scope,
        };
        Some((key, is_lesser))
    }

    #[inline(always)]
    fn words(&self) -> [u64; 6] {
        let [a, b, c, d] = self.addresses;
        let last = u64::from(self.proto) << 24 | u64::from(self.scope.number());
        [a, b, c, d, u64::from(self.ports), last]
    }

    #[inline(always)]
    fn proto(&self) -> u8 {
        self.proto
    }

    #[inline(always)]
    fn scope(&self) -> Scope {
        self.scope
    }

    fn port(&self, of_greater: bool) -> u16 {
        let [a, b, c, d] = self.ports.to_be_bytes();
        u16::from_be_bytes(if of_greater { [c, d] } else { [a, b] })
    }

    fn source_words(&self, of_greater: bool) -> [u64; 2] {
        [self.addresses[2 * usize::from(of_greater)], 1]
    }
}

/// Halves of an address, as numbers.
#[inline(always)]
fn halves(address: &[u8; 16]) -> [u64; 2] {
    let [a, b, c, d, e, f, g, h, low @ ..] = *address;
    let high = u64::from_be_bytes([a, b, c, d, e, f, g, h]);
    [high, u64::from_be_bytes(low)]
}

/// Key of one frame with what a lookup needs of it beside; 24 bytes in IPv4.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Probe<K> {
    /// Key of the connection.
    pub key: K,
    /// Length of the frame in bytes.
    pub bytes: u32,
    /// Event.
    pub event: Event,
    /// Whether the lesser endpoint has sent it.
    pub from_lesser: bool,
}

impl<K: Key> Probe<K> {
    /// Probe of a frame; `None` if it is of the other IP version.
    #[inline(always)]
    #[must_use]
    pub fn of(frame: &TrackedFrame) -> Option<Probe<K>> {
        let (key, from_lesser) = K::of(frame)?;
        Some(Probe {
            key,
            bytes: frame.bytes,
            event: frame.event,
            from_lesser,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;
    use crate::connections::testing::{address, frame, reply};

    #[test]
    fn both_directions_have_one_key() {
        for is_v6 in [false, true] {
            for (from, to, ports) in [(1, 2, [5, 4]), (2, 1, [4, 5]), (1, 1, [9, 8])] {
                let there = TrackedFrame {
                    src: address(from, is_v6),
                    dst: address(to, is_v6),
                    src_port: ports[0],
                    dst_port: ports[1],
                    is_v6,
                    scope: Scope::new(0xabc, 0x123),
                    ..frame(17, Event::Data)
                };
                let back = reply(&there, Event::Data);
                if is_v6 {
                    check::<V6Key>(&there, &back);
                    assert!(V4Key::of(&there).is_none());
                } else {
                    check::<V4Key>(&there, &back);
                    assert!(V6Key::of(&there).is_none());
                }
            }
        }
    }

    fn check<K: Key>(there: &TrackedFrame, back: &TrackedFrame) {
        let (key, from_lesser) = K::of(there).unwrap();
        assert_eq!(K::of(back).unwrap(), (key, !from_lesser));
        assert_eq!((key.proto(), key.scope()), (17, there.scope));
        assert_eq!(key.port(!from_lesser), there.src_port);
        assert_eq!(key.port(from_lesser), there.dst_port);
        for other in [
            TrackedFrame { proto: 6, ..*there },
            TrackedFrame {
                scope: Scope::new(0xabc, 0x124),
                ..*there
            },
            TrackedFrame {
                scope: Scope::new(0xabd, 0x123),
                ..*there
            },
            TrackedFrame {
                src_port: there.src_port + 100,
                ..*there
            },
        ] {
            let (other, _) = K::of(&other).unwrap();
            assert_ne!(other, key);
            assert_ne!(other.words(), key.words());
        }
    }

    #[test]
    fn a_probe_of_ipv4_is_small() {
        assert_eq!(size_of::<Probe<V4Key>>(), 24);
    }
}
