// SPDX-License-Identifier: Apache-2.0
//! Identity of an attachment: the addresses it may pose as, and the roles it was given. All workers
//! see it, through any version of the tables.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use sluice_packet::pose::AntiSpoof;
use sluice_packet::role::Roles;
use sluice_packet::{FlowKey, Mac, Vid};

use crate::drops::DropReason;
use crate::pipeline::allowed_pairs::AllowedPairs;
use crate::pipeline::claims::Claims;
use crate::pipeline::fragments::PieceTable;
use crate::pipeline::learn::LearnedCount;
use crate::spec::AttachmentSpec;

/// Identity of an attachment, as long as the attachment lives.
#[derive(Debug)]
pub(crate) struct Identity {
    pub(crate) mac: Mac,
    pub(crate) roles: Roles,
    /// Check of its sender addresses.
    pub(crate) anti_spoof: AntiSpoof,
    pairs: AllowedPairs,
    /// As in [`FlowKey::src`]. Empty: any address.
    addresses: Box<[[u8; 16]]>,
    /// `fe80::` with the interface id made of the MAC (RFC 4291, appendix A): always its own.
    link_local: [u8; 16],
    /// Link-local addresses that it took by using them, by VID.
    claims: Box<[(u16, Claims)]>,
    /// Claims in all VLANs together, so that most attachments need not be searched for any.
    pub(crate) claim_count: AtomicUsize,
    /// MAC addresses besides its own that it has learned.
    pub(crate) learned: LearnedCount,
    /// First pieces of the datagrams that come from it.
    pub(crate) pieces_out: PieceTable,
    /// First pieces of the datagrams that come to it from the wire.
    pub(crate) pieces_in: PieceTable,
    /// A frame with its MAC as source came from the wire, and control was told.
    told_of_wire: AtomicBool,
    /// Drop reasons of spoofed frames that control was told of, by bit.
    told_of_spoofed: AtomicU64,
}

impl Identity {
    pub(crate) fn new(spec: &AttachmentSpec) -> Identity {
        let vids = spec.vlans.vids();
        Identity {
            mac: spec.mac,
            roles: spec.roles,
            anti_spoof: spec.pose.anti_spoof,
            pairs: AllowedPairs::new(&spec.pose.pairs, spec.mac),
            addresses: spec.addresses.iter().map(key_address).collect(),
            link_local: link_local_of(spec.mac),
            claims: vids.iter().map(|v| (v.get(), Claims::default())).collect(),
            claim_count: AtomicUsize::new(0),
            learned: LearnedCount::default(),
            pieces_out: PieceTable::of_pod(spec.roles, &spec.pose),
            pieces_in: PieceTable::default(),
            told_of_wire: AtomicBool::new(false),
            told_of_spoofed: AtomicU64::new(0),
        }
    }

    /// Whether the attachment has `address` (as in [`FlowKey::src`]) from its beginning: it was
    /// configured, or is made of the MAC.
    pub(crate) fn was_given(&self, address: &[u8; 16]) -> bool {
        *address == self.link_local || self.addresses.contains(address)
    }

    /// Whether the attachment may send from a MAC address, unless another attachment has it.
    pub(crate) fn may_use(&self, mac: Mac) -> bool {
        let may_be_foreign = match self.anti_spoof {
            AntiSpoof::Off => mac.is_unicast() && mac != Mac::ZERO,
            AntiSpoof::Strict | AntiSpoof::Mac => self.pairs.has_mac(mac),
        };
        mac == self.mac || may_be_foreign
    }

    /// Whether `address` may be behind a MAC address that the attachment may use.
    pub(crate) fn may_have_at(&self, mac: Mac, address: &[u8; 16]) -> bool {
        match self.anti_spoof {
            AntiSpoof::Strict => {
                mac == self.mac && self.may_have(address) || self.pairs.allow(mac, address)
            }
            AntiSpoof::Mac | AntiSpoof::Off => true,
        }
    }

    /// Whether a pair has this address, so that it need not be claimed.
    pub(crate) fn has_in_pair(&self, mac: Mac, address: &[u8; 16]) -> bool {
        self.pairs.have(mac, address)
    }

    /// Whether a pair names this address, so that it may be announced even if another was given it.
    pub(crate) fn names(&self, mac: Mac, address: &[u8; 16]) -> bool {
        self.pairs.name(mac, address)
    }

    /// Whether the attachment may send from `address`, its own MAC address before it. A link-local one
    /// that it was not given it has to claim besides.
    fn may_have(&self, address: &[u8; 16]) -> bool {
        if is_link_local(address) {
            return self.was_given(address) || interface_id(address).is_some();
        }
        self.addresses.is_empty() || self.addresses.contains(address)
    }

    /// The addresses that it was given, the one made of the MAC among them.
    pub(crate) fn given(&self) -> impl Iterator<Item = [u8; 16]> {
        self.addresses.iter().copied().chain([self.link_local])
    }

    /// Number of its VLANs.
    pub(crate) fn vlans(&self) -> usize {
        self.claims.len()
    }

    /// Claims of the attachment in a VLAN of its own.
    pub(crate) fn claims(&self, vid: u16) -> Option<&Claims> {
        let at = self.claims.binary_search_by_key(&vid, |(vid, _)| *vid);
        Some(&self.claims.get(at.ok()?)?.1)
    }

    /// Claims of the attachment in all its VLANs.
    pub(crate) fn all_claims(&self) -> impl Iterator<Item = (u16, &Claims)> {
        self.claims.iter().map(|(vid, claims)| (*vid, claims))
    }

    /// Link-local addresses that it took by using them.
    pub(crate) fn claimed(&self) -> Vec<(Vid, Ipv6Addr)> {
        let of_vlan = |&(vid, ref claims): &(u16, Claims)| {
            let vid = Vid::new(vid).unwrap_or(Vid::UNTAGGED);
            let ids: Vec<_> = claims.iter().collect();
            ids.into_iter().map(move |id| (vid, link_local_with(id)))
        };
        self.claims.iter().flat_map(of_vlan).collect()
    }

    /// Notes that control is told of a frame from the wire with this MAC as source. Returns whether
    /// this is the first time.
    pub(crate) fn tell_of_wire(&self) -> bool {
        !self.told_of_wire.swap(true, Ordering::Relaxed)
    }

    /// Takes back [`Identity::tell_of_wire`]: control could not be told.
    pub(crate) fn untell_of_wire(&self) {
        self.told_of_wire.store(false, Ordering::Relaxed);
    }

    /// Whether control was told of a frame that was dropped for `reason`.
    pub(crate) fn is_told_of_spoofed(&self, reason: DropReason) -> bool {
        self.told_of_spoofed.load(Ordering::Relaxed) & spoofed_bit(reason) != 0
    }

    /// Notes that control is told of a frame that was dropped for `reason`.
    pub(crate) fn tell_of_spoofed(&self, reason: DropReason) {
        let bit = spoofed_bit(reason);
        self.told_of_spoofed.fetch_or(bit, Ordering::Relaxed);
    }
}

/// Bit of a drop reason.
fn spoofed_bit(reason: DropReason) -> u64 {
    1 << (reason as u32 % u64::BITS)
}

/// An address as a [`FlowKey`] holds it.
pub(crate) fn key_address(address: &IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(v4) => FlowKey::mapped(v4.octets()),
        IpAddr::V6(v6) => v6.octets(),
    }
}

/// Whether an address is of fe80::/10.
pub(crate) fn is_link_local(address: &[u8; 16]) -> bool {
    let [a, b, ..] = *address;
    a == 0xfe && b & 0xc0 == 0x80
}

/// Interface id of a link-local address, which is not 0; `None` of any other address, and of a
/// link-local one of a form that RFC 4291 (2.5.6) does not have.
pub(crate) fn interface_id(address: &[u8; 16]) -> Option<u64> {
    let all = u128::from_be_bytes(*address);
    #[allow(clippy::cast_possible_truncation, reason = "the lower half")]
    let id = all as u64;
    (all >> 64 == 0xfe80 << 48 && id != 0).then_some(id)
}

/// Link-local address with an interface id.
pub(crate) fn link_local_with(id: u64) -> Ipv6Addr {
    Ipv6Addr::from_bits(0xfe80 << 112 | u128::from(id))
}

fn link_local_of(mac: Mac) -> [u8; 16] {
    let [a, b, c, d, e, f] = mac.0;
    let id = u64::from_be_bytes([a ^ 2, b, c, 0xff, 0xfe, d, e, f]);
    link_local_with(id).octets()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test says what it expects")]
    use super::*;

    fn octets(text: &str) -> [u8; 16] {
        text.parse::<Ipv6Addr>().unwrap().octets()
    }

    #[test]
    fn the_link_local_address_is_that_of_rfc_4291() {
        let mac: Mac = "34:56:78:9a:bc:de".parse().unwrap();
        let address = link_local_of(mac);
        assert_eq!(address, octets("fe80::3656:78ff:fe9a:bcde"));
        assert_eq!(interface_id(&address), Some(0x3656_78ff_fe9a_bcde));
    }

    #[test]
    fn interface_ids() {
        assert_eq!(interface_id(&octets("fe80::1:2")), Some(0x1_0002));
        for other in [
            "fe80::",
            "fe80:1::1",
            "febf::1",
            "fd00::1",
            "fec0::1",
            "::1",
        ] {
            assert_eq!(interface_id(&octets(other)), None, "{other}");
        }
        for (address, is) in [("fe80::1", true), ("febf::1", true), ("fec0::1", false)] {
            assert_eq!(is_link_local(&octets(address)), is, "{address}");
        }
    }
}
