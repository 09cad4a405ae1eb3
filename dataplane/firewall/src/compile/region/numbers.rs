// SPDX-License-Identifier: Apache-2.0
//! Coordinates of keys: the numbers by which tables are searched.

use sluice_packet::FlowKey;

use crate::masked_mac::number;
use crate::matches::has_l4;

/// Bound above every [`class_of`].
pub(crate) const CLASSES: u32 = OTHER + 0x1_0000;
/// Bound above every [`l4_of`] and [`src_port_of`].
pub(crate) const L4S: u32 = WITHOUT + 1;

/// Classes: four of each IPv4 protocol, four of each IPv6 protocol, then the EtherTypes of everything
/// else.
pub(super) const V4: u32 = 0;
pub(super) const V6: u32 = 0x400;
pub(super) const OTHER: u32 = 0x800;

/// Classes of one protocol: whole packets, first fragments, later fragments, and one that no packet
/// has, so that the class is found by a shift and all of a protocol are one range.
pub(super) const WHOLE: u32 = 0;
pub(super) const FIRST: u32 = 1;
pub(super) const LATER: u32 = 2;
pub(super) const KINDS: u32 = 4;

/// Transport: destination ports, then ICMP types with their codes, then "cannot be read", then "the
/// protocol has none".
pub(super) const ICMP: u32 = 0x1_0000;
pub(super) const UNKNOWN: u32 = 0x2_0000;
pub(super) const WITHOUT: u32 = UNKNOWN + 1;

/// Source or destination address of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Address {
    V4(u32),
    V6(u128),
    None,
}

/// Transport coordinate of an ICMP message.
#[inline]
pub(super) fn icmp_number(icmp_type: u8, code: u8) -> u32 {
    ICMP + u32::from(u16::from_be_bytes([icmp_type, code]))
}

/// Class coordinate of a key, below [`CLASSES`].
#[inline]
pub(crate) fn class_of(key: &FlowKey) -> u32 {
    let base = if key.has(FlowKey::IPV4) {
        V4
    } else if key.has(FlowKey::IPV6) {
        V6
    } else {
        return OTHER + u32::from(key.ethertype);
    };
    // A later fragment has both flags.
    let kind = u32::from(key.has(FlowKey::FRAGMENT)) + u32::from(key.has(FlowKey::LATER_FRAGMENT));
    base + u32::from(key.proto) * KINDS + kind
}

/// Source port coordinate of a key, below [`L4S`].
#[inline]
pub(crate) fn src_port_of(key: &FlowKey) -> u32 {
    if key.has(FlowKey::PORTS) {
        u32::from(key.src_port)
    } else {
        UNKNOWN
    }
}

/// Transport coordinate of a key, below [`L4S`].
#[inline]
pub(crate) fn l4_of(key: &FlowKey) -> u32 {
    if key.has(FlowKey::PORTS) {
        u32::from(key.dst_port)
    } else if key.has(FlowKey::ICMP) {
        icmp_number(key.icmp_type, key.icmp_code)
    } else if has_l4(key.proto) {
        UNKNOWN
    } else {
        WITHOUT
    }
}

#[inline]
pub(crate) fn src_of(key: &FlowKey) -> Address {
    address(key, &key.src)
}

#[inline]
pub(crate) fn dst_of(key: &FlowKey) -> Address {
    address(key, &key.dst)
}

#[inline]
fn address(key: &FlowKey, bytes: &[u8; 16]) -> Address {
    if has_v4(key) {
        Address::V4(last_four(bytes))
    } else if key.has(FlowKey::IPV6) {
        Address::V6(u128::from_be_bytes(*bytes))
    } else {
        Address::None
    }
}

#[inline]
pub(crate) fn src_mac_of(key: &FlowKey) -> u64 {
    number(key.src_mac())
}

#[inline]
pub(crate) fn dst_mac_of(key: &FlowKey) -> u64 {
    number(key.dst_mac())
}

/// Whether [`src_of`] and [`dst_of`] are IPv4.
#[inline]
pub(crate) fn has_v4(key: &FlowKey) -> bool {
    key.has(FlowKey::IPV4 | FlowKey::ARP)
}

/// IPv4 source address of a key; meaningless unless [`has_v4`].
#[inline]
pub(crate) fn src_v4_of(key: &FlowKey) -> u32 {
    last_four(&key.src)
}

/// IPv4 destination address of a key; meaningless unless [`has_v4`].
#[inline]
pub(crate) fn dst_v4_of(key: &FlowKey) -> u32 {
    last_four(&key.dst)
}

#[inline]
fn last_four(bytes: &[u8; 16]) -> u32 {
    let [.., a, b, c, d] = *bytes;
    u32::from_be_bytes([a, b, c, d])
}
