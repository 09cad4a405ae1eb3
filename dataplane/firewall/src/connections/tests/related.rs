// SPDX-License-Identifier: Apache-2.0
//! ICMP errors, as frames: what is related to a connection and what is not.

use sluice_packet::build::FrameBuilder;
use sluice_packet::tcp::{TcpFields, flag};
use sluice_packet::{InnerTag, IpProto, Mac, parse};

use super::*;
use crate::verdict::Direction;
use Event::{Ack, Data};

const NOW: Tick = Tick(10);
const MTU: u16 = 9000;

/// Packet of 10.0.0.`from` to 10.0.0.`to`, or of fd00:: the same, without its Ethernet header.
fn packet(
    from: u8,
    to: u8,
    is_v6: bool,
    transport: impl Fn(FrameBuilder<'static>) -> FrameBuilder<'static>,
) -> Vec<u8> {
    transport(builder(from, to, is_v6)).build()[14..].to_vec()
}

fn builder(from: u8, to: u8, is_v6: bool) -> FrameBuilder<'static> {
    let mac = |n| Mac([2, 0, 0, 0, 0, n]);
    let builder = FrameBuilder::new(mac(to), mac(from));
    if is_v6 {
        let address = |n: u8| format!("fd00::{n}").parse().unwrap();
        builder.ipv6(address(from), address(to))
    } else {
        builder.ipv4([10, 0, 0, from].into(), [10, 0, 0, to].into())
    }
}

/// TCP segment with 10 bytes of data.
fn segment_of(from: u8, to: u8, ports: [u16; 2], seq: u32, is_v6: bool) -> Vec<u8> {
    let fields = TcpFields {
        src_port: ports[0],
        dst_port: ports[1],
        seq,
        ack: 501,
        flags: flag::ACK,
        window: 1000,
    };
    packet(from, to, is_v6, |ip| ip.tcp(fields).payload(&[0; 10]))
}

/// Error about `inner`, from a router 10.0.0.99 to 10.0.0.`to`.
fn error(to: u8, kind: (u8, u8), rest: [u8; 4], inner: &[u8], is_v6: bool) -> Vec<u8> {
    // As much as is sure to be there: the IP header and eight bytes.
    let sure = if is_v6 { 48 } else { 28 };
    let inner = inner[..sure.min(inner.len())].to_vec();
    builder(99, to, is_v6)
        .icmp(kind.0, kind.1, rest)
        .payload(&inner)
        .build()
}

fn relate(
    tracker: &mut Tracker,
    now: Tick,
    frame: &[u8],
    direction: Direction,
) -> Result<End, Cause> {
    let parsed = parse(frame, InnerTag::Allow).unwrap();
    let scope = Scope::new(1, 210);
    let error = Layers::of(frame, &parsed);
    assert_eq!(TrackedFrame::read(&error, scope), Reading::Error);
    let found = tracker.relate(now, &error, scope, direction, MTU);
    found.map(|(_, end)| end)
}

/// Tracker with an established connection of the pod, 10.0.0.1 port 40000, with 10 bytes in flight from 101 on.
fn in_flight() -> Tracker {
    let mut tracker = tracker();
    establish(&mut tracker, NOW, 40_000, &BY_POD);
    assert!(passes(&mut tracker, NOW, &tcp(Ack, 101, 501, 10)));
    tracker
}

const PORTS: [u16; 2] = [40_000, 80];
const FRAGMENTATION_NEEDED: (u8, u8) = (3, 4);
const AT_1400: [u8; 4] = [0, 0, 0x05, 0x78];

#[test]
fn fragmentation_needed_passes_from_anywhere_to_the_sender_alone() {
    // projectcalico/calico#7120.
    let mut tracker = in_flight();
    let mut try_it = |to: u8, inner: &[u8], direction| {
        let frame = error(to, FRAGMENTATION_NEEDED, AT_1400, inner, false);
        relate(&mut tracker, NOW, &frame, direction)
    };
    let ingress = Direction::Ingress;
    let inner = segment_of(1, 2, PORTS, 101, false);
    assert_eq!(try_it(1, &inner, ingress), Ok(End::Opener));
    assert_eq!(
        try_it(1, &inner, Direction::Egress),
        Err(Cause::ErrorDirection)
    );
    assert_eq!(try_it(3, &inner, ingress), Err(Cause::ErrorDestination));
    let nobodys = segment_of(1, 2, [40_001, 80], 101, false);
    assert_eq!(try_it(1, &nobodys, ingress), Err(Cause::ErrorNoConnection));
    let far = segment_of(1, 2, PORTS, 101 + (1 << 31), false);
    assert_eq!(try_it(1, &far, ingress), Err(Cause::ErrorSeq));
    for (seq, expected) in [
        (100, Err(Cause::ErrorSeq)),
        (111, Ok(End::Opener)),
        (112, Err(Cause::ErrorSeq)),
    ] {
        let inner = segment_of(1, 2, PORTS, seq, false);
        assert_eq!(try_it(1, &inner, ingress), expected, "{seq}");
    }
    // The peer's own segments, with an error to the peer.
    let theirs = segment_of(2, 1, [80, 40_000], 501, false);
    assert_eq!(try_it(2, &theirs, Direction::Egress), Ok(End::Responder));
    assert_eq!(tracker.counts().related, 3);
    assert_eq!(tracker.counts().invalid(Cause::ErrorSeq), 3);
}

#[test]
fn an_mtu_must_be_one_that_stands_in_the_way() {
    let inner = segment_of(1, 2, PORTS, 101, false);
    let [high, low] = MTU.to_be_bytes();
    let own_less_one = (MTU - 1).to_be_bytes();
    for (mtu, passes) in [
        ([0, 0], true),
        ([0, 67], false),
        ([0, 68], true),
        (own_less_one, true),
        ([high, low], false),
        ([0xff, 0xff], false),
    ] {
        let frame = error(
            1,
            FRAGMENTATION_NEEDED,
            [0, 0, mtu[0], mtu[1]],
            &inner,
            false,
        );
        let expected = if passes {
            Ok(End::Opener)
        } else {
            Err(Cause::ErrorMtu)
        };
        let found = relate(&mut in_flight(), NOW, &frame, Direction::Ingress);
        assert_eq!(found, expected, "{mtu:?}");
    }
    // Another code has no MTU.
    let frame = error(1, (3, 1), [0xff; 4], &inner, false);
    assert!(relate(&mut in_flight(), NOW, &frame, Direction::Ingress).is_ok());
}

#[test]
fn packet_too_big_of_ipv6_with_extension_headers() {
    let mut tracker = tracker();
    let there = TrackedFrame {
        src: testing::address(1, true),
        dst: testing::address(2, true),
        is_v6: true,
        ..testing::frame(17, Data)
    };
    open(&mut tracker, NOW, &there, &BY_POD);
    let mut try_it = |inner: Vec<u8>, mtu: u32| {
        let frame = builder(99, 1, true)
            .icmp(2, 0, mtu.to_be_bytes())
            .payload(&inner)
            .build();
        relate(&mut tracker, NOW, &frame, Direction::Ingress)
    };
    let udp = |ip: FrameBuilder<'static>| ip.udp(PORTS[0], PORTS[1]);
    let plain = || packet(1, 2, true, udp);
    assert_eq!(try_it(plain(), 1280), Ok(End::Opener));
    assert_eq!(try_it(plain(), 1279), Err(Cause::ErrorMtu));
    assert_eq!(try_it(plain(), 9000), Err(Cause::ErrorMtu));
    let options = packet(1, 2, true, |ip| {
        udp(ip.extension(60, &[0, 0, 1, 4, 0, 0, 0, 0]))
    });
    assert_eq!(try_it(options.clone(), 1400), Ok(End::Opener));
    // Cut before the ports.
    assert_eq!(try_it(options[..48].to_vec(), 1400), Err(Cause::ErrorInner));
    let later = packet(1, 2, true, |ip| {
        ip.udp(PORTS[0], PORTS[1])
            .payload(&[0; 24])
            .fragment(8, false)
    });
    assert_eq!(try_it(later, 1400), Err(Cause::ErrorInner));
    assert_eq!(
        try_it(packet(1, 2, false, udp), 1400),
        Err(Cause::ErrorInner),
        "IPv4 inside"
    );
}

#[test]
fn errors_about_errors_and_broken_ones_are_related_to_nothing() {
    let mut tracker = in_flight();
    let mut try_it = |inner: &[u8]| {
        let frame = error(1, (3, 1), [0; 4], inner, false);
        relate(&mut tracker, NOW, &frame, Direction::Ingress)
    };
    let about_error = packet(1, 2, false, |ip| ip.icmp(3, 1, [0; 4]).payload(&[0; 28]));
    assert_eq!(try_it(&about_error), Err(Cause::ErrorInner));
    let inner = segment_of(1, 2, PORTS, 101, false);
    for cut in 0..28 {
        assert_eq!(try_it(&inner[..cut]), Err(Cause::ErrorInner), "{cut}");
    }
    let mut wrong = error(1, (3, 1), [0; 4], &inner, false);
    wrong[14 + 20 + 2] ^= 1;
    let found = relate(&mut tracker, NOW, &wrong, Direction::Ingress);
    assert_eq!(found, Err(Cause::ErrorChecksum));
}

#[test]
fn an_error_about_a_query_is_found_by_its_identifier() {
    let mut tracker = tracker();
    let ping = TrackedFrame {
        src_port: 0x0102,
        dst_port: 8,
        ..testing::frame(IpProto::ICMP, Data)
    };
    open(&mut tracker, NOW, &ping, &BY_POD);
    let mut try_it = |id: u8| {
        let inner = packet(1, 2, false, |ip| ip.icmp(8, 0, [1, id, 0, 9]));
        let frame = error(1, (11, 0), [0; 4], &inner, false);
        relate(&mut tracker, NOW, &frame, Direction::Ingress)
    };
    assert_eq!(try_it(2), Ok(End::Opener));
    assert_eq!(try_it(3), Err(Cause::ErrorNoConnection));
}

#[test]
fn errors_neither_end_nor_refresh_and_are_few() {
    let mut tracker = tracker();
    let there = testing::frame(17, Data);
    open(&mut tracker, NOW, &there, &BY_POD);
    let inner = packet(1, 2, false, |ip| ip.udp(PORTS[0], PORTS[1]));
    let frame = error(1, (3, 3), [0; 4], &inner, false);
    let mut passed = 0;
    for second in 0..59 {
        let now = NOW.plus_seconds(second);
        assert!(tracker.expire(now, 10));
        for _ in 0..10 {
            match relate(&mut tracker, now, &frame, Direction::Ingress) {
                Ok(_) => passed += 1,
                Err(cause) => assert_eq!(cause, Cause::ErrorRate),
            }
        }
        assert_eq!(tracker.len(), 1);
    }
    assert_eq!(passed, 59 * 4);
    // Over, though housekeeping has not come by yet.
    let over = relate(
        &mut tracker,
        NOW.plus_seconds(60),
        &frame,
        Direction::Ingress,
    );
    assert_eq!(over, Err(Cause::ErrorNoConnection));
}
