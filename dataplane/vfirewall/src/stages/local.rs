// SPDX-License-Identifier: Apache-2.0
//! Local stage: frames for the firewall itself, which ends their way here.

use std::net::IpAddr;

use sluice_packet::icmpv6;
use sluice_packet::{FlowKey, IpProto, checksum, icmp, nd};

use crate::answer::{self, Trouble};
use crate::ask;
use crate::burst::{Burst, Packet, Step};
use crate::context::{Context, Links};
use crate::drops::Drop;
use crate::hear;
use crate::neighbours::Neighbours;

/// Time to live, and hop limit, of answers.
const TTL: u8 = 64;
/// ICMPv6 type of an MLD query.
const MLD_QUERY: u8 = 130;

/// Answers and learns from frames for the firewall itself, and removes them.
pub fn deliver<L: Links>(
    context: &mut Context<'_, L>,
    neighbours: &mut Neighbours,
    burst: &mut Burst,
) {
    burst.each(|packet| {
        let key = packet.key();
        let used = if key.has(FlowKey::ARP) {
            hear::arp(context, neighbours, packet)
        } else if is_own(context, packet) {
            serve(context, neighbours, packet)
        } else if packet.dst().is_multicast() && key.proto == IpProto::ICMPV6 {
            group_message(context, neighbours, packet)
        } else {
            return Step::On;
        };
        match used {
            Ok(()) => context.state.counters.interface(packet.input).local += 1,
            Err(reason) => context.drop(packet.input, reason),
        }
        Step::Gone
    });
}

fn is_own<L: Links>(context: &Context<'_, L>, packet: &Packet) -> bool {
    let dst = packet.dst();
    let interfaces = &context.tables.interfaces;
    interfaces.is_own(dst) || interfaces.get(packet.input).has(dst)
}

/// Message of ICMPv6 to a group: neighbour discovery, or a query that asks for a report.
fn group_message<L: Links>(
    context: &mut Context<'_, L>,
    neighbours: &mut Neighbours,
    packet: &mut Packet,
) -> Result<(), Drop> {
    let IpAddr::V6(group) = packet.dst() else {
        return Err(Drop::NotUnicast);
    };
    match packet.key().icmp_type {
        nd::NEIGHBOUR_SOLICIT | nd::NEIGHBOUR_ADVERT => hear::nd(context, neighbours, packet),
        MLD_QUERY => {
            let interface = context.tables.interfaces.get(packet.input);
            let asked =
                group == ask::ALL_NODES || ask::solicited_groups(interface).contains(&group);
            if asked && context.may_answer(packet.input) {
                ask::report_groups(context, packet.input);
            }
            Ok(())
        }
        _ => Err(Drop::NotUnicast),
    }
}

/// Packet to an own address. There is nothing on the firewall but ping and neighbour discovery.
fn serve<L: Links>(
    context: &mut Context<'_, L>,
    neighbours: &mut Neighbours,
    packet: &mut Packet,
) -> Result<(), Drop> {
    let key = *packet.key();
    if key.has(FlowKey::FRAGMENT) {
        return Err(Drop::NoService);
    }
    match (key.proto, key.icmp_type) {
        (IpProto::ICMP, icmp::ECHO_REQUEST) if key.has(FlowKey::IPV4) => echo(context, packet),
        (IpProto::ICMPV6, icmpv6::ECHO_REQUEST) if key.has(FlowKey::IPV6) => echo(context, packet),
        (IpProto::ICMPV6, nd::NEIGHBOUR_SOLICIT | nd::NEIGHBOUR_ADVERT)
            if key.has(FlowKey::IPV6) =>
        {
            hear::nd(context, neighbours, packet)
        }
        // Other messages, errors among them, need no answer.
        (IpProto::ICMP | IpProto::ICMPV6, _) => Err(Drop::NoService),
        (IpProto::TCP, _) => {
            answer::reject(context, packet);
            Err(Drop::NoService)
        }
        (IpProto::UDP, _) => {
            answer::trouble(context, packet, Trouble::PortUnreachable);
            Err(Drop::NoService)
        }
        _ => {
            answer::trouble(context, packet, Trouble::ProtocolUnreachable);
            Err(Drop::NoService)
        }
    }
}

/// Turns an echo request into its reply, and sends it back.
fn echo<L: Links>(context: &mut Context<'_, L>, packet: &mut Packet) -> Result<(), Drop> {
    let (l3, l4) = (usize::from(packet.parsed.l3), usize::from(packet.parsed.l4));
    let is_v4 = packet.key().has(FlowKey::IPV4);
    let bytes = packet.frame.bytes_mut();
    let turned = if is_v4 {
        turn_v4(bytes, l3)
    } else {
        turn_v6(bytes, l3)
    };
    turned
        .and_then(|()| reply(bytes, l4, is_v4))
        .ok_or(Drop::Malformed)?;
    packet.frame.swap_macs();
    context.send_own(packet.input, &mut packet.frame);
    Ok(())
}

/// Swaps the addresses, which leaves every checksum, and sets the time to live.
fn turn_v4(bytes: &mut [u8], l3: usize) -> Option<()> {
    let header = bytes.get_mut(l3..)?.first_chunk_mut::<20>()?;
    header[12..20].rotate_left(4);
    let before = u16::from_be_bytes([header[8], header[9]]);
    header[8] = TTL;
    let after = u16::from_be_bytes([header[8], header[9]]);
    let sum = checksum::updated(u16::from_be_bytes([header[10], header[11]]), before, after);
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    Some(())
}

fn turn_v6(bytes: &mut [u8], l3: usize) -> Option<()> {
    let header = bytes.get_mut(l3..)?.first_chunk_mut::<40>()?;
    header[8..40].rotate_left(16);
    header[7] = TTL;
    Some(())
}

/// Changes the type, and the checksum with it.
fn reply(bytes: &mut [u8], l4: usize, is_v4: bool) -> Option<()> {
    let head = bytes.get_mut(l4..)?.first_chunk_mut::<4>()?;
    let before = u16::from_be_bytes([head[0], head[1]]);
    head[0] = if is_v4 {
        icmp::ECHO_REPLY
    } else {
        icmpv6::ECHO_REPLY
    };
    let after = u16::from_be_bytes([head[0], head[1]]);
    let sum = checksum::updated(u16::from_be_bytes([head[2], head[3]]), before, after);
    head[2..4].copy_from_slice(&sum.to_be_bytes());
    Some(())
}
