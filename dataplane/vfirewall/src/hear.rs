// SPDX-License-Identifier: Apache-2.0
//! Messages of neighbours: ARP (RFC 826) and neighbour discovery (RFC 4861), as far as it can be true.

use std::net::{IpAddr, Ipv6Addr};

use sluice_packet::arp::{self, Arp, ArpFields};
use sluice_packet::build::FrameBuilder;
use sluice_packet::icmpv6::Icmpv6;
use sluice_packet::ipv6::Ipv6;
use sluice_packet::nd::{self, Kind, Nd};
use sluice_packet::{Mac, l4};

use crate::ask::{self, ND_HOPS};
use crate::burst::Packet;
use crate::context::{Context, Links};
use crate::drops::Drop;
use crate::neighbours::Neighbours;
use crate::stages::resolve;

/// Takes an ARP packet: learns its sender, and answers if it asks for an own address.
pub(crate) fn arp<L: Links>(
    context: &mut Context<'_, L>,
    neighbours: &mut Neighbours,
    packet: &Packet,
) -> Result<(), Drop> {
    let input = packet.input;
    let tables = std::sync::Arc::clone(context.tables);
    let interface = tables.interfaces.get(input);
    let arp = Arp::new(packet.frame.packet(packet.parsed.l3)).map_err(|_| Drop::BadNeighbour)?;
    let (sender, mac) = (IpAddr::V4(arp.sender_ip()), arp.sender_mac());
    // A proxy that answers in another's name is no neighbour of this firewall.
    let is_honest = mac.is_unicast() && mac == packet.key().src_mac();
    let is_asked = matches!(arp.operation(), arp::REQUEST | arp::REPLY);
    if !is_honest || !is_asked {
        return Err(Drop::BadNeighbour);
    }
    if interface.has(sender) {
        conflict(context, packet, sender, mac);
        return Err(Drop::BadNeighbour);
    }
    let is_probe = arp.sender_ip().is_unspecified();
    if !is_probe && !interface.is_on_link(sender) {
        return Err(Drop::BadNeighbour);
    }
    let to_us = interface.has(IpAddr::V4(arp.target_ip()));
    if !is_probe {
        learn(context, neighbours, packet, sender, mac, to_us);
    }
    if to_us && arp.operation() == arp::REQUEST {
        let reply = ArpFields {
            operation: arp::REPLY,
            sender_mac: interface.mac,
            sender_ip: arp.target_ip(),
            target_mac: mac,
            target_ip: arp.sender_ip(),
        };
        let frame = FrameBuilder::new(mac, interface.mac).arp(reply).padded();
        context.make(input, &frame);
    }
    Ok(())
}

/// Takes a neighbour solicitation or advertisement.
pub(crate) fn nd<L: Links>(
    context: &mut Context<'_, L>,
    neighbours: &mut Neighbours,
    packet: &Packet,
) -> Result<(), Drop> {
    let bad = |_| Drop::BadNeighbour;
    let ip = Ipv6::new(packet.frame.packet(packet.parsed.l3)).map_err(bad)?;
    let upper = ip.upper().map_err(bad)?;
    let is_whole = upper.fragment.is_none();
    let is_right = l4::verify_checksum(packet.frame.bytes(), &packet.parsed) == Some(true);
    if ip.hop_limit() != ND_HOPS || !is_whole || !is_right {
        return Err(Drop::BadNeighbour);
    }
    let icmp = Icmpv6::new(upper.payload).map_err(bad)?;
    let message = Nd::new(&icmp).ok_or(Drop::BadNeighbour)?.map_err(bad)?;
    match message.kind() {
        Kind::NeighbourSolicit { target } => {
            let mac = message.mac_option(nd::OPTION_SOURCE_MAC).map_err(bad)?;
            solicited(context, neighbours, packet, (ip.src(), target), mac)
        }
        Kind::NeighbourAdvert { target } => {
            let mac = message.mac_option(nd::OPTION_TARGET_MAC).map_err(bad)?;
            advertised(context, neighbours, packet, target, mac)
        }
        _ => Err(Drop::BadNeighbour),
    }
}

fn solicited<L: Links>(
    context: &mut Context<'_, L>,
    neighbours: &mut Neighbours,
    packet: &Packet,
    (src, target): (Ipv6Addr, Ipv6Addr),
    mac: Option<Mac>,
) -> Result<(), Drop> {
    let interface = context.tables.interfaces.get(packet.input);
    if target.is_multicast() {
        return Err(Drop::BadNeighbour);
    }
    let ours = interface.has(target.into());
    if src.is_unspecified() {
        // Somebody is about to take the address: it is taken (RFC 4862, 5.4.3).
        if mac.is_some() {
            return Err(Drop::BadNeighbour);
        }
        if ours {
            ask::advertise(context, packet.input, target, None);
        }
        return Ok(());
    }
    let on_link = interface.is_on_link(src.into());
    let mac = mac.unwrap_or(packet.key().src_mac());
    if !on_link || !mac.is_unicast() {
        return Err(Drop::BadNeighbour);
    }
    if ours {
        learn(context, neighbours, packet, src.into(), mac, true);
        ask::advertise(context, packet.input, target, Some((src, mac)));
    }
    Ok(())
}

fn advertised<L: Links>(
    context: &mut Context<'_, L>,
    neighbours: &mut Neighbours,
    packet: &Packet,
    target: Ipv6Addr,
    mac: Option<Mac>,
) -> Result<(), Drop> {
    let interface = context.tables.interfaces.get(packet.input);
    let mac = mac.unwrap_or(packet.key().src_mac());
    if interface.has(target.into()) {
        conflict(context, packet, target.into(), mac);
        return Err(Drop::BadNeighbour);
    }
    if !mac.is_unicast() || !interface.is_on_link(target.into()) {
        return Err(Drop::BadNeighbour);
    }
    learn(context, neighbours, packet, target.into(), mac, false);
    Ok(())
}

/// Enters what a neighbour says of itself, and sends what waited for it.
fn learn<L: Links>(
    context: &mut Context<'_, L>,
    neighbours: &mut Neighbours,
    packet: &Packet,
    address: IpAddr,
    mac: Mac,
    insert: bool,
) {
    let target = (packet.input, address);
    neighbours.learn(target, mac, insert, context.now, |waiting| {
        resolve::resume(context, waiting, mac);
    });
}

/// Counts another host that claims an own address, and tells of it.
fn conflict<L: Links>(context: &mut Context<'_, L>, packet: &Packet, address: IpAddr, mac: Mac) {
    let tables = std::sync::Arc::clone(context.tables);
    let interface = tables.interfaces.get(packet.input);
    context.state.counters.interface(packet.input).conflicts += 1;
    if context.state.log.allows(interface.leg, context.now) {
        let text = format!(
            "{mac} claims {address}, which is this firewall's on {}: give one of them another",
            interface.name
        );
        let leg = tables.leg_name(interface.leg);
        context.state.log.note("address_conflict", leg, text);
    }
}
