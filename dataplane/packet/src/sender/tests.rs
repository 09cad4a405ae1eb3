// SPDX-License-Identifier: Apache-2.0
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use super::*;
use crate::arp::{ArpFields, REPLY, REQUEST};
use crate::build::FrameBuilder;
use crate::{InnerTag, parse};

const A: Mac = Mac([2, 0, 0, 0, 0, 1]);
const B: Mac = Mac([2, 0, 0, 0, 0, 2]);
const A6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
const B6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 2);

fn read(frame: &[u8]) -> Result<Claim, ParseError> {
    claim(frame, &parse(frame, InnerTag::Allow).unwrap())
}

/// A message of neighbour discovery from `src` with this body behind its header.
fn discovery(src: Ipv6Addr, icmp_type: u8, body: &[u8]) -> Vec<u8> {
    FrameBuilder::new(B, A)
        .ipv6(src, B6)
        .ttl(255)
        .icmp(icmp_type, 0, [0; 4])
        .payload(body)
        .build()
}

fn body(target: Ipv6Addr, options: &[u8]) -> Vec<u8> {
    [&target.octets()[..], options].concat()
}

const SOURCE: [u8; 8] = [1, 1, 2, 0, 0, 0, 0, 1];
const TARGET: [u8; 8] = [2, 1, 2, 0, 0, 0, 0, 9];

#[test]
fn arp_of_any_operation() {
    for operation in [REQUEST, REPLY, 77] {
        let fields = ArpFields {
            operation,
            sender_mac: B,
            sender_ip: Ipv4Addr::new(10, 0, 0, 1),
            target_mac: Mac::ZERO,
            target_ip: Ipv4Addr::new(10, 0, 0, 2),
        };
        let says = Claim::Arp {
            mac: B,
            ip: Some(fields.sender_ip),
            target: fields.target_ip,
        };
        assert_eq!(read(&FrameBuilder::new(B, A).arp(fields).build()), Ok(says));
        let probe = ArpFields {
            sender_ip: Ipv4Addr::UNSPECIFIED,
            ..fields
        };
        let says = Claim::Arp {
            mac: B,
            ip: None,
            target: fields.target_ip,
        };
        assert_eq!(read(&FrameBuilder::new(B, A).arp(probe).build()), Ok(says));
    }
}

#[test]
fn who_says_what_in_neighbour_discovery() {
    let says = |icmp_type, mac, address| {
        Ok(Claim::Neighbour {
            icmp_type,
            mac,
            address,
        })
    };
    let nine = Mac([2, 0, 0, 0, 0, 9]);
    // A solicitation asks about its target and says where its sender is.
    assert_eq!(
        read(&discovery(A6, 135, &body(B6, &SOURCE))),
        says(135, Some(A), None)
    );
    // From nobody it is duplicate address detection: the sender wants the target.
    assert_eq!(
        read(&discovery(Ipv6Addr::UNSPECIFIED, 135, &body(B6, &[]))),
        says(135, None, Some(B6))
    );
    // An advertisement says where its target is.
    assert_eq!(
        read(&discovery(A6, 136, &body(A6, &TARGET))),
        says(136, Some(nine), Some(A6))
    );
    assert_eq!(
        read(&discovery(A6, 136, &body(B6, &[]))),
        says(136, None, Some(B6))
    );
    assert_eq!(read(&discovery(A6, 133, &SOURCE)), says(133, Some(A), None));
    let advert = [&[0; 8][..], &SOURCE].concat();
    assert_eq!(read(&discovery(A6, 134, &advert)), says(134, Some(A), None));
    let redirect = [body(A6, &[]), body(B6, &TARGET)].concat();
    assert_eq!(read(&discovery(A6, 137, &redirect)), says(137, None, None));
}

#[test]
fn what_may_come_from_nobody() {
    let group = |text: &str| text.parse::<Ipv6Addr>().unwrap();
    let solicited = group("ff02::1:ff00:2");
    let (routers, listeners) = (group("ff02::2"), group("ff02::16"));
    let may = |builder: &FrameBuilder<'_>| {
        let frame = builder.build();
        let parsed = parse(&frame, InnerTag::Allow).unwrap();
        may_be_from_nobody(&frame, &parsed.key, parsed.l3)
    };
    let message = |to: Ipv6Addr, hops: u8, icmp_type: u8| {
        FrameBuilder::new(B, A)
            .ipv6(Ipv6Addr::UNSPECIFIED, to)
            .ttl(hops)
            .icmp(icmp_type, 0, [0; 4])
    };
    let (target, with_source) = (body(B6, &[]), body(B6, &SOURCE));
    let detection = message(solicited, 255, 135).payload(&target);
    assert!(may(&detection));
    let nonce = body(B6, &[14, 1, 1, 2, 3, 4, 5, 6]);
    assert!(
        may(&message(solicited, 255, 135).payload(&nonce)),
        "RFC 7527"
    );
    assert!(may(&message(routers, 255, 133)));
    for kind in [131, 132, 143] {
        let report = message(listeners, 1, kind).payload(&[0; 20]);
        assert!(may(&report), "{kind}");
        let alert = report.clone().extension(0, &[0, 0, 5, 2, 0, 0, 1, 0]);
        assert!(may(&alert), "{kind}");
        assert!(!may(&report.ttl(64)), "{kind} from further away");
        let to_one = message(B6, 1, kind).payload(&[0; 20]);
        assert!(!may(&to_one), "{kind} to one host");
    }
    for (builder, why) in [
        (
            message(group("ff02::1"), 255, 135).payload(&target),
            "another group",
        ),
        (message(B6, 255, 135).payload(&target), "to one host"),
        (message(solicited, 64, 135).payload(&target), "hop limit"),
        (
            message(solicited, 255, 135).payload(&with_source),
            "source option",
        ),
        (message(routers, 255, 133).payload(&SOURCE), "source option"),
        (detection.clone().fragment(0, true), "a fragment"),
    ] {
        assert!(!may(&builder), "{why}: {builder:?}");
    }
    for icmp_type in 0..=255u8 {
        let known = matches!(icmp_type, 131 | 132 | 133 | 135 | 143);
        for hops in [1, 255] {
            let any = message(group("ff02::1"), hops, icmp_type).payload(&[0; 32]);
            assert!(known || !may(&any), "{icmp_type}");
        }
    }
    let to_all = FrameBuilder::new(B, A).ipv6(Ipv6Addr::UNSPECIFIED, routers);
    assert!(!may(&to_all.clone().udp(546, 547)));
    assert!(!may(&to_all.proto(59)));
    let v4 = FrameBuilder::new(B, A).ipv4([0; 4].into(), [224, 0, 0, 1].into());
    assert!(!may(&v4.icmp(133, 0, [0; 4])));
}

#[test]
fn sources_that_no_host_can_have() {
    let impossible = |source: &str| {
        let builder = FrameBuilder::new(B, A);
        let builder = match source.parse().unwrap() {
            IpAddr::V4(v4) => builder.ipv4(v4, [10, 0, 0, 9].into()),
            IpAddr::V6(v6) => builder.ipv6(v6, B6),
        };
        let frame = builder.udp(1, 2).build();
        is_impossible_source(&parse(&frame, InnerTag::Allow).unwrap().key)
    };
    for source in [
        "224.0.0.1",
        "239.1.2.3",
        "255.255.255.255",
        "127.0.0.1",
        "ff02::1",
        "::1",
    ] {
        assert!(impossible(source), "{source}");
    }
    for source in [
        "0.0.0.0",
        "10.0.0.1",
        "169.254.1.1",
        "fe80::1",
        "fd00::1",
        "::",
    ] {
        assert!(!impossible(source), "{source}");
    }
}

#[test]
fn what_no_receiver_may_accept() {
    let bad = Err(ParseError::BadHeader);
    let solicit = body(B6, &SOURCE);
    let builder = FrameBuilder::new(B, A)
        .ipv6(A6, B6)
        .icmp(135, 0, [0; 4])
        .payload(&solicit);
    assert_eq!(read(&builder.clone().ttl(64).build()), bad, "hop limit");
    assert_eq!(
        read(&builder.clone().ttl(255).fragment(0, true).build()),
        bad,
        "fragment"
    );
    assert_eq!(
        read(&builder.clone().ttl(255).fragment(0, false).build()),
        bad,
        "atomic"
    );
    let from_nobody = discovery(Ipv6Addr::UNSPECIFIED, 135, &solicit);
    assert_eq!(read(&from_nobody), bad, "source option from ::");
    let twice = body(B6, &[SOURCE, [1, 1, 2, 0, 0, 0, 0, 9]].concat());
    assert_eq!(read(&discovery(A6, 135, &twice)), bad, "two MACs");
    assert_eq!(
        read(&discovery(A6, 135, &[0; 15])),
        Err(ParseError::Truncated)
    );
    // Behind an extension header it is the same message.
    let behind = builder
        .extension(60, &[0, 0, 1, 4, 0, 0, 0, 0])
        .ttl(255)
        .build();
    assert!(matches!(
        read(&behind),
        Ok(Claim::Neighbour { mac: Some(A), .. })
    ));
}

#[test]
fn everything_else_claims_nothing() {
    let udp = FrameBuilder::new(B, A).ipv6(A6, B6).udp(1, 2).build();
    assert_eq!(read(&udp), Ok(Claim::None));
    assert_eq!(read(&discovery(A6, 128, &[])), Ok(Claim::None));
    let v4 = FrameBuilder::new(B, A)
        .ipv4([10, 0, 0, 1].into(), [10, 0, 0, 2].into())
        .icmp(136, 0, [0; 4]);
    assert_eq!(read(&v4.build()), Ok(Claim::None));
}
