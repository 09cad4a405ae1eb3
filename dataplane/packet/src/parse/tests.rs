// SPDX-License-Identifier: Apache-2.0
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::net::{Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;

use super::*;
use crate::arp::{ArpFields, REQUEST};
use crate::build::FrameBuilder;
use crate::tcp::TcpFields;
use crate::{Mac, Vid};

const A: Mac = Mac([2, 0, 0, 0, 0, 1]);
const B: Mac = Mac([2, 0, 0, 0, 0, 2]);
const A4: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const B4: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
const A6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1);
const B6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2);

fn eth() -> FrameBuilder<'static> {
    FrameBuilder::new(B, A)
}

fn v4() -> FrameBuilder<'static> {
    eth().ipv4(A4, B4)
}

fn v6() -> FrameBuilder<'static> {
    eth().ipv6(A6, B6)
}

fn read(frame: &[u8]) -> Result<Parsed, ParseError> {
    parse(frame, InnerTag::Refuse)
}

fn refused(builder: &FrameBuilder<'_>, why: ParseError) {
    assert_eq!(read(&builder.build()), Err(why), "{builder:?}");
}

/// Byte by byte, so that builder and parser cannot agree on something wrong.
#[test]
fn a_dns_query_by_hand() {
    let frame = [
        0x02, 0, 0, 0, 0, 2, 0x02, 0, 0, 0, 0, 1, 0x08, 0x00, // Ethernet
        0x45, 0, 0, 0x20, 0x12, 0x34, 0x40, 0, 0x40, 0x11, 0, 0, 10, 0, 0, 1, 10, 0, 0,
        2, // IPv4
        0x9c, 0x40, 0, 53, 0, 12, 0, 0, // UDP
        1, 2, 3, 4, // data
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, // padding to 60 bytes
    ];
    let parsed = read(&frame).unwrap();
    let expected = FlowKey {
        src: [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 0, 0, 1],
        dst: [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 0, 0, 2],
        src_port: 40_000,
        dst_port: 53,
        ethertype: 0x0800,
        vid: 0,
        src_mac: A.0,
        dst_mac: B.0,
        proto: 17,
        flags: FlowKey::IPV4 | FlowKey::PORTS,
        icmp_type: 0,
        icmp_code: 0,
    };
    assert_eq!(parsed.key, expected);
    assert_eq!((parsed.l3, parsed.l4, parsed.inner), (14, 34, None));
    assert_eq!(parsed.key.to_string(), "udp 10.0.0.1:40000 > 10.0.0.2:53");
    // Without padding it is too short for the fast path, and the answer is the same.
    assert_eq!(read(&frame[..46]), Ok(parsed));
    assert_eq!(read(&frame[..45]), Err(ParseError::Truncated));
}

#[test]
fn an_ipv6_echo_behind_options_by_hand() {
    let mut frame = vec![
        0x33, 0x33, 0, 0, 0, 1, 0x02, 0, 0, 0, 0, 1, 0x86, 0xdd, // Ethernet
        0x60, 0, 0, 0, 0, 16, 0, 1, // IPv6, hop-by-hop next
    ];
    frame.extend_from_slice(&A6.octets());
    frame.extend_from_slice(&B6.octets());
    frame.extend_from_slice(&[58, 0, 5, 2, 0, 0, 1, 0]); // router alert
    frame.extend_from_slice(&[128, 0, 0, 0, 0, 7, 0, 1]);
    let parsed = read(&frame).unwrap();
    assert_eq!((parsed.l3, parsed.l4), (14, 62));
    let key = parsed.key;
    assert_eq!((key.proto, key.icmp_type, key.icmp_code), (58, 128, 0));
    assert_eq!(key.flags, FlowKey::IPV6 | FlowKey::ICMP);
    assert_eq!(
        (key.src_ip(), key.dst_ip()),
        (Some(A6.into()), Some(B6.into()))
    );
}

#[test]
fn tags_in_the_bytes() {
    let tag = |tpid, vid| VlanTag::new(tpid, Vid::new(vid).unwrap());
    let one = eth().tag(tag(0x8100, 7)).ipv4(A4, B4).udp(1, 2);
    refused(&one, ParseError::InnerTag);
    let parsed = parse(&one.build(), InnerTag::Allow).unwrap();
    assert_eq!((parsed.l3, parsed.l4), (18, 38));
    assert_eq!(parsed.inner, Some(tag(0x8100, 7)));
    assert_eq!((parsed.key.ethertype, parsed.key.dst_port), (0x0800, 2));
    for tpid in [0x8100, 0x88a8, 0x9100, 0x9200, 0x9300] {
        let two = one.clone().tag(tag(tpid, 8)).build();
        assert_eq!(read(&two), Err(ParseError::InnerTag));
        assert_eq!(parse(&two, InnerTag::Allow), Err(ParseError::ThirdTag));
    }
    let short = &one.build()[..17];
    assert_eq!(parse(short, InnerTag::Allow), Err(ParseError::Truncated));
}

#[test]
fn arp_and_other_ethertypes() {
    let fields = ArpFields {
        operation: REQUEST,
        sender_mac: A,
        sender_ip: A4,
        target_mac: Mac::ZERO,
        target_ip: B4,
    };
    let parsed = read(&eth().arp(fields).padded().build()).unwrap();
    assert_eq!(parsed.key.flags, FlowKey::ARP);
    assert_eq!(parsed.key.src_ip(), Some(A4.into()));
    assert_eq!(parsed.key.dst_ip(), Some(B4.into()));
    assert_eq!((parsed.key.proto, parsed.l3, parsed.l4), (0, 14, 0));

    let lldp = read(&eth().ethertype(EtherType::LLDP).build()).unwrap();
    let expected = FlowKey {
        ethertype: EtherType::LLDP,
        src_mac: A.0,
        dst_mac: B.0,
        ..FlowKey::default()
    };
    assert_eq!((lldp.key, lldp.l4), (expected, 0));
    let spanning_tree = read(&eth().ethertype(38).payload(&[0x42; 38]).build()).unwrap();
    assert!(spanning_tree.key.is_8023() && spanning_tree.key.ethertype == 0);

    for (inside, hidden) in [
        ([0, 0, 0, 0x08, 0x00], true),
        ([0, 0, 0xf8, 0x86, 0xdd], true),
        ([0, 0, 0, 0x81, 0x00], true),
        ([0, 0, 0x0c, 0x20, 0x00], false), // CDP
    ] {
        let llc = [&[0xaa, 0xaa, 3][..], &inside, &[0x45; 30]].concat();
        let frame = eth().ethertype(38).payload(&llc).build();
        assert_eq!(read(&frame).is_err(), hidden, "{inside:02x?}");
    }

    refused(&eth().ethertype(EtherType::ARP), ParseError::Truncated);
    let not_about_ipv4 = eth().ethertype(EtherType::ARP).payload(&[0; 28]);
    refused(&not_about_ipv4, ParseError::BadHeader);
    assert_eq!(read(&[0; 13]), Err(ParseError::Truncated));
}

#[test]
fn protocols() {
    let tcp = TcpFields::default();
    for ip in [v4(), v6()] {
        let key = |b: FrameBuilder<'_>| read(&b.build()).unwrap().key;
        assert!(key(ip.clone().tcp(tcp)).has(FlowKey::PORTS));
        for (proto, ports) in [
            (132, true),
            (33, true),
            (136, true),
            (47, false),
            (50, false),
        ] {
            let key = key(ip
                .clone()
                .proto(proto)
                .payload(&[0, 9, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0]));
            assert_eq!(key.proto, proto);
            assert_eq!(
                (key.src_port, key.dst_port),
                if ports { (9, 8) } else { (0, 0) }
            );
            assert_eq!(key.has(FlowKey::PORTS), ports);
        }
        refused(
            &ip.clone().proto(132).payload(&[0; 11]),
            ParseError::Truncated,
        );
        refused(
            &ip.clone().proto(136).payload(&[0; 7]),
            ParseError::Truncated,
        );
        refused(
            &ip.clone().proto(6).payload(&[0; 19]),
            ParseError::Truncated,
        );
        refused(
            &ip.clone().proto(6).payload(&[0; 20]),
            ParseError::BadHeader,
        );
        refused(
            &ip.clone().proto(17).payload(&[0; 8]),
            ParseError::BadHeader,
        );
    }
    // The other version's ICMP is just a protocol.
    let odd = read(&v4().proto(58).payload(&[135; 8]).build()).unwrap();
    assert!(!odd.key.has(FlowKey::ICMP) && odd.key.icmp_type == 0);
    refused(&v4().proto(1).payload(&[8; 7]), ParseError::Truncated);
    let nothing = read(&v6().proto(59).payload(b"ignored").build()).unwrap();
    assert_eq!((nothing.key.proto, nothing.l4), (59, 0));
}

#[test]
fn first_fragments_keep_their_ports_and_later_ones_have_none() {
    for ip in [v4(), v6()] {
        let first = ip.clone().udp(5, 6).payload(&[0; 24]).fragment(0, true);
        let mut bytes = first.build();
        // The whole datagram's length, beyond this piece.
        let at = bytes.len() - 24 - 4;
        bytes[at..at + 2].copy_from_slice(&1000u16.to_be_bytes());
        let first = read(&bytes).unwrap();
        assert_eq!((first.key.src_port, first.key.dst_port), (5, 6));
        assert!(first.key.has(FlowKey::FRAGMENT) && !first.key.has(FlowKey::LATER_FRAGMENT));

        for more in [true, false] {
            let later = ip.clone().udp(5, 6).payload(&[0; 24]).fragment(32, more);
            let later = read(&later.build()).unwrap();
            assert_eq!((later.key.src_port, later.key.dst_port), (0, 0));
            let flags = FlowKey::FRAGMENT | FlowKey::LATER_FRAGMENT;
            assert_eq!(later.key.flags & !(FlowKey::IPV4 | FlowKey::IPV6), flags);
            assert_eq!((later.key.proto, later.l4), (17, 0));
        }
        // Too small for the header that has the ports (RFC 1858, 7112).
        let tiny = ip.clone().proto(6).payload(&[0; 16]).fragment(0, true);
        refused(&tiny, ParseError::Truncated);
        // Over the flags of the TCP header (RFC 3128).
        for offset in [8, 16] {
            let over = ip
                .clone()
                .proto(6)
                .payload(&[0; 16])
                .fragment(offset, false);
            refused(&over, ParseError::BadHeader);
        }
        assert!(
            read(
                &ip.clone()
                    .proto(6)
                    .payload(&[0; 16])
                    .fragment(24, false)
                    .build()
            )
            .is_ok()
        );
        // Pieces that cannot be put together.
        let odd = ip.clone().udp(5, 6).payload(&[0; 23]).fragment(0, true);
        refused(&odd, ParseError::BadHeader);
        let beyond = ip
            .clone()
            .udp(5, 6)
            .payload(&[0; 64])
            .fragment(0xfff8, false);
        refused(&beyond, ParseError::BadHeader);
    }
    let atomic = read(&v6().udp(5, 6).fragment(0, false).build()).unwrap();
    assert!(atomic.key.has(FlowKey::PORTS) && !atomic.key.has(FlowKey::FRAGMENT));
}

#[test]
fn what_would_go_elsewhere_is_refused() {
    for kind in crate::ipv4::SOURCE_ROUTES {
        let options = [kind, 7, 4, 10, 9, 9, 9];
        refused(
            &v4().ip_options(&options).udp(1, 2),
            ParseError::HiddenAddress,
        );
    }
    assert!(read(&v4().ip_options(&[7, 7, 4, 0, 0, 0, 0]).udp(1, 2).build()).is_ok());
    let lie = v4().ip_options(&[7, 9, 4, 0, 0, 0, 0, 0]).udp(1, 2);
    refused(&lie, ParseError::BadHeader);
    let route = [
        0, 2, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1,
    ];
    refused(
        &v6().extension(43, &route).udp(1, 2),
        ParseError::HiddenAddress,
    );
    let mapped = A4.to_ipv6_mapped();
    refused(&eth().ipv6(mapped, B6).udp(1, 2), ParseError::BadHeader);
    refused(&eth().ipv6(A6, mapped).udp(1, 2), ParseError::BadHeader);
}

/// Padding is up to 46 bytes of payload (RFC 894); what comes behind that is no part of the packet.
#[test]
fn bytes_behind_the_packet_are_told_from_padding() {
    let arp = ArpFields {
        operation: REQUEST,
        sender_mac: A,
        sender_ip: A4,
        target_mac: Mac::ZERO,
        target_ip: B4,
    };
    let end = |frame: &[u8]| {
        let layout = parse_into(frame, InnerTag::Allow, &mut FlowKey::default());
        layout.unwrap().end
    };
    let tag = VlanTag::new(0x8100, Vid::new(7).unwrap());
    for (builder, header) in [
        (v4().udp(1, 2), 14),
        (v4().tcp(TcpFields::default()), 14),
        (v4().tcp(TcpFields::default()).payload(&[1; 300]), 14),
        (v4().proto(47).payload(&[1; 80]), 14),
        (v6().udp(1, 2), 14),
        (v6().proto(59).payload(&[1; 90]), 14),
        (eth().arp(arp), 14),
        (eth().ethertype(20).payload(&[0x42; 20]), 14),
        (eth().ethertype(80).payload(&[0x42; 80]), 14),
        (eth().tag(tag).ipv4(A4, B4).udp(1, 2), 18),
        (eth().tag(tag).ipv6(A6, B6).udp(1, 2).payload(&[1; 60]), 18),
    ] {
        let packet = builder.build();
        for behind in [0, 1, 6, 17, 32, 200] {
            let mut frame = packet.clone();
            frame.resize(packet.len() + behind, 0xee);
            let expected = packet.len().max(header + 46).min(frame.len());
            assert_eq!(end(&frame), expected, "{builder:?} and {behind} bytes");
        }
    }
    // Nothing is known of the length of what is behind another EtherType.
    let other = eth().ethertype(0x88b5).payload(&[1; 300]).build();
    assert_eq!(end(&other), other.len());
}

/// Every field that states a length, set to everything, on both paths.
#[test]
fn stated_lengths_against_the_bytes() {
    for payload in [&b"ab"[..], &[0; 40]] {
        let udp = v4().udp(1, 2).payload(payload).build();
        let room = udp.len() - 14;
        for len in 0..=255usize {
            let mut frame = udp.clone();
            frame[17] = u8::try_from(len).unwrap();
            let ok = (28 + payload.len()..=room).contains(&len);
            assert_eq!(read(&frame).is_ok(), ok, "IPv4 total length {len}");
            let mut frame = udp.clone();
            frame[39] = u8::try_from(len).unwrap();
            let ok = (8..=room - 20).contains(&len);
            assert_eq!(read(&frame).is_ok(), ok, "UDP length {len}");
        }
        let tcp = v4().tcp(TcpFields::default()).payload(payload).build();
        for offset in 0..16usize {
            let mut frame = tcp.clone();
            frame[46] = u8::try_from(offset << 4).unwrap();
            let ok = (20..=20 + payload.len()).contains(&(offset * 4));
            assert_eq!(read(&frame).is_ok(), ok, "data offset {offset}");
        }
    }
}

#[test]
fn keys_have_no_padding() {
    use zerocopy::{FromBytes, IntoBytes};
    let key = read(&v4().udp(1, 2).build()).unwrap().key;
    assert_eq!(key.as_bytes().len(), 56);
    assert_eq!(FlowKey::read_from_bytes(key.as_bytes()), Ok(key));
}

proptest! {
    /// The fast path accepts nothing that the general path refuses, and gives the same key.
    #[test]
    fn fast_path_agrees_with_the_general_one(
        tcp: bool,
        payload in proptest::collection::vec(any::<u8>(), 0..64),
        padding in 0usize..40,
        cut in 0usize..20,
        edits in proptest::collection::vec((12usize..64, any::<u8>()), 0..4),
    ) {
        let builder = if tcp { v4().tcp(TcpFields::default()) } else { v4().udp(7, 8) };
        let mut frame = builder.payload(&payload).build();
        frame.resize(frame.len() + padding, 0);
        frame.truncate(frame.len() - cut.min(frame.len()));
        for (at, value) in edits {
            if let Some(byte) = frame.get_mut(at) {
                *byte = value;
            }
        }
        for inner in [InnerTag::Refuse, InnerTag::Allow] {
            let mut key = FlowKey::default();
            let slowly = general(&frame, inner, &mut key).map(|layout| layout.with(key));
            prop_assert_eq!(parse(&frame, inner), slowly);
        }
    }
}
