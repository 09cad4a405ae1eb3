// SPDX-License-Identifier: Apache-2.0
//! Last stage: the hop is counted, packets that are too big are fragmented, frames are sent.

use sluice_packet::{FlowKey, checksum};

use super::route::packet_len;
use crate::burst::{Burst, Packet, Step};
use crate::context::{Context, Links, Sent};
use crate::drops::Drop;
use crate::fragment::Fragments;

/// Sends packets whose MAC addresses are written.
pub fn transmit<L: Links>(context: &mut Context<'_, L>, burst: &mut Burst) {
    burst.each(|packet| {
        transmit_one(context, packet);
        Step::On
    });
}

/// Sends one packet, and counts it as forwarded or dropped.
pub fn transmit_one<L: Links>(context: &mut Context<'_, L>, packet: &mut Packet) {
    count_hop(packet);
    let mtu = usize::from(context.tables.interfaces.get(packet.output).mtu);
    let fits = packet_len(packet) <= mtu;
    let sent = if fits {
        context.send(packet.output, &mut packet.frame)
    } else {
        send_fragments(context, packet, mtu)
    };
    let reason = match sent {
        Sent::Taken => {
            let counters = &mut context.state.counters;
            counters.interface(packet.input).forwarded += 1;
            let output = counters.interface(packet.output);
            output.output += 1;
            output.fragmented += u64::from(!fits);
            return;
        }
        Sent::Full => Drop::RingFull,
        Sent::Down => Drop::LinkDown,
    };
    context.drop(packet.input, reason);
}

/// Takes one from the time to live, or hop limit, and updates IPv4's checksum (RFC 1624).
fn count_hop(packet: &mut Packet) {
    let l3 = usize::from(packet.parsed.l3);
    let is_v4 = packet.key().has(FlowKey::IPV4);
    let Some(header) = packet.frame.bytes_mut().get_mut(l3..) else {
        return;
    };
    if !is_v4 {
        if let Some(limit) = header.get_mut(7) {
            *limit = limit.saturating_sub(1);
        }
        return;
    }
    let Some(header) = header.first_chunk_mut::<20>() else {
        return;
    };
    let word = |header: &[u8; 20], at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
    let before = word(header, 8);
    header[8] = header[8].saturating_sub(1);
    let sum = checksum::updated(word(header, 10), before, word(header, 8));
    header[10..12].copy_from_slice(&sum.to_be_bytes());
}

/// Sends the fragments of a packet, until one finds no room: the rest would be in vain.
fn send_fragments<L: Links>(context: &mut Context<'_, L>, packet: &Packet, mtu: usize) -> Sent {
    let Some(mut fragments) = Fragments::new(packet.frame.bytes(), packet.parsed.l3, mtu) else {
        return Sent::Full;
    };
    let mut room = std::mem::take(&mut context.state.fragment);
    let mut sent = Sent::Taken;
    while sent == Sent::Taken && fragments.write_next(&mut room) {
        sent = context.send(packet.output, &mut room);
    }
    context.state.fragment = room;
    sent
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use sluice_packet::build::FrameBuilder;
    use sluice_packet::ipv4::Ipv4;
    use sluice_packet::{InnerTag, Mac, parse};

    proptest! {
        #[test]
        fn the_checksum_after_a_hop_is_that_of_a_full_computation(
            src: [u8; 4], dst: [u8; 4], ttl in 2u8.., id: u16, tos: u8, options: Vec<u8>,
        ) {
            let options: Vec<u8> = options.iter().take(40).map(|_| 1).collect();
            let frame = FrameBuilder::new(Mac([2; 6]), Mac([4; 6]))
                .ipv4(src.into(), dst.into())
                .ttl(ttl)
                .id(id.into())
                .tos(tos)
                .ip_options(&options)
                .udp(1, 2)
                .payload(b"hop")
                .build();
            let mut packet = Packet::new(256);
            prop_assert!(packet.frame.set(&frame));
            packet.parsed = parse(&frame, InnerTag::Refuse).unwrap();
            count_hop(&mut packet);
            let ip = Ipv4::new(packet.frame.packet(14)).unwrap();
            prop_assert_eq!(ip.ttl(), ttl - 1);
            prop_assert!(ip.checksum_ok());
        }
    }
}
