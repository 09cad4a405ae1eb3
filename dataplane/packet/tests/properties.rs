// SPDX-License-Identifier: Apache-2.0
//! Properties: no bytes make anything panic; the parser reads what the builder writes; the checksum is
//! the one of the textbook.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use proptest::collection::vec;
use proptest::prelude::*;
use sluice_packet::arp::{Arp, ArpFields};
use sluice_packet::build::FrameBuilder;
use sluice_packet::checksum::{self, Sum};
use sluice_packet::eth::Ethernet;
use sluice_packet::gso::Oversize;
use sluice_packet::icmp::Icmp;
use sluice_packet::icmpv6::Icmpv6;
use sluice_packet::ipv4::Ipv4;
use sluice_packet::ipv6::Ipv6;
use sluice_packet::nd::Nd;
use sluice_packet::tcp::{Tcp, TcpFields};
use sluice_packet::udp::Udp;
use sluice_packet::vlan::Vlan;
use sluice_packet::{
    EtherType, FlowKey, InnerTag, Mac, ParseError, Vid, VlanTag, l4, outer_tag, parse, reject,
    sender,
};

/// Calls every parser and every accessor.
fn look(bytes: &[u8]) {
    if let Ok(eth) = Ethernet::new(bytes) {
        let _ = (eth.dst(), eth.src(), eth.ethertype(), eth.payload());
    }
    if let Some(vlan) = Vlan::new(bytes) {
        let _ = (vlan.tag(), vlan.ethertype(), vlan.payload());
    }
    let _ = outer_tag(bytes, &[0x8100, 0x88a8]);
    if let Ok(arp) = Arp::new(bytes) {
        let _ = (arp.operation(), arp.sender_mac(), arp.sender_ip());
        let _ = (arp.target_mac(), arp.target_ip());
    }
    if let Ok(ip) = Ipv4::new(bytes) {
        let _ = (ip.header_len(), ip.checksum_ok(), ip.fragment_offset());
        assert!(ip.options().count() <= 40);
        look_l4(ip.payload());
    }
    if let Ok(ip) = Ipv6::new(bytes) {
        assert!(ip.extensions().count() <= 9);
        if let Ok(upper) = ip.upper() {
            assert_eq!(&bytes[upper.offset..][..upper.payload.len()], upper.payload);
            look_l4(upper.payload);
        }
    }
    look_l4(bytes);
}

fn look_l4(bytes: &[u8]) {
    if let Ok(tcp) = Tcp::new(bytes) {
        let _ = (tcp.header_len(), tcp.payload(), tcp.flags());
        assert!(tcp.options().count() <= 40);
    }
    if let Ok(udp) = Udp::new(bytes) {
        assert_eq!(udp.payload().len() + 8, usize::from(udp.length()));
    }
    if let Ok(icmp) = Icmp::new(bytes) {
        let _ = (icmp.icmp_type(), icmp.code(), icmp.rest(), icmp.payload());
    }
    if let Ok(icmp) = Icmpv6::new(bytes)
        && let Some(Ok(nd)) = Nd::new(&icmp)
    {
        assert!(nd.options().all(|option| option.is_ok()));
        let _ = (nd.kind(), nd.mac_option(1), nd.mac_option(2));
    }
}

/// Calls everything that works on a whole frame, and checks what must be true of any.
fn run(frame: &[u8]) {
    look(frame);
    look(frame.get(14..).unwrap_or_default());
    for inner in [InnerTag::Refuse, InnerTag::Allow] {
        let Ok(parsed) = parse(frame, inner) else {
            continue;
        };
        let key = &parsed.key;
        assert!(usize::from(parsed.l3) <= frame.len());
        assert!(usize::from(parsed.l4) <= frame.len());
        assert!(!key.has(FlowKey::LATER_FRAGMENT) || key.has(FlowKey::FRAGMENT));
        assert!(!key.has(FlowKey::LATER_FRAGMENT) || !key.has(FlowKey::PORTS | FlowKey::ICMP));
        assert!(key.has(FlowKey::PORTS) || (key.src_port, key.dst_port) == (0, 0));
        assert!(inner == InnerTag::Allow || parsed.inner.is_none());
        let _ = (key.to_string(), sender::claim(frame, &parsed));
        let _ = l4::verify_checksum(frame, &parsed);

        let mut filled = frame.to_vec();
        if l4::fill_checksum(&mut filled, &parsed) {
            assert_eq!(l4::verify_checksum(&filled, &parsed), Some(true));
        }
        let mut answer = frame.to_vec();
        match reject::build(&mut answer, &parsed) {
            Err(_) => assert_eq!(answer, frame),
            Ok(_) => {
                let again = parse(&answer, inner).unwrap();
                assert_eq!((again.key.src, again.key.dst), (key.dst, key.src));
                assert_eq!(l4::verify_checksum(&answer, &again), Some(true));
                // An answer is never answered.
                assert!(reject::answer(&answer, &again).is_err());
            }
        }
    }
    if let Ok(oversize) = Oversize::new(frame) {
        for size in [0, 1, 7, 1448, u16::MAX] {
            let mut count = 0;
            let _ = oversize.segments(size, |headers, payload| {
                assert!(payload.len() <= usize::from(size) && headers.len() >= 42);
                count += 1;
                count < 50
            });
        }
    }
}

fn macs() -> (Mac, Mac) {
    (Mac([2, 0, 0, 0, 0, 2]), Mac([2, 0, 0, 0, 0, 1]))
}

#[derive(Debug, Clone)]
struct Layers {
    tags: Vec<u16>,
    v6: bool,
    src: [u8; 16],
    dst: [u8; 16],
    transport: u8,
    ports: (u16, u16),
    options: usize,
    extensions: usize,
    fragment: Option<(u16, bool)>,
    payload: Vec<u8>,
    padded: bool,
}

fn layers() -> impl Strategy<Value = Layers> {
    let network = (any::<bool>(), any::<[u8; 16]>(), any::<[u8; 16]>());
    let transport = (0u8..5, any::<(u16, u16)>(), 0usize..11, 0usize..4);
    let fragment = proptest::option::weighted(0.3, (0u16..100, any::<bool>()));
    let rest = (
        vec(0u16..4095, 0..3),
        vec(any::<u8>(), 0..100),
        any::<bool>(),
    );
    (network, transport, fragment, rest).prop_map(
        |(
            (v6, src, dst),
            (transport, ports, options, extensions),
            fragment,
            (tags, mut payload, padded),
        )| {
            let fragment = fragment.map(|(offset, more)| (offset * 8, more));
            if fragment.is_some() {
                // A piece that is not the last is a multiple of 8 bytes long.
                payload.resize(payload.len().next_multiple_of(8).max(8), 0);
            }
            let options = if fragment.is_some() {
                options / 2 * 2
            } else {
                options
            };
            Layers {
                tags,
                v6,
                src,
                dst,
                transport,
                ports,
                options,
                extensions,
                fragment,
                payload,
                padded,
            }
        },
    )
}

const OPTIONS: [u8; 40] = [1; 40];

impl Layers {
    fn v4(bytes: [u8; 16]) -> [u8; 4] {
        let [a, b, c, d, ..] = bytes;
        [a, b, c, d]
    }

    fn frame(&self) -> Vec<u8> {
        let (dst, src) = macs();
        let mut builder = FrameBuilder::new(dst, src).payload(&self.payload);
        for vid in &self.tags {
            builder = builder.tag(VlanTag::new(EtherType::VLAN, Vid::new(*vid).unwrap()));
        }
        builder = if self.v6 {
            builder.ipv6(self.src.into(), self.dst.into())
        } else {
            builder.ipv4(Self::v4(self.src).into(), Self::v4(self.dst).into())
        };
        for _ in 0..self.extensions {
            builder = builder.extension(60, &[0; 8]);
        }
        let fields = TcpFields {
            src_port: self.ports.0,
            dst_port: self.ports.1,
            ..TcpFields::default()
        };
        let options = &OPTIONS[..self.options * 4];
        builder = match self.transport {
            0 => builder.udp(self.ports.0, self.ports.1),
            1 => builder.tcp(fields).tcp_options(options),
            2 => builder.icmp(8, 7, [0; 4]),
            _ => builder.proto(47),
        };
        if !self.v6 {
            builder = builder.ip_options(options);
        }
        if let Some((offset, more)) = self.fragment {
            builder = builder.fragment(offset, more);
        }
        if self.padded {
            builder = builder.padded();
        }
        builder.build()
    }
}

/// The checksum as RFC 1071 describes it, one word after another.
fn naive(bytes: &[u8]) -> u16 {
    let mut sum = 0u32;
    for pair in bytes.chunks(2) {
        sum += u32::from(pair[0]) << 8 | pair.get(1).map_or(0, |b| u32::from(*b));
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap()
}

proptest! {
    #[test]
    fn random_bytes_never_panic(bytes in vec(any::<u8>(), 0..200)) {
        run(&bytes);
    }

    #[test]
    fn random_bytes_behind_a_believable_start_never_panic(
        ethertype in prop::sample::select(vec![0x0800u16, 0x86dd, 0x0806, 0x8100, 0x88a8]),
        version in prop::sample::select(vec![0x45u8, 0x46, 0x4f, 0x60]),
        next in prop::sample::select(vec![0u8, 1, 6, 17, 43, 44, 51, 58, 60, 132, 140]),
        mut bytes in vec(any::<u8>(), 15..300),
        stated in any::<bool>(),
    ) {
        bytes[12..14].copy_from_slice(&ethertype.to_be_bytes());
        bytes[14] = version;
        let len = bytes.len();
        if stated && len > 60 {
            let v6 = version == 0x60;
            let rest = u16::try_from(len - if v6 { 54 } else { 14 }).unwrap();
            let at = if v6 { 18 } else { 16 };
            bytes[at..at + 2].copy_from_slice(&rest.to_be_bytes());
            bytes[if v6 { 20 } else { 23 }] = next;
        }
        run(&bytes);
    }

    #[test]
    fn damaged_frames_never_panic(
        layers in layers(),
        edits in vec((0usize..200, any::<u8>()), 0..6),
    ) {
        let mut frame = layers.frame();
        for (at, value) in edits {
            let len = frame.len();
            frame[at % len] = value;
        }
        run(&frame);
    }

    #[test]
    fn truncated_frames_are_refused_or_their_packet_is_whole(layers in layers()) {
        let whole = Layers { padded: false, ..layers }.frame();
        for len in 0..whole.len() {
            let cut = &whole[..len];
            run(cut);
            prop_assert!(parse(cut, InnerTag::Allow).is_err(), "{} of {}", len, whole.len());
        }
    }

    #[test]
    fn what_the_builder_writes_the_parser_reads(layers in layers()) {
        let frame = layers.frame();
        let parsed = parse(&frame, InnerTag::Allow);
        if layers.tags.len() > 1 {
            prop_assert_eq!(parsed, Err(ParseError::ThirdTag));
            return Ok(());
        }
        let offset = layers.fragment.map_or(0, |f| f.0);
        let piece = layers.fragment.is_some_and(|f| f != (0, false));
        let tcp = layers.transport == 1;
        if tcp && offset != 0 && offset < 20 {
            prop_assert_eq!(parsed, Err(ParseError::BadHeader));
            return Ok(());
        }
        // The TCP header of 20 bytes leaves a piece with no multiple of 8.
        if tcp && layers.fragment == Some((0, true)) && (20 + layers.options * 4) % 8 != 0 {
            prop_assert_eq!(parsed, Err(ParseError::BadHeader));
            return Ok(());
        }
        let parsed = parsed.unwrap();
        let key = parsed.key;
        let (dst, src) = macs();
        prop_assert_eq!((key.dst_mac(), key.src_mac()), (dst, src));
        let (proto, family) = if layers.v6 { (58, FlowKey::IPV6) } else { (1, FlowKey::IPV4) };
        let proto = [17, 6, proto, 47, 47][usize::from(layers.transport)];
        prop_assert_eq!(key.proto, proto);
        let mut flags = family;
        if piece {
            flags |= FlowKey::FRAGMENT;
        }
        if offset != 0 {
            flags |= FlowKey::LATER_FRAGMENT;
        } else if layers.transport < 2 {
            flags |= FlowKey::PORTS;
        } else if layers.transport == 2 {
            flags |= FlowKey::ICMP;
        }
        prop_assert_eq!(key.flags, flags);
        let ports = if key.has(FlowKey::PORTS) { layers.ports } else { (0, 0) };
        prop_assert_eq!((key.src_port, key.dst_port), ports);
        let expected = if layers.v6 {
            (layers.src, layers.dst)
        } else {
            (FlowKey::mapped(Layers::v4(layers.src)), FlowKey::mapped(Layers::v4(layers.dst)))
        };
        prop_assert_eq!((key.src, key.dst), expected);
        let tags = u16::try_from(layers.tags.len()).unwrap();
        prop_assert_eq!(parsed.l3, 14 + 4 * tags);
        prop_assert_eq!(parsed.inner.map(|t| t.tci), layers.tags.first().copied());
        prop_assert_eq!(parsed.l4 == 0, offset != 0);
        run(&frame);
    }

    #[test]
    fn arp_there_and_back(operation: u16, a: [u8; 6], b: [u8; 6], c: [u8; 4], d: [u8; 4]) {
        let fields = ArpFields {
            operation,
            sender_mac: Mac(a),
            sender_ip: c.into(),
            target_mac: Mac(b),
            target_ip: d.into(),
        };
        let (dst, src) = macs();
        let frame = FrameBuilder::new(dst, src).arp(fields).build();
        let parsed = parse(&frame, InnerTag::Refuse).unwrap();
        prop_assert_eq!((parsed.key.src, parsed.key.dst), (FlowKey::mapped(c), FlowKey::mapped(d)));
        let says = sender::claim(&frame, &parsed).unwrap();
        let ip = (c != [0; 4]).then(|| c.into());
        prop_assert_eq!(says, sender::Claim::Arp { mac: Mac(a), ip, target: d.into() });
        run(&frame);
    }

    #[test]
    fn checksum_is_the_textbooks(bytes in vec(any::<u8>(), 0..400), cuts in vec(0usize..400, 0..4)) {
        let expected = naive(&bytes);
        prop_assert_eq!(checksum::of(&bytes), expected);
        let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
        cuts.sort_unstable();
        let mut sum = Sum::new();
        let mut from = 0;
        for cut in cuts.into_iter().chain([bytes.len()]) {
            sum = sum.with(&bytes[from..cut]);
            from = cut;
        }
        prop_assert_eq!(sum.finish(), expected);
    }

    #[test]
    fn incremental_update_is_a_recomputation(mut words in vec(any::<[u8; 2]>(), 1..20), at: prop::sample::Index, new: [u8; 2]) {
        // A one that no update takes away: over all zeros the two may differ in which zero they mean.
        words.push([0, 1]);
        let at = at.index(words.len() - 1);
        let before = checksum::of(words.as_flattened());
        let old = std::mem::replace(&mut words[at], new);
        let updated = checksum::updated(before, u16::from_be_bytes(old), u16::from_be_bytes(new));
        prop_assert_eq!(updated, checksum::of(words.as_flattened()));
    }

    #[test]
    fn completing_a_partial_checksum_is_a_recomputation(layers in layers()) {
        let mut frame = Layers { transport: layers.transport % 2, fragment: None, tags: vec![], ..layers }.frame();
        let parsed = parse(&frame, InnerTag::Refuse).unwrap();
        let (l3, l4) = (usize::from(parsed.l3), usize::from(parsed.l4));
        let offset = if parsed.key.proto == 6 { 16 } else { 6 };
        let whole = frame.clone();
        // The kernel leaves the pseudo header's sum in the field.
        let len = match Ipv4::new(&frame[l3..]) {
            Ok(ip) => ip.payload().len(),
            Err(_) => Ipv6::new(&frame[l3..]).unwrap().upper().unwrap().payload.len(),
        };
        let key = &parsed.key;
        let pseudo = if key.has(FlowKey::IPV4) {
            let (src, dst) = (key.src.last_chunk().unwrap(), key.dst.last_chunk().unwrap());
            checksum::pseudo_v4(*src, *dst, key.proto, u16::try_from(len).unwrap())
        } else {
            checksum::pseudo_v6(&key.src, &key.dst, key.proto, u32::try_from(len).unwrap())
        };
        frame[l4 + offset..l4 + offset + 2].copy_from_slice(&pseudo.partial().to_be_bytes());
        checksum::complete(&mut frame, parsed.l4, u16::try_from(offset).unwrap()).unwrap();
        prop_assert_eq!(&frame, &whole);
        frame[l4 + offset] ^= 0x55;
        prop_assert!(l4::fill_checksum(&mut frame, &parsed));
        prop_assert_eq!(frame, whole);
    }

    /// Cutting loses, repeats and reorders nothing, and each piece stands on its own.
    #[test]
    fn segments_put_together_are_the_frame(layers in layers(), size in 1u16..60) {
        let frame = Layers { transport: layers.transport % 2, fragment: None, tags: vec![], ..layers.clone() }.frame();
        let mut whole = Vec::new();
        let mut bad = None;
        Oversize::new(&frame).unwrap().segments(size, |headers, payload| {
            let segment = [headers, payload].concat();
            let parsed = parse(&segment, InnerTag::Refuse).unwrap();
            if l4::verify_checksum(&segment, &parsed) != Some(true) {
                bad = Some(segment);
            }
            whole.extend_from_slice(payload);
            true
        }).unwrap();
        prop_assert_eq!(bad, None);
        prop_assert_eq!(whole, layers.payload);
    }
}
