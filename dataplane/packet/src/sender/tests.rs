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
    let redirect = read(&discovery(A6, 137, &redirect));
    assert_eq!(redirect, says(137, None, None));
    assert!(redirect.unwrap().is_router());
    assert!(!read(&discovery(A6, 133, &SOURCE)).unwrap().is_router());
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
