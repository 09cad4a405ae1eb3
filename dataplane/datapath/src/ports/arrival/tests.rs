// SPDX-License-Identifier: Apache-2.0
//! Frames as a kernel hands them over, made by hand.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::net::Ipv4Addr;

use sluice_packet::build::FrameBuilder;
use sluice_packet::tcp::{TcpFields, flag};
use sluice_packet::{InnerTag, Mac, l4, parse};

use super::*;
use crate::testing::fake_port_context::Lent;

const SRC: Mac = Mac([2, 0, 0, 0, 0, 1]);
const DST: Mac = Mac([2, 0, 0, 0, 0, 2]);
const TAG: VlanTag = VlanTag {
    tpid: 0x88a8,
    tci: 0x60d2,
};

fn ipv4(payload: &[u8]) -> FrameBuilder<'_> {
    let (src, dst) = (Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 2));
    FrameBuilder::new(DST, SRC).ipv4(src, dst).payload(payload)
}

fn arrival(data: &[u8]) -> Arrival<'_> {
    Arrival {
        data,
        tag: Some(TAG),
        checksum: None,
        gso: None,
    }
}

fn tcp_gso(segment_bytes: u16) -> GsoInfo {
    GsoInfo {
        kind: GsoKind::TcpV4,
        segment_bytes,
        header_bytes: 54,
        ecn: false,
    }
}

fn super_frame(payload: &[u8]) -> Vec<u8> {
    let fields = TcpFields {
        src_port: 4000,
        dst_port: 80,
        seq: u32::MAX - 1000,
        flags: flag::ACK | flag::PSH,
        ..TcpFields::default()
    };
    ipv4(payload).tcp(fields).build()
}

fn right_checksum(frame: &[u8]) -> bool {
    let parsed = parse(frame, InnerTag::Refuse).unwrap();
    l4::verify_checksum(frame, &parsed) == Some(true)
}

#[test]
fn an_open_checksum_is_filled_in_and_the_tag_kept() {
    let whole = ipv4(b"some payload").udp(1000, 2000).build();
    assert!(right_checksum(&whole));
    // What a kernel leaves: the sum of the pseudo header alone.
    let mut open = whole.clone();
    let udp = open.len() - 20;
    let len = u16::try_from(20).unwrap();
    let partial = checksum::pseudo_v4([10, 0, 0, 1], [10, 0, 0, 2], 17, len).partial();
    open[udp + 6..udp + 8].copy_from_slice(&partial.to_be_bytes());
    assert!(!right_checksum(&open));

    let mut lent = Lent::new(8);
    let mut out = Burst::new();
    let start = u16::try_from(udp).unwrap();
    let arrival = Arrival {
        checksum: Some((start, 6)),
        ..arrival(&open)
    };
    let taken = Arrivals::default().take(&arrival, &mut lent.context(), &mut out);
    assert_eq!(taken, Taken::Whole);
    let mbuf = out.iter().next().unwrap();
    assert_eq!(mbuf.data(), whole);
    assert_eq!(FrameInfo::of(mbuf).tag(), Some(TAG));

    let outside = Arrival {
        checksum: Some((start, 60)),
        ..arrival
    };
    Arrivals::default().take(&outside, &mut lent.context(), &mut out);
    assert_eq!((out.len(), lent.drops.get(DropReason::BadHeader)), (1, 1));
    lent.pools.free_burst(&mut out);
    lent.assert_all_free();
}

#[test]
fn sctp_gets_its_crc() {
    // Ports, tag, checksum, and a chunk: the CRC is over all of it with the checksum 0.
    let packet = [0x0b, 0xb8, 0x0f, 0xa0, 1, 2, 3, 4, 0, 0, 0, 0, 10, 0, 0, 4];
    let mut open = ipv4(&packet).proto(132).build();
    let start = open.len() - packet.len();
    open[start + 8..start + 12].fill(0xee);
    let mut lent = Lent::new(8);
    let mut out = Burst::new();
    let checksum = Some((u16::try_from(start).unwrap(), SCTP_CHECKSUM));
    let arrival = Arrival {
        checksum,
        ..arrival(&open)
    };
    Arrivals::default().take(&arrival, &mut lent.context(), &mut out);
    let data = out.iter().next().unwrap().data();
    assert_eq!(data[start + 8..start + 12], crc32c(&packet).to_le_bytes());
    lent.pools.free_burst(&mut out);
}

#[test]
fn a_super_frame_is_cut_over_as_many_bursts_as_it_takes() {
    let payload: Vec<u8> = (0..50_000u32).map(|n| n.to_le_bytes()[0]).collect();
    let frame = super_frame(&payload);
    let arrival = Arrival {
        gso: Some(tcp_gso(500)),
        checksum: Some((34, 16)),
        ..arrival(&frame)
    };
    let mut lent = Lent::new(128);
    let mut arrivals = Arrivals::default();
    let mut bursts = [Burst::new(), Burst::new()];
    // Some other frame is in the burst already.
    bursts[0].push(lent.pools.small.alloc().unwrap()).unwrap();
    assert_eq!(
        arrivals.take(&arrival, &mut lent.context(), &mut bursts[0]),
        Taken::InPart
    );
    assert_eq!(bursts[0].room(), 0);
    assert_eq!(
        arrivals.take(&arrival, &mut lent.context(), &mut bursts[1]),
        Taken::Whole
    );
    assert_eq!(bursts[1].len(), 100 - 63);
    let mut seq = u32::MAX - 1000;
    let mut seen = Vec::new();
    for mbuf in bursts[0].iter().skip(1).chain(bursts[1].iter()) {
        let data = mbuf.data();
        assert!(right_checksum(data));
        assert_eq!(FrameInfo::of(mbuf).tag(), Some(TAG));
        assert_eq!(data[38..42], seq.to_be_bytes());
        seq = seq.wrapping_add(500);
        seen.extend_from_slice(&data[54..]);
    }
    assert_eq!(seen, payload);
    // The next one starts anew.
    bursts
        .iter_mut()
        .for_each(|burst| lent.pools.free_burst(burst));
    assert_eq!(
        arrivals.take(&arrival, &mut lent.context(), &mut bursts[0]),
        Taken::InPart
    );
    assert_eq!(
        bursts[0].iter().next().unwrap().data()[38..42],
        (u32::MAX - 1000).to_be_bytes()
    );
    bursts
        .iter_mut()
        .for_each(|burst| lent.pools.free_burst(burst));
    lent.assert_all_free();
}

#[test]
fn what_cannot_be_cut_is_oversize() {
    let mut lent = Lent::new(8);
    let mut out = Burst::new();
    let payload = vec![7; 4000];
    let tcp = super_frame(&payload);
    let icmp = ipv4(&payload).icmp(8, 0, [0; 4]).build();
    let fragments = GsoInfo {
        kind: GsoKind::UdpFragments,
        ..tcp_gso(1400)
    };
    for (frame, gso) in [
        (&icmp, tcp_gso(1400)),
        (&tcp, fragments),
        (&tcp, tcp_gso(0)),
        (&tcp, tcp_gso(3)),
    ] {
        let arrival = Arrival {
            gso: Some(gso),
            ..arrival(frame)
        };
        let taken = Arrivals::default().take(&arrival, &mut lent.context(), &mut out);
        assert_eq!((taken, out.len()), (Taken::Whole, 0), "{gso:?}");
    }
    assert_eq!(lent.drops.get(DropReason::Oversize), 4);
    lent.assert_all_free();
}

#[test]
fn segments_without_an_mbuf_are_counted_one_by_one() {
    let mut lent = Lent::new(8);
    let mut out = Burst::new();
    let frame = super_frame(&[7; 20 * 100]);
    let arrival = Arrival {
        gso: Some(tcp_gso(100)),
        ..arrival(&frame)
    };
    let taken = Arrivals::default().take(&arrival, &mut lent.context(), &mut out);
    assert_eq!((taken, out.len()), (Taken::Whole, 8));
    assert_eq!(lent.drops.get(DropReason::NoMbuf), 12);
    let jumbo = vec![0; 10_241];
    let arrival = super::Arrival {
        data: &jumbo,
        tag: None,
        checksum: None,
        gso: None,
    };
    Arrivals::default().take(&arrival, &mut lent.context(), &mut out);
    assert_eq!(lent.drops.get(DropReason::TooLong), 1);
    lent.pools.free_burst(&mut out);
    lent.assert_all_free();
}
