// SPDX-License-Identifier: Apache-2.0
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
use sluice_packet::build::FrameBuilder;
use sluice_packet::tcp::{TcpFields, flag};
use sluice_packet::{InnerTag, Mac, parse};

use super::*;

fn builder() -> FrameBuilder<'static> {
    FrameBuilder::new(Mac([2, 0, 0, 0, 0, 2]), Mac([2, 0, 0, 0, 0, 1]))
}

fn v4() -> FrameBuilder<'static> {
    builder().ipv4([10, 0, 0, 1].into(), [10, 0, 0, 2].into())
}

fn v6() -> FrameBuilder<'static> {
    builder().ipv6("fd00::1".parse().unwrap(), "fd00::2".parse().unwrap())
}

fn read(builder: FrameBuilder<'_>) -> Reading {
    let frame = builder.build();
    let parsed = parse(&frame, InnerTag::Allow).unwrap();
    TrackedFrame::read(&Layers::of(&frame, &parsed), Scope::new(7, 210))
}

fn tracked(builder: FrameBuilder<'_>) -> TrackedFrame {
    match read(builder) {
        Reading::Tracked(tracked) => tracked,
        other => panic!("{other:?}"),
    }
}

#[test]
fn scope_has_attachment_and_segment() {
    let scope = Scope::new(4095, 4094);
    assert_eq!(scope.attachment(), 4095);
    assert!(scope.number() < 1 << 24);
    assert_ne!(scope, Scope::new(4095, 4093));
}

#[test]
fn data_is_counted_by_the_ip_length_padding_left_out() {
    let fields = TcpFields {
        src_port: 1,
        dst_port: 2,
        seq: 100,
        flags: flag::ACK | flag::PSH,
        ..TcpFields::default()
    };
    for ip in [v4(), v6()] {
        let short = ip.clone().tcp(fields).payload(&[1, 2, 3]).padded();
        let short = tracked(short);
        assert_eq!((short.event, short.segment.end), (Event::Ack, 103));
        let fragment = tracked(ip.tcp(fields).payload(&[0; 12]).fragment(0, true));
        assert_eq!(fragment.segment.end, 100 + FRAGMENTED_BYTES);
    }
}

#[test]
fn echo_is_a_query_and_its_answer_the_reverse() {
    for (ip, query, answer) in [(v4(), 8, 0), (v6(), 128, 129)] {
        let query = tracked(ip.clone().icmp(query, 0, [1, 2, 0, 9]));
        let answer = tracked(ip.icmp(answer, 0, [1, 2, 0, 9]));
        assert_eq!(query.event, Event::Data);
        assert_eq!(answer.event, Event::Answer);
        let reversed = (answer.dst_port, answer.src_port);
        assert_eq!((query.src_port, query.dst_port), reversed);
        assert_eq!(query.src_port, 0x0102);
    }
}

#[test]
fn what_needs_no_entry_makes_none() {
    let group = |dst: [u8; 4]| builder().ipv4([10, 0, 0, 1].into(), dst.into());
    for untracked in [
        group([224, 0, 0, 251]).udp(5353, 5353),
        group([255; 4]).udp(68, 67),
        builder()
            .ipv4([0; 4].into(), [10, 0, 0, 2].into())
            .udp(68, 67),
        builder()
            .ipv6("fd00::1".parse().unwrap(), "ff02::1".parse().unwrap())
            .icmp(128, 0, [0; 4]),
        v4().proto(2).payload(&[0; 8]),
        v4().proto(112).payload(&[0; 8]),
        v4().icmp(5, 0, [0; 4]),
        v4().icmp(4, 0, [0; 4]),
        v4().udp(1, 2).payload(&[0; 24]).fragment(8, false),
        builder().ethertype(0x88cc),
    ] {
        assert_eq!(read(untracked.clone()), Reading::Untracked, "{untracked:?}");
    }
    // Neighbour discovery, router discovery and MLD: of an identifier of 0, and of any other.
    for icmp_type in [130, 131, 132, 133, 134, 135, 136, 137, 143] {
        for id in [0, 1] {
            let frame = v6().icmp(icmp_type, 0, [0, id, 0, 0]).payload(&[0; 16]);
            assert_eq!(read(frame), Reading::Untracked, "{icmp_type}");
        }
    }
}

#[test]
fn errors_are_those_of_the_list() {
    for icmp_type in 0..=255 {
        let v4 = read(v4().icmp(icmp_type, 0, [0; 4])) == Reading::Error;
        assert_eq!(v4, [3, 11, 12].contains(&icmp_type), "{icmp_type}");
        let v6 = read(v6().icmp(icmp_type, 0, [0; 4]).payload(&[0; 24])) == Reading::Error;
        assert_eq!(v6, [1, 2, 3, 4].contains(&icmp_type), "{icmp_type}");
    }
}

#[test]
fn bad_flags_and_one_endpoint_are_invalid() {
    let fields = |flags| TcpFields {
        src_port: 1,
        dst_port: 2,
        flags,
        ..TcpFields::default()
    };
    let null = read(v4().tcp(fields(0)));
    assert_eq!(null, Reading::Invalid(Cause::BadFlags));
    let land = builder()
        .ipv4([10, 0, 0, 1].into(), [10, 0, 0, 1].into())
        .udp(7, 7);
    assert_eq!(read(land), Reading::Invalid(Cause::SameEndpoint));
}

#[test]
fn a_datagram_without_data_is_one() {
    for ip in [v4(), v6()] {
        let empty = tracked(ip.udp(0, 53));
        assert_eq!((empty.src_port, empty.dst_port), (0, 53));
        assert_eq!(empty.event, Event::Data);
    }
}

#[test]
fn sctp_by_its_first_chunk() {
    let chunk = |kind: u8| {
        let mut payload = [0; 16];
        payload[..4].copy_from_slice(&[0, 1, 0, 2]);
        payload[12] = kind;
        tracked(v4().proto(IpProto::SCTP).payload(&payload)).event
    };
    let events = [1, 4, 6, 11, 14].map(chunk);
    let (data, fin) = (Event::Data, Event::Fin);
    assert_eq!(events, [data, data, fin, Event::Answer, fin]);
}
