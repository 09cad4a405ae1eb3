// SPDX-License-Identifier: Apache-2.0
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::net::{Ipv4Addr, Ipv6Addr};

use super::*;
use crate::arp::{ArpFields, REQUEST};
use crate::build::FrameBuilder;
use crate::eth::Ethernet;
use crate::icmp::Icmp;
use crate::icmpv6::Icmpv6;
use crate::ipv4::Ipv4;
use crate::ipv6::Ipv6;
use crate::tcp::{Tcp, TcpFields, flag};
use crate::{EtherType, FlowKey, InnerTag, Mac, Vid, VlanTag, l4, parse};

const A: Mac = Mac([2, 0, 0, 0, 0, 1]);
const B: Mac = Mac([2, 0, 0, 0, 0, 2]);
const A4: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const B4: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
const A6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1);
const B6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2);

fn v4() -> FrameBuilder<'static> {
    FrameBuilder::new(B, A).ipv4(A4, B4)
}

fn v6() -> FrameBuilder<'static> {
    FrameBuilder::new(B, A).ipv6(A6, B6)
}

fn reject(frame: &[u8]) -> (Result<Answer, NoAnswer>, Vec<u8>) {
    let mut buf = frame.to_vec();
    let parsed = parse(&buf, InnerTag::Allow).unwrap();
    let result = build(&mut buf, &parsed);
    (result, buf)
}

/// The answer, checked for what all answers have in common.
fn answered(frame: &[u8], expected: Answer) -> Vec<u8> {
    let before = parse(frame, InnerTag::Allow).unwrap();
    let (result, buf) = reject(frame);
    assert_eq!(result, Ok(expected));
    let parsed = parse(&buf, InnerTag::Allow).unwrap();
    assert_eq!(
        (parsed.key.src, parsed.key.dst),
        (before.key.dst, before.key.src)
    );
    assert_eq!(parsed.key.src_mac, before.key.dst_mac);
    assert_eq!(parsed.key.dst_mac, before.key.src_mac);
    assert_eq!(parsed.inner, before.inner);
    assert_eq!(l4::verify_checksum(&buf, &parsed), Some(true));
    let packet = &buf[usize::from(parsed.l3)..];
    let len = match Ipv4::new(packet) {
        Ok(ip) => {
            assert!(ip.checksum_ok());
            usize::from(ip.total_len())
        }
        Err(_) => 40 + usize::from(Ipv6::new(packet).unwrap().payload_len()),
    };
    assert_eq!(packet.len(), len, "no trailing bytes");
    buf
}

fn not_answered(frame: &[u8], why: NoAnswer) {
    let (result, buf) = reject(frame);
    assert_eq!(result, Err(why));
    assert_eq!(buf, frame, "a frame without answer is left alone");
}

#[test]
fn reset_numbers_of_rfc_9293() {
    use crate::tcp::flag::{ACK, FIN, PSH, RST, SYN};
    for ip in [
        v4(),
        v6(),
        v6().extension(60, &[0; 8]),
        v4().ip_options(&[148, 4, 0, 0]),
    ] {
        for (flags, data, expected) in [
            (SYN, 0, (0, 1001, RST | ACK)),
            (SYN, 10, (0, 1011, RST | ACK)),
            (FIN, 10, (0, 1011, RST | ACK)),
            (SYN | FIN, 0, (0, 1002, RST | ACK)),
            (0, 10, (0, 1010, RST | ACK)),
            (ACK, 10, (77, 0, RST)),
            (SYN | ACK, 0, (77, 0, RST)),
            (PSH | ACK | FIN, 3, (77, 0, RST)),
        ] {
            let fields = TcpFields {
                src_port: 40_000,
                dst_port: 443,
                seq: 1000,
                ack: 77,
                flags,
                window: 9,
            };
            let payload = vec![0xaa; data];
            let frame = ip.clone().tcp(fields).tcp_options(&[2, 4, 5, 0xb4]);
            let frame = frame.payload(&payload).padded().build();
            let buf = answered(&frame, Answer::TcpReset);
            let parsed = parse(&buf, InnerTag::Allow).unwrap();
            let tcp = Tcp::new(&buf[usize::from(parsed.l4)..]).unwrap();
            assert_eq!((tcp.seq(), tcp.ack(), tcp.flags()), expected);
            assert_eq!((tcp.src_port(), tcp.dst_port()), (443, 40_000));
            assert_eq!((tcp.window(), tcp.payload().len()), (0, 0));
        }
    }
    let wraps = TcpFields {
        seq: u32::MAX,
        flags: SYN,
        ..TcpFields::default()
    };
    let buf = answered(&v4().tcp(wraps).build(), Answer::TcpReset);
    assert_eq!(Tcp::new(&buf[34..]).unwrap().ack(), 0);
}

#[test]
fn icmp_quotes_the_packet() {
    for (data, quoted) in [(0, 28), (18, 46), (520, 548), (521, 548), (1472, 548)] {
        let payload: Vec<u8> = (0..=255).cycle().take(data).collect();
        let frame = v4().udp(40_000, 53).payload(&payload).padded().build();
        let buf = answered(&frame, Answer::Icmp);
        assert!(buf.len() - 14 <= 576);
        let ip = Ipv4::new(&buf[14..]).unwrap();
        let icmp = Icmp::new(ip.payload()).unwrap();
        assert_eq!(
            (icmp.icmp_type(), icmp.code(), icmp.rest()),
            (3, 13, [0; 4])
        );
        assert_eq!(icmp.payload(), &frame[14..14 + quoted], "no padding");
    }
}

#[test]
fn icmpv6_quotes_the_packet() {
    for (data, quoted) in [(0, 48), (1184, 1232), (1185, 1232), (1452, 1232)] {
        let payload: Vec<u8> = (0..=255).cycle().take(data).collect();
        let frame = v6().udp(40_000, 53).payload(&payload).padded().build();
        let buf = answered(&frame, Answer::Icmpv6);
        assert!(buf.len() - 14 <= 1280);
        let ip = Ipv6::new(&buf[14..]).unwrap();
        let icmp = Icmpv6::new(ip.payload()).unwrap();
        assert_eq!((icmp.icmp_type(), icmp.code(), icmp.rest()), (1, 1, [0; 4]));
        assert_eq!(icmp.payload(), &frame[14..14 + quoted]);
    }
}

#[test]
fn inner_tag_stays() {
    let tag = VlanTag::new(EtherType::VLAN, Vid::new(7).unwrap());
    for ip in [v4().tag(tag), v6().tag(tag)] {
        let icmp = if parse(&ip.build(), InnerTag::Allow)
            .unwrap()
            .key
            .has(FlowKey::IPV4)
        {
            Answer::Icmp
        } else {
            Answer::Icmpv6
        };
        answered(&ip.clone().udp(1, 2).build(), icmp);
        answered(&ip.tcp(TcpFields::default()).build(), Answer::TcpReset);
    }
}

#[test]
fn other_protocols_and_first_fragments_are_answered() {
    answered(&v4().icmp(8, 0, [0; 4]).build(), Answer::Icmp);
    answered(&v6().icmp(128, 0, [0; 4]).build(), Answer::Icmpv6);
    answered(&v4().proto(132).payload(&[0; 12]).build(), Answer::Icmp);
    answered(&v4().proto(47).build(), Answer::Icmp);
    let first = v4().udp(1, 2).payload(&[0; 24]).fragment(0, true);
    answered(&first.build(), Answer::Icmp);
}

#[test]
fn never_in_answer_to() {
    let reset = TcpFields {
        flags: flag::RST | flag::ACK,
        ..TcpFields::default()
    };
    for ip in [v4(), v6()] {
        not_answered(&ip.clone().tcp(reset).build(), NoAnswer::Reset);
        let later = ip.udp(1, 2).payload(&[0; 8]).fragment(64, false);
        not_answered(&later.build(), NoAnswer::LaterFragment);
    }
    for icmp_type in [3, 4, 5, 11, 12, 200] {
        let error = v4().icmp(icmp_type, 0, [0; 4]).payload(&[0; 28]);
        not_answered(&error.build(), NoAnswer::IcmpError);
    }
    for icmp_type in [1, 2, 3, 4, 100, 127, 137] {
        let error = v6().icmp(icmp_type, 0, [0; 4]).payload(&[0; 48]);
        not_answered(&error.build(), NoAnswer::IcmpError);
    }
    let arp = ArpFields {
        operation: REQUEST,
        sender_mac: A,
        sender_ip: A4,
        target_mac: B,
        target_ip: B4,
    };
    not_answered(&FrameBuilder::new(B, A).arp(arp).build(), NoAnswer::NonIp);
    not_answered(&FrameBuilder::new(B, A).build(), NoAnswer::NonIp);
}

#[test]
fn never_to_or_from_groups_and_nobody() {
    use NoAnswer::{BadAddress, Group};
    let mac = |dst, src| FrameBuilder::new(dst, src).ipv4(A4, B4).udp(1, 2).build();
    not_answered(&mac(Mac::BROADCAST, A), Group);
    not_answered(&mac(Mac([1, 0, 0x5e, 0, 0, 1]), A), Group);
    not_answered(&mac(B, Mac([3, 0, 0, 0, 0, 1])), BadAddress);
    not_answered(&mac(B, Mac::ZERO), BadAddress);
    let v4 = |src: [u8; 4], dst: [u8; 4]| {
        let ip = FrameBuilder::new(B, A).ipv4(src.into(), dst.into());
        ip.udp(1, 2).build()
    };
    let (a, b) = (A4.octets(), B4.octets());
    not_answered(&v4(a, [224, 0, 0, 1]), Group);
    not_answered(&v4(a, [255; 4]), Group);
    for nobody in [
        [0; 4],
        [127, 0, 0, 1],
        [224, 0, 0, 1],
        [240, 0, 0, 1],
        [255; 4],
    ] {
        not_answered(&v4(nobody, b), BadAddress);
    }
    not_answered(&v4(a, [127, 0, 0, 1]), BadAddress);
    let v6 = |src: Ipv6Addr, dst: Ipv6Addr| {
        let ip = FrameBuilder::new(B, A).ipv6(src, dst);
        ip.udp(1, 2).build()
    };
    let all_nodes = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
    not_answered(&v6(A6, all_nodes), Group);
    for nobody in [Ipv6Addr::UNSPECIFIED, Ipv6Addr::LOCALHOST, all_nodes] {
        not_answered(&v6(nobody, B6), BadAddress);
    }
}

/// A buffer of fixed size, as an mbuf is.
struct Fixed {
    bytes: [u8; 256],
    start: usize,
    end: usize,
}

impl RejectBuffer for Fixed {
    fn frame(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    fn frame_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..self.end]
    }

    fn prepend(&mut self, len_bytes: usize) -> bool {
        let Some(start) = self.start.checked_sub(len_bytes) else {
            return false;
        };
        self.start = start;
        true
    }

    fn truncate(&mut self, len_bytes: usize) {
        self.end = self.start + len_bytes;
    }
}

#[test]
fn needs_no_more_headroom_than_it_says() {
    let frame = v6().udp(1, 2).payload(b"hello").build();
    let parsed = parse(&frame, InnerTag::Allow).unwrap();
    for start in [HEADROOM - 1, HEADROOM] {
        let mut buf = Fixed {
            bytes: [0; 256],
            start,
            end: start + frame.len(),
        };
        buf.frame_mut().copy_from_slice(&frame);
        if start < HEADROOM {
            assert_eq!(build(&mut buf, &parsed), Err(NoAnswer::NoRoom));
            assert_eq!(buf.frame(), frame);
        } else {
            assert_eq!(build(&mut buf, &parsed), Ok(Answer::Icmpv6));
            assert_eq!(buf.frame(), answered(&frame, Answer::Icmpv6));
            assert_eq!(Ethernet::new(buf.frame()).unwrap().dst(), A);
        }
    }
}
