// SPDX-License-Identifier: Apache-2.0
//! Frames: every view of one, what anti-spoofing asks, answers of REJECT, segments of a super-frame.

use sluice_packet::arp::Arp;
use sluice_packet::gso::Oversize;
use sluice_packet::ipv4::Ipv4;
use sluice_packet::ipv6::Ipv6;
use sluice_packet::membership::{MAX_RECORDS, Message};
use sluice_packet::tcp::Tcp;
use sluice_packet::udp::Udp;
use sluice_packet::vlan::Vlan;
use sluice_packet::{InnerTag, membership, outer_tag, parse, reject, sender};

/// Reads a frame in every way that the engine does.
pub(crate) fn body(bytes: &[u8]) {
    let _ = outer_tag(bytes, &[0x8100, 0x88a8]);
    views(bytes);
    for inner in [InnerTag::Allow, InnerTag::Refuse] {
        let Ok(parsed) = parse(bytes, inner) else {
            continue;
        };
        let _ = sender::claim(bytes, &parsed);
        if let Some(Ok(Message::Report(records))) = membership::read(bytes, &parsed.key, parsed.l3)
        {
            assert!(records.count() <= MAX_RECORDS, "work without bound");
        }
        let _ = reject::answer(bytes, &parsed);
    }
    if let Ok(large) = Oversize::new(bytes) {
        for mtu in [68, 576, 1500, 9000] {
            if let Some(size) = large.size_for_mtu(mtu) {
                let count = large.count(size);
                assert!(
                    count <= bytes.len(),
                    "{count} segments of {} bytes",
                    bytes.len()
                );
            }
        }
    }
}

fn views(bytes: &[u8]) {
    if let Some(vlan) = Vlan::new(bytes) {
        let _ = (vlan.tag(), vlan.ethertype(), vlan.payload());
    }
    if let Ok(arp) = Arp::new(bytes) {
        let _ = (arp.operation(), arp.sender_ip(), arp.target_ip());
    }
    if let Ok(ip) = Ipv4::new(bytes) {
        assert!(ip.payload().len() <= bytes.len());
        let _ = (ip.checksum_ok(), ip.options().count());
        upper(ip.payload());
    }
    if let Ok(ip) = Ipv6::new(bytes)
        && let Ok(found) = ip.upper()
    {
        assert!(found.offset + found.payload.len() <= bytes.len());
        upper(found.payload);
    }
}

fn upper(bytes: &[u8]) {
    if let Ok(tcp) = Tcp::new(bytes) {
        let _ = (tcp.payload(), tcp.flags(), tcp.options().count());
    }
    if let Ok(udp) = Udp::new(bytes) {
        assert!(udp.payload().len() <= bytes.len());
    }
}
