// SPDX-License-Identifier: Apache-2.0
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::net::Ipv6Addr;

use super::*;
use crate::build::FrameBuilder;
use crate::tcp::TcpFields;
use crate::{InnerTag, Mac, Parsed, Vid, VlanTag, l4, parse};

const A: Mac = Mac([2, 0, 0, 0, 0, 1]);
const B: Mac = Mac([2, 0, 0, 0, 0, 2]);

fn v4() -> FrameBuilder<'static> {
    let ip = FrameBuilder::new(B, A).ipv4([10, 0, 0, 1].into(), [10, 0, 0, 2].into());
    ip.id(0xfffe).dont_fragment()
}

fn v6() -> FrameBuilder<'static> {
    FrameBuilder::new(B, A).ipv6(
        Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1),
        Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2),
    )
}

fn data(len: usize) -> Vec<u8> {
    (0..=250).cycle().take(len).collect()
}

fn cut(frame: &[u8], size: u16) -> Vec<Vec<u8>> {
    let mut out = Vec::new();
    let taken = Oversize::new(frame)
        .unwrap()
        .segments(size, |headers, payload| {
            out.push([headers, payload].concat());
            true
        });
    assert_eq!(taken, Ok(out.len()));
    out
}

/// Parses a segment whose bytes, lengths and checksums must all be right.
fn checked(segment: &[u8]) -> Parsed {
    let parsed = parse(segment, InnerTag::Allow).unwrap();
    assert_eq!(l4::verify_checksum(segment, &parsed), Some(true));
    let packet = &segment[usize::from(parsed.l3)..];
    if let Ok(ip) = Ipv4::new(packet) {
        assert!(ip.checksum_ok());
        assert_eq!(usize::from(ip.total_len()), packet.len());
    } else {
        assert_eq!(
            Ipv6::new(packet).unwrap().payload().len() + 40,
            packet.len()
        );
    }
    parsed
}

#[test]
fn tcp_is_cut_as_a_nic_would() {
    let tag = VlanTag::new(EtherType::VLAN, Vid::new(7).unwrap());
    let options = [1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2];
    for ip in [v4(), v6(), v4().tag(tag), v6().extension(60, &[0; 8])] {
        let payload = data(10_000);
        let fields = TcpFields {
            src_port: 5001,
            dst_port: 5002,
            seq: u32::MAX - 2000,
            ack: 9,
            flags: flag::ACK | flag::PSH | flag::FIN | flag::CWR,
            window: 100,
        };
        let frame = ip
            .tcp(fields)
            .tcp_options(&options)
            .payload(&payload)
            .build();
        let segments = cut(&frame, 1448);
        assert_eq!(segments.len(), 7);
        let mut whole = Vec::new();
        for (index, segment) in segments.iter().enumerate() {
            let parsed = checked(segment);
            let tcp = Tcp::new(&segment[usize::from(parsed.l4)..]).unwrap();
            let before = u32::try_from(whole.len()).unwrap();
            assert_eq!(tcp.seq(), fields.seq.wrapping_add(before));
            assert_eq!((tcp.ack(), tcp.window(), tcp.header_len()), (9, 100, 32));
            let expected = match index {
                0 => flag::ACK | flag::CWR,
                6 => flag::ACK | flag::PSH | flag::FIN,
                _ => flag::ACK,
            };
            assert_eq!(tcp.flags(), expected);
            if let Ok(ip) = Ipv4::new(&segment[usize::from(parsed.l3)..]) {
                let count = u16::try_from(index).unwrap();
                assert_eq!(ip.id(), 0xfffe_u16.wrapping_add(count));
                assert!(ip.dont_fragment());
            }
            whole.extend_from_slice(tcp.payload());
        }
        assert_eq!(whole, payload);
    }
}

#[test]
fn udp_is_cut_into_datagrams() {
    for ip in [v4(), v6()] {
        let payload = data(3001);
        let frame = ip.udp(1, 2).payload(&payload).build();
        let segments = cut(&frame, 1000);
        let lens: Vec<_> = segments
            .iter()
            .map(|segment| {
                let parsed = checked(segment);
                let udp = Udp::new(&segment[usize::from(parsed.l4)..]).unwrap();
                usize::from(udp.length()) - 8
            })
            .collect();
        assert_eq!(lens, [1000, 1000, 1000, 1]);
    }
}

#[test]
fn udp_without_checksum_stays_without() {
    let mut frame = v4().udp(1, 2).payload(&data(30)).build();
    frame[40..42].fill(0);
    for segment in cut(&frame, 20) {
        assert_eq!(segment[40..42], [0, 0]);
    }
}

#[test]
fn a_partial_checksum_is_completed() {
    let whole = v4().tcp(TcpFields::default()).payload(&data(100)).build();
    let mut partial = whole.clone();
    partial[50..52].copy_from_slice(&[0xab, 0xcd]);
    assert_eq!(cut(&partial, 1460), [whole]);
}

#[test]
fn no_payload_is_one_segment() {
    let frame = v4().tcp(TcpFields::default()).padded().build();
    assert_eq!(cut(&frame, 1), [frame[..54].to_vec()]);
}

#[test]
fn sizes() {
    let payload = data(5000);
    let frame = v4().tcp(TcpFields::default()).payload(&payload).build();
    let oversize = Oversize::new(&frame).unwrap();
    assert_eq!(oversize.size_for_mtu(1500), Some(1460));
    assert_eq!(oversize.size_for_mtu(41), Some(1));
    assert_eq!(oversize.size_for_mtu(40), None);
    assert_eq!((oversize.count(1460), oversize.count(5000)), (4, 1));
    assert_eq!(oversize.segments(0, |_, _| true), Err(GsoError::ZeroSize));
    let mut room = 2;
    let taken = oversize.segments(1460, |_, _| {
        room -= 1;
        room >= 0
    });
    assert_eq!(taken, Ok(2), "stops when the sink is full");
}

#[test]
fn what_cannot_be_cut() {
    let refused = |builder: FrameBuilder<'_>| Oversize::new(&builder.build()).err();
    let not = Some(GsoError::NotSegmentable);
    for flags in [flag::SYN, flag::RST | flag::ACK, flag::URG | flag::ACK] {
        let fields = TcpFields {
            flags,
            ..TcpFields::default()
        };
        assert_eq!(refused(v4().tcp(fields)), not);
    }
    assert_eq!(refused(v4().icmp(8, 0, [0; 4])), not);
    assert_eq!(refused(FrameBuilder::new(B, A)), not);
    assert_eq!(
        refused(v4().udp(1, 2).payload(&[0; 8]).fragment(0, true)),
        not
    );
    assert_eq!(refused(v6().udp(1, 2).fragment(0, false)), not);
    assert_eq!(
        refused(
            v6().extension(51, &[0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])
                .udp(1, 2)
        ),
        not
    );
    let mut long = [0; 256];
    // One option that fills it.
    long[1..4].copy_from_slice(&[31, 30, 252]);
    assert_eq!(
        refused(v6().extension(60, &long).udp(1, 2)),
        Some(GsoError::HeadersTooLong)
    );
    assert_eq!(
        Oversize::new(&v4().udp(1, 2).build()[..40]).err(),
        Some(GsoError::Parse(ParseError::Truncated))
    );
    let tag = VlanTag::new(EtherType::QINQ, Vid::new(7).unwrap());
    assert!(Oversize::new(&v4().tag(tag).tag(tag).udp(1, 2).build()).is_ok());
    assert_eq!(
        refused(v4().tag(tag).tag(tag).tag(tag).udp(1, 2)),
        Some(GsoError::Parse(ParseError::ThirdTag))
    );
}
