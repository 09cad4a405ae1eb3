// SPDX-License-Identifier: Apache-2.0
//! Routing stage: time to live, the longest prefix, and the size of the next link.

use std::net::IpAddr;

use sluice_packet::FlowKey;
use sluice_packet::ipv4::Ipv4;
use sluice_packet::ipv6;

use super::receive::is_martian_v4;
use crate::answer::{self, Trouble};
use crate::burst::{Burst, Packet, Step};
use crate::context::{Context, Links};
use crate::drops::Drop;
use crate::interfaces::is_link_local_v6;
use crate::tables::Tables;

/// Finds each packet's next hop; answers those that have none.
pub fn route<L: Links>(context: &mut Context<'_, L>, burst: &mut Burst) {
    burst.each(|packet| {
        let Err((reason, trouble)) = route_one(context.tables, packet) else {
            return Step::On;
        };
        context.drop(packet.input, reason);
        if let Some(trouble) = trouble {
            answer::trouble(context, packet, trouble);
        }
        Step::Gone
    });
}

fn route_one(tables: &Tables, packet: &mut Packet) -> Result<(), (Drop, Option<Trouble>)> {
    forwardable(packet).map_err(|reason| (reason, None))?;
    if ttl(packet) <= 1 {
        return Err((Drop::TtlExpired, Some(Trouble::TimeExceeded)));
    }
    let next = tables.routes.next_hop(packet.dst());
    let (output, next_hop) = next.ok_or((Drop::NoRoute, Some(Trouble::NetUnreachable)))?;
    let interface = tables.interfaces.get(output);
    if let IpAddr::V4(v4) = packet.dst()
        && interface.is_directed_broadcast(v4)
    {
        // RFC 2644: directed broadcasts are not forwarded.
        return Err((Drop::NotUnicast, None));
    }
    packet.output = output;
    packet.next_hop = next_hop;
    if packet_len(packet) > usize::from(interface.mtu) && !may_fragment(packet) {
        return Err((Drop::TooBig, Some(Trouble::TooBig(interface.mtu))));
    }
    Ok(())
}

/// Addresses that a router forwards between (RFC 1812, 5.3.7; RFC 4291, 2.5.6; RFC 3927, 2.7).
fn forwardable(packet: &Packet) -> Result<(), Drop> {
    match (packet.src(), packet.dst()) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            if dst.is_multicast() || dst.is_broadcast() {
                return Err(Drop::NotUnicast);
            }
            if is_martian_v4(dst) {
                return Err(Drop::MartianDestination);
            }
            if src.is_link_local() || dst.is_link_local() {
                return Err(Drop::LinkLocal);
            }
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            if dst.is_multicast() {
                return Err(Drop::NotUnicast);
            }
            if dst.is_unspecified() || dst.is_loopback() || src.is_unspecified() {
                return Err(Drop::MartianDestination);
            }
            if is_link_local_v6(src) || is_link_local_v6(dst) {
                return Err(Drop::LinkLocal);
            }
        }
        _ => return Err(Drop::NotIp),
    }
    Ok(())
}

/// Time to live, or hop limit.
fn ttl(packet: &Packet) -> u8 {
    let header = packet.frame.packet(packet.parsed.l3);
    let at = if packet.key().has(FlowKey::IPV4) {
        8
    } else {
        7
    };
    header.get(at).copied().unwrap_or(0)
}

/// Bytes of the IP packet as it states them.
pub(crate) fn packet_len(packet: &Packet) -> usize {
    let header = packet.frame.packet(packet.parsed.l3);
    let field = |at: usize| {
        let bytes = header.get(at..at + 2).and_then(|b| b.first_chunk::<2>());
        bytes.map_or(0, |bytes| usize::from(u16::from_be_bytes(*bytes)))
    };
    if packet.key().has(FlowKey::IPV4) {
        field(2)
    } else {
        ipv6::HEADER_LEN + field(4)
    }
}

fn may_fragment(packet: &Packet) -> bool {
    packet.key().has(FlowKey::IPV4)
        && Ipv4::new(packet.frame.packet(packet.parsed.l3)).is_ok_and(|ip| !ip.dont_fragment())
}
