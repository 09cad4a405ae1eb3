// SPDX-License-Identifier: Apache-2.0
//! Requests for a neighbour's MAC address, and what the firewall says of its own.

use std::net::{IpAddr, Ipv6Addr};

use ipnet::IpNet;
use sluice_packet::arp::{self, ArpFields};
use sluice_packet::build::FrameBuilder;
use sluice_packet::{IpProto, Mac, nd};

use crate::context::{Context, Links};
use crate::interfaces::{Interface, InterfaceId};

/// All nodes of the link.
pub(crate) const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
/// All routers that listen to MLD reports (RFC 3810, 5.2.14).
const MLD_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x16);
/// ICMPv6 type of an MLD report, version 2.
const MLD_REPORT: u8 = 143;
/// Record that says: all sources of this group (RFC 3810, 5.2.12).
const MODE_IS_EXCLUDE: u8 = 2;
/// Hop-by-hop header with the Router Alert option for MLD (RFC 2711) and padding.
const ROUTER_ALERT: [u8; 8] = [0, 0, 5, 2, 0, 0, 1, 0];
/// Flags of an advertisement: from a router; it replaces what was known (RFC 4861, 4.4).
const ROUTER: u8 = 0x80;
const SOLICITED: u8 = 0x40;
const OVERRIDE: u8 = 0x20;
/// Hop limit that proves that a message comes from the link.
pub(crate) const ND_HOPS: u8 = 255;

/// Group in which a host is asked for (RFC 4291, 2.7.1).
#[must_use]
pub fn solicited_node(address: Ipv6Addr) -> Ipv6Addr {
    let [.., a, b, c] = address.octets();
    let last = u16::from_be_bytes([b, c]);
    Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | u16::from(a), last)
}

/// MAC address of an IPv6 group (RFC 2464, 7).
#[must_use]
pub fn group_mac(group: Ipv6Addr) -> Mac {
    let [.., a, b, c, d] = group.octets();
    Mac([0x33, 0x33, a, b, c, d])
}

/// Groups of an interface in which its own addresses are asked for, each once.
pub(crate) fn solicited_groups(interface: &Interface) -> Vec<Ipv6Addr> {
    let own = interface.addresses.iter().filter_map(|own| match own {
        IpNet::V6(net) => Some(net.addr()),
        IpNet::V4(_) => None,
    });
    let mut groups: Vec<Ipv6Addr> = own
        .chain([interface.link_local()])
        .map(solicited_node)
        .collect();
    groups.sort_unstable();
    groups.dedup();
    groups
}

/// Asks for a neighbour: all hosts of the link, or only the one that had the address last.
pub fn ask<L: Links>(
    context: &mut Context<'_, L>,
    output: InterfaceId,
    address: IpAddr,
    had: Option<Mac>,
) {
    let interface = context.tables.interfaces.get(output);
    let own = interface.mac;
    match (interface.source_for(address), address) {
        (Some(IpAddr::V4(src)), IpAddr::V4(dst)) => {
            let request = ArpFields {
                operation: arp::REQUEST,
                sender_mac: own,
                sender_ip: src,
                target_mac: Mac::ZERO,
                target_ip: dst,
            };
            let to = had.unwrap_or(Mac::BROADCAST);
            context.make(output, &FrameBuilder::new(to, own).arp(request).padded());
        }
        (Some(IpAddr::V6(src)), IpAddr::V6(dst)) => {
            let group = solicited_node(dst);
            let (to, mac) = had.map_or((group, group_mac(group)), |mac| (dst, mac));
            let body = message(dst, nd::OPTION_SOURCE_MAC, own);
            let frame = FrameBuilder::new(mac, own)
                .ipv6(src, to)
                .ttl(ND_HOPS)
                .icmp(nd::NEIGHBOUR_SOLICIT, 0, [0; 4])
                .payload(&body);
            context.make(output, &frame);
        }
        _ => {}
    }
}

/// Advertises an own IPv6 address: to who asked, or (`to` is `None`) to all.
pub(crate) fn advertise<L: Links>(
    context: &mut Context<'_, L>,
    output: InterfaceId,
    address: Ipv6Addr,
    to: Option<(Ipv6Addr, Mac)>,
) {
    let own = context.tables.interfaces.get(output).mac;
    let flags = ROUTER | OVERRIDE | if to.is_some() { SOLICITED } else { 0 };
    let (ip, mac) = to.unwrap_or((ALL_NODES, group_mac(ALL_NODES)));
    let body = message(address, nd::OPTION_TARGET_MAC, own);
    let frame = FrameBuilder::new(mac, own)
        .ipv6(address, ip)
        .ttl(ND_HOPS)
        .icmp(nd::NEIGHBOUR_ADVERT, 0, [flags, 0, 0, 0])
        .payload(&body);
    context.make(output, &frame);
}

/// Announces the addresses of an interface whose link came up, so that switches and hosts learn where
/// they are (RFC 5227, 2.3; RFC 4861, 7.2.6), and joins their groups.
pub fn announce<L: Links>(context: &mut Context<'_, L>, output: InterfaceId) {
    let tables = std::sync::Arc::clone(context.tables);
    let interface = tables.interfaces.get(output);
    report_groups(context, output);
    for address in &interface.addresses {
        match address.addr() {
            IpAddr::V4(own) => {
                let announcement = ArpFields {
                    operation: arp::REQUEST,
                    sender_mac: interface.mac,
                    sender_ip: own,
                    target_mac: Mac::ZERO,
                    target_ip: own,
                };
                let frame = FrameBuilder::new(Mac::BROADCAST, interface.mac);
                context.make(output, &frame.arp(announcement).padded());
            }
            IpAddr::V6(own) => advertise(context, output, own, None),
        }
    }
}

/// Reports the groups of an interface by MLD (RFC 3810), for switches that snoop.
pub(crate) fn report_groups<L: Links>(context: &mut Context<'_, L>, output: InterfaceId) {
    let interface = context.tables.interfaces.get(output);
    let groups = solicited_groups(interface);
    let mut records = Vec::with_capacity(groups.len() * 20);
    for group in &groups {
        records.extend_from_slice(&[MODE_IS_EXCLUDE, 0, 0, 0]);
        records.extend_from_slice(&group.octets());
    }
    let [high, low] = u16::try_from(groups.len()).unwrap_or(0).to_be_bytes();
    let frame = FrameBuilder::new(group_mac(MLD_ROUTERS), interface.mac)
        .ipv6(interface.link_local(), MLD_ROUTERS)
        .ttl(1)
        .extension(IpProto::HOP_BY_HOP, &ROUTER_ALERT)
        .icmp(MLD_REPORT, 0, [0, 0, high, low])
        .payload(&records);
    context.make(output, &frame);
}

/// Target address and option with the own MAC.
fn message(target: Ipv6Addr, option: u8, own: Mac) -> [u8; 24] {
    let mut body = [0; 24];
    body[..16].copy_from_slice(&target.octets());
    body[16..18].copy_from_slice(&[option, 1]);
    body[18..].copy_from_slice(&own.0);
    body
}
