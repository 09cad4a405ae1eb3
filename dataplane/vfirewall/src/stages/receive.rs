// SPDX-License-Identifier: Apache-2.0
//! First stage: the tag and with it the interface, the parser, and what no router may take.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use sluice_packet::ipv4::Ipv4;
use sluice_packet::reject::RejectBuffer;
use sluice_packet::{EtherType, FlowKey, InnerTag, IpProto, Vid, outer_tag, parse_into};

use crate::burst::{Burst, Packet, Step};
use crate::context::{Context, Links};
use crate::drops::Drop;
use crate::interfaces::{Interface, InterfaceId, is_link_local_v6};
use crate::tables::Tables;

/// Finds each frame's interface and key, and removes frames that are wrong or for others.
pub fn receive<L: Links>(context: &mut Context<'_, L>, burst: &mut Burst, leg: usize) {
    let counters = context.state.counters.leg(leg);
    counters.received += (burst.len() + burst.oversize()) as u64;
    counters.drops[Drop::Oversize.index()] += burst.oversize() as u64;
    burst.each(|packet| {
        let counters = context.state.counters.leg(leg);
        counters.received_bytes += packet.frame.bytes().len() as u64;
        let input = match interface_of(context.tables, leg, packet) {
            Ok(input) => input,
            Err(reason) => {
                counters.drops[reason.index()] += 1;
                return Step::Gone;
            }
        };
        packet.input = input;
        context.state.counters.interface(input).input += 1;
        let checked = parse(context.tables, packet).and_then(|()| check(context.tables, packet));
        let Err(reason) = checked else {
            return Step::On;
        };
        context.drop(input, reason);
        if matches!(reason, Drop::MartianSource | Drop::ReversePath) {
            context.log_drop(packet.key(), input, reason);
        }
        Step::Gone
    });
}

/// Interface of a frame, whose tag is removed. VID 0 is no VLAN: the tag has a priority alone.
fn interface_of(tables: &Tables, leg: usize, packet: &mut Packet) -> Result<InterfaceId, Drop> {
    let vid = match outer_tag(packet.frame.bytes(), &[EtherType::VLAN]) {
        None => Vid::UNTAGGED,
        Some(tag) => {
            packet.frame.remove_tag();
            tag.vid().ok_or(Drop::Malformed)?
        }
    };
    tables.interfaces.of(leg, vid).ok_or(Drop::UnknownVlan)
}

fn parse(tables: &Tables, packet: &mut Packet) -> Result<(), Drop> {
    let bytes = packet.frame.bytes();
    let layout = parse_into(bytes, InnerTag::Refuse, &mut packet.parsed.key);
    let layout = layout.map_err(|_| Drop::Malformed)?;
    packet.parsed = layout.with(packet.parsed.key);
    packet.parsed.key.vid = tables.interfaces.get(packet.input).vlan.get();
    packet.frame.truncate(layout.end);
    Ok(())
}

fn check(tables: &Tables, packet: &Packet) -> Result<(), Drop> {
    let interface = tables.interfaces.get(packet.input);
    let key = packet.key();
    if !key.src_mac().is_unicast() {
        return Err(Drop::Malformed);
    }
    let to_group = key.dst_mac().is_multicast();
    if !to_group && key.dst_mac() != interface.mac {
        return Err(Drop::NotForUs);
    }
    if key.has(FlowKey::ARP) {
        return Ok(());
    }
    if !key.is_ip() {
        return Err(Drop::NotIp);
    }
    if key.has(FlowKey::IPV4) {
        let header = Ipv4::new(packet.frame.packet(packet.parsed.l3));
        if !header.is_ok_and(|header| header.checksum_ok()) {
            return Err(Drop::BadChecksum);
        }
    }
    // A packet to one host in a frame to all is an attack or a mistake (RFC 1122, 3.3.6).
    if to_group && !is_group(packet.dst()) {
        return Err(Drop::NotUnicast);
    }
    check_source(tables, interface, packet)
}

fn is_group(address: IpAddr) -> bool {
    match address {
        // Also directed broadcasts: they go no further than this.
        IpAddr::V4(v4) => v4.is_multicast() || v4.is_broadcast(),
        IpAddr::V6(v6) => v6.is_multicast(),
    }
}

/// Source addresses that are no single host's (RFC 1812, 5.3.7; RFC 4291, 2.5 and 2.7), or that lie.
fn check_source(tables: &Tables, interface: &Interface, packet: &Packet) -> Result<(), Drop> {
    let src = packet.src();
    let is_martian = match src {
        IpAddr::V4(v4) => is_martian_v4(v4) || interface.is_directed_broadcast(v4),
        // The unspecified one asks whether an address is free, or reports a group.
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => {
            packet.key().proto != IpProto::ICMPV6 || !is_group(packet.dst())
        }
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_multicast(),
    };
    if is_martian || tables.interfaces.is_own(src) || interface.has(src) {
        return Err(Drop::MartianSource);
    }
    let is_local = match src {
        IpAddr::V4(_) => false,
        IpAddr::V6(v6) => v6.is_unspecified() || is_link_local_v6(v6),
    };
    if interface.reverse_path && !is_local {
        let route = tables.routes.lookup(src);
        if route.is_none_or(|route| route.interface != packet.input) {
            return Err(Drop::ReversePath);
        }
    }
    Ok(())
}

/// Whether an IPv4 address is no single host's: 0/8, 127/8, and class D and E.
pub(crate) fn is_martian_v4(address: Ipv4Addr) -> bool {
    matches!(address.octets()[0], 0 | 127 | 224..)
}
