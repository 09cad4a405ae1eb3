// SPDX-License-Identifier: Apache-2.0
//! Fragments: a later piece gets the ports and ICMP type of its datagram's first piece, so that every
//! rule judges all pieces of a datagram alike.
//!
//! The parse stage remembers first pieces by addresses, identification and protocol. A later piece
//! whose first piece was seen gets that one's key; it may not reach back over it (RFC 5722, RFC
//! 3128). What becomes of one whose first piece was not seen, or more than [`MAX_AGE_MS`] ago, depends
//! on where it comes from:
//!
//! * From a pod that sends for itself it is dropped. IP stacks send the first piece first, and nothing
//!   between them and the engine changes the order. A piece ahead of its first could overwrite what the
//!   first is judged by, such as the type of a DHCP message, at receivers that let overlaps win.
//! * From the wire, where pieces do overtake each other, and from a pod that passes on what others send
//!   ([`AntiSpoof::Mac`] or `Off`, or the role of a router), it keeps a key without ports, which no rule
//!   with ports matches.
//!
//! Nothing is put together and nothing waits.
//!
//! Each attachment has two tables of its own, for what comes from it and for what goes to it, and the
//! group frames of an uplink have one: whoever sends first pieces only pushes out those of its own
//! table.

use std::sync::atomic::{AtomicU64, Ordering};

use sluice_packet::FlowKey;
use sluice_packet::fragment::{Piece, piece_of};
use sluice_packet::pose::{AntiSpoof, Pose};
use sluice_packet::role::{Role, Roles};

use crate::drops::DropReason;

/// Datagrams that a table remembers: more than a sender is in the middle of at one time. A kernel sends the
/// pieces of one datagram back to back on a CPU; a fair queue takes turns between flows.
const DATAGRAMS: usize = 64;
/// Milliseconds for which a first piece is remembered: as long as Linux waits for the others.
const MAX_AGE_MS: u32 = 30_000;

/// Flags of a key that a later piece takes over from the first.
const TAKEN_OVER: u8 = FlowKey::PORTS | FlowKey::ICMP;

/// Table of first pieces. One worker uses it; it is made of atomics only so that tables, which are
/// shared, can hold it.
#[derive(Debug)]
pub(crate) struct PieceTable {
    datagrams: Box<[Datagram]>,
    /// A later piece without its first is dropped.
    needs_first: bool,
}

/// First piece of a datagram.
#[derive(Debug, Default)]
struct Datagram {
    /// Addresses, identification, protocol and VLAN; all zero if the place is free, since no piece
    /// has addresses of zero alone.
    identity: [AtomicU64; 5],
    /// Ports, protocol, flags, ICMP type and code.
    taken_over: AtomicU64,
    /// Offset behind the first piece, and the time at which it came.
    end_and_time: AtomicU64,
}

impl Default for PieceTable {
    fn default() -> PieceTable {
        PieceTable {
            datagrams: (0..DATAGRAMS).map(|_| Datagram::default()).collect(),
            needs_first: false,
        }
    }
}

impl PieceTable {
    /// Makes the table of what a pod sends.
    pub(crate) fn of_pod(roles: Roles, pose: &Pose) -> PieceTable {
        PieceTable {
            needs_first: pose.anti_spoof == AntiSpoof::Strict && !roles.has(Role::Router),
            ..PieceTable::default()
        }
    }

    /// Remembers the first piece of a datagram, or completes the key of a later one. `key` is what
    /// the parser made of `frame`, with its VID; `l3` is the offset of its IP header.
    ///
    /// # Errors
    /// [`DropReason::FragmentOverlap`], [`DropReason::FragmentWithoutFirst`].
    #[cold]
    pub(crate) fn follow(
        &self,
        frame: &[u8],
        key: &mut FlowKey,
        l3: u16,
        now_ms: u64,
    ) -> Result<(), DropReason> {
        let Some(piece) = piece_of(frame, key, l3) else {
            return Ok(());
        };
        let identity = identity_of(key, &piece);
        #[allow(clippy::cast_possible_truncation, reason = "ages are far shorter")]
        let now = now_ms as u32;
        let known = self.datagrams.iter().find(|one| one.is(&identity));
        if piece.offset == 0 {
            let oldest = || self.datagrams.iter().max_by_key(|one| one.age(now));
            // A second first piece does not take back what the one before has covered.
            let covered = known.filter(|one| one.age(now) <= MAX_AGE_MS);
            let end = covered.map_or(0, Datagram::end).max(piece.end);
            if let Some(place) = known.or_else(oldest) {
                place.set(&identity, key, end, now);
            }
            return Ok(());
        }
        let Some(first) = known.filter(|one| one.age(now) <= MAX_AGE_MS) else {
            if self.needs_first {
                return Err(DropReason::FragmentWithoutFirst);
            }
            return Ok(());
        };
        if u32::from(piece.offset) < first.end() {
            return Err(DropReason::FragmentOverlap);
        }
        first.complete(key);
        Ok(())
    }
}

/// Words by which pieces of one datagram are told from those of others.
fn identity_of(key: &FlowKey, piece: &Piece) -> [u64; 5] {
    let halves = |bytes: [u8; 16]| {
        let all = u128::from_ne_bytes(bytes);
        #[allow(clippy::cast_possible_truncation, reason = "half by half")]
        [(all >> 64) as u64, all as u64]
    };
    let ([a, b], [c, d]) = (halves(key.src), halves(key.dst));
    let rest = u64::from(piece.id) | u64::from(piece.proto) << 32 | u64::from(key.vid) << 40;
    [a, b, c, d, rest]
}

impl Datagram {
    fn is(&self, identity: &[u64; 5]) -> bool {
        // The identification first, which tells most datagrams apart.
        let mut words = self.identity.iter().zip(identity).rev();
        words.all(|(mine, word)| mine.load(Ordering::Relaxed) == *word)
    }

    /// Milliseconds since the first piece came; the most there can be if the place is free.
    fn age(&self, now: u32) -> u32 {
        if self.is(&[0; 5]) {
            return u32::MAX;
        }
        #[allow(clippy::cast_possible_truncation, reason = "the upper half")]
        let time = (self.end_and_time.load(Ordering::Relaxed) >> 32) as u32;
        now.wrapping_sub(time)
    }

    fn end(&self) -> u32 {
        #[allow(clippy::cast_possible_truncation, reason = "the lower half")]
        let end = self.end_and_time.load(Ordering::Relaxed) as u32;
        end
    }

    fn set(&self, identity: &[u64; 5], key: &FlowKey, end: u32, now: u32) {
        for (mine, word) in self.identity.iter().zip(identity) {
            mine.store(*word, Ordering::Relaxed);
        }
        let [a, b] = key.src_port.to_ne_bytes();
        let [c, d] = key.dst_port.to_ne_bytes();
        let flags = key.flags & TAKEN_OVER;
        let taken = [a, b, c, d, key.proto, flags, key.icmp_type, key.icmp_code];
        self.taken_over
            .store(u64::from_ne_bytes(taken), Ordering::Relaxed);
        self.end_and_time
            .store(u64::from(end) | u64::from(now) << 32, Ordering::Relaxed);
    }

    /// Puts what the first piece says into the key of a later one.
    fn complete(&self, key: &mut FlowKey) {
        let [a, b, c, d, proto, flags, icmp_type, icmp_code] =
            self.taken_over.load(Ordering::Relaxed).to_ne_bytes();
        key.src_port = u16::from_ne_bytes([a, b]);
        key.dst_port = u16::from_ne_bytes([c, d]);
        // In IPv6 a later piece may name an extension header, which only the first has.
        key.proto = proto;
        key.flags |= flags;
        (key.icmp_type, key.icmp_code) = (icmp_type, icmp_code);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test says what it expects")]
    use sluice_packet::build::FrameBuilder;
    use sluice_packet::{InnerTag, Mac, parse};

    use super::*;

    fn eth() -> FrameBuilder<'static> {
        FrameBuilder::new(Mac([2, 0, 0, 0, 0, 2]), Mac([2, 0, 0, 0, 0, 1]))
    }

    fn v4(last: u8) -> FrameBuilder<'static> {
        eth().ipv4([10, 0, 0, last].into(), [10, 0, 0, 99].into())
    }

    fn v6() -> FrameBuilder<'static> {
        let address = |text: &str| text.parse().unwrap();
        eth().ipv6(address("fd00::1"), address("fd00::2"))
    }

    fn follow(
        table: &PieceTable,
        builder: &FrameBuilder<'_>,
        now_ms: u64,
    ) -> Result<FlowKey, DropReason> {
        let frame = builder.build();
        let parsed = parse(&frame, InnerTag::Allow).unwrap();
        let mut key = parsed.key;
        table.follow(&frame, &mut key, parsed.l3, now_ms)?;
        Ok(key)
    }

    #[test]
    fn later_pieces_are_judged_as_their_first() {
        for ip in [v4(1), v6()] {
            let table = PieceTable::default();
            let udp = ip.clone().udp(5, 6).payload(&[0; 24]);
            let later = follow(&table, &udp.clone().fragment(32, false), 0).unwrap();
            assert!(!later.has(FlowKey::PORTS), "its first was not seen yet");
            let first = follow(&table, &udp.clone().fragment(0, true), 0).unwrap();
            assert!(first.has(FlowKey::PORTS));
            for (offset, more) in [(64, false), (32, true), (32, true)] {
                let later = follow(&table, &udp.clone().fragment(offset, more), 30_000).unwrap();
                assert_eq!((later.src_port, later.dst_port, later.proto), (5, 6, 17));
                assert!(later.has(FlowKey::LATER_FRAGMENT) && later.has(FlowKey::PORTS));
            }
            let old = follow(&table, &udp.clone().fragment(32, false), 30_001).unwrap();
            assert!(!old.has(FlowKey::PORTS), "remembered for 30 s");
            for offset in [8, 16, 24] {
                let over = follow(&table, &udp.clone().fragment(offset, true), 0);
                assert_eq!(over, Err(DropReason::FragmentOverlap));
            }
            let whole = follow(&table, &ip.udp(7, 8), 0).unwrap();
            assert_eq!(whole.dst_port, 8);
        }
    }

    #[test]
    fn a_second_first_piece_does_not_make_the_first_one_shorter() {
        let table = PieceTable::default();
        let long = v4(1).udp(5, 6).payload(&[0; 24]);
        let short = v4(1).udp(5, 6);
        follow(&table, &long.clone().fragment(0, true), 0).unwrap();
        follow(&table, &short.clone().fragment(0, true), 1).unwrap();
        let behind = |now| follow(&table, &long.clone().fragment(8, false), now);
        assert_eq!(behind(1), Err(DropReason::FragmentOverlap));
        // Another datagram, once the first is forgotten.
        follow(&table, &short.fragment(0, true), 30_002).unwrap();
        assert_eq!(behind(30_002).unwrap().dst_port, 6);
    }

    #[test]
    fn icmp_keeps_its_type() {
        let table = PieceTable::default();
        let ping = v4(1).icmp(8, 0, [0; 4]).payload(&[0; 24]);
        follow(&table, &ping.clone().fragment(0, true), 0).unwrap();
        let later = follow(&table, &ping.fragment(32, false), 0).unwrap();
        assert!(later.has(FlowKey::ICMP) && later.icmp_type == 8);
        // Another protocol with the same identification is another datagram.
        let udp = v4(1).udp(5, 6).payload(&[0; 24]).fragment(32, false);
        assert!(!follow(&table, &udp, 0).unwrap().has(FlowKey::PORTS));
    }

    #[test]
    fn a_later_piece_that_names_an_extension_header_gets_the_transport_of_its_first() {
        let table = PieceTable::default();
        let udp = v6().udp(5, 6).payload(&[0; 24]);
        follow(&table, &udp.fragment(0, true), 0).unwrap();
        let options = v6().proto(60).payload(&[0xff; 24]).fragment(32, false);
        let later = follow(&table, &options, 0).unwrap();
        assert_eq!((later.proto, later.dst_port), (17, 6));
    }

    #[test]
    fn a_pod_that_sends_for_itself_sends_the_first_piece_first() {
        let strict = Pose::default();
        let router: Roles = [Role::Router].into_iter().collect();
        let of = |roles, anti_spoof| {
            let pose = Pose {
                anti_spoof,
                ..strict.clone()
            };
            PieceTable::of_pod(roles, &pose)
        };
        let udp = v4(1).udp(5, 6).payload(&[0; 24]);
        let later = udp.clone().fragment(32, false);
        for passes_on in [
            of(router, AntiSpoof::Strict),
            of(Roles::default(), AntiSpoof::Mac),
            of(Roles::default(), AntiSpoof::Off),
        ] {
            assert!(!follow(&passes_on, &later, 0).unwrap().has(FlowKey::PORTS));
        }
        let table = of(Roles::default(), AntiSpoof::Strict);
        let alone = Err(DropReason::FragmentWithoutFirst);
        assert_eq!(follow(&table, &later, 0), alone);
        follow(&table, &udp.fragment(0, true), 0).unwrap();
        assert_eq!(follow(&table, &later, 30_000).unwrap().dst_port, 6);
        assert_eq!(follow(&table, &later, 30_001), alone, "forgotten");
    }

    #[test]
    fn the_oldest_datagram_makes_room() {
        let table = PieceTable::default();
        let piece = |from: u8, offset: u16, more: bool| {
            let udp = v4(from).udp(u16::from(from), 6).payload(&[0; 24]);
            udp.fragment(offset, more)
        };
        let all = u8::try_from(DATAGRAMS).unwrap() + 1;
        for from in 0..all {
            follow(&table, &piece(from, 0, true), from.into()).unwrap();
        }
        let known = |from: u8| {
            let key = follow(&table, &piece(from, 32, false), 80).unwrap();
            key.has(FlowKey::PORTS).then_some(key.src_port)
        };
        assert_eq!(known(0), None, "the oldest");
        for from in 1..all {
            assert_eq!(known(from), Some(u16::from(from)));
        }
    }
}
