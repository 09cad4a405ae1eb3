// SPDX-License-Identifier: Apache-2.0
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use proptest::prelude::*;

use super::*;
use crate::build::FrameBuilder;
use crate::{InnerTag, parse};

const POD: Mac = Mac([2, 0, 0, 0, 0, 1]);
const ALERT_V4: &[u8] = &[148, 4, 0, 0];
const ALERT_V6: &[u8] = &[0, 0, 5, 2, 0, 0, 1, 0];

/// A frame with this IGMP message, whose checksum is filled in.
fn igmp(message: &[u8]) -> Vec<u8> {
    let mut message = message.to_vec();
    message[2..4].fill(0);
    let sum = crate::checksum::of(&message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    FrameBuilder::new(Mac([1, 0, 0x5e, 0, 0, 22]), POD)
        .ipv4([10, 0, 0, 1].into(), [224, 0, 0, 22].into())
        .ip_options(ALERT_V4)
        .ttl(1)
        .proto(IpProto::IGMP)
        .payload(&message)
        .build()
}

/// A frame with this MLD message, whose checksum is filled in.
fn mld(icmp_type: u8, rest: [u8; 4], payload: &[u8]) -> Vec<u8> {
    FrameBuilder::new(Mac([0x33, 0x33, 0, 0, 0, 22]), POD)
        .ipv6("fe80::1".parse().unwrap(), "ff02::16".parse().unwrap())
        .extension(IpProto::HOP_BY_HOP, ALERT_V6)
        .ttl(1)
        .icmp(icmp_type, 0, rest)
        .payload(payload)
        .build()
}

fn message(frame: &[u8]) -> Option<Result<Message<'_>, ParseError>> {
    let parsed = parse(frame, InnerTag::Refuse).unwrap();
    read(frame, &parsed.key, parsed.l3)
}

fn records(frame: &[u8]) -> Vec<([u8; 16], RecordKind, usize)> {
    match message(frame).unwrap().unwrap() {
        Message::Report(records) => records
            .map(|record| (record.group, record.kind, record.sources().count()))
            .collect(),
        other => panic!("not a report: {other:?}"),
    }
}

fn query(frame: &[u8]) -> Query {
    match message(frame).unwrap().unwrap() {
        Message::Query(query) => query,
        other => panic!("not a query: {other:?}"),
    }
}

fn v4(address: [u8; 4]) -> [u8; 16] {
    FlowKey::mapped(address)
}

fn v6(address: &str) -> [u8; 16] {
    address.parse::<std::net::Ipv6Addr>().unwrap().octets()
}

#[test]
fn reports_of_every_version_of_igmp() {
    let group = v4([239, 1, 2, 3]);
    for (version, kind) in [
        (0x12, RecordKind::Exclude),
        (0x16, RecordKind::Exclude),
        (0x17, RecordKind::Include),
    ] {
        let frame = igmp(&[version, 0, 0, 0, 239, 1, 2, 3]);
        assert_eq!(records(&frame), [(group, kind, 0)], "{version:#x}");
    }
    let mut v3 = vec![0x22, 0, 0, 0, 0, 0, 0, 4];
    v3.extend([4, 0, 0, 0, 239, 1, 2, 3]);
    // With two words of auxiliary data, then a type that nobody knows.
    v3.extend([
        5, 2, 0, 1, 232, 1, 1, 1, 10, 0, 0, 9, 1, 2, 3, 4, 5, 6, 7, 8,
    ]);
    v3.extend([9, 0, 0, 0, 239, 9, 9, 9]);
    v3.extend([3, 0, 0, 0, 239, 4, 4, 4]);
    let expected = [
        (group, RecordKind::Exclude, 0),
        (v4([232, 1, 1, 1]), RecordKind::Allow, 1),
        (v4([239, 4, 4, 4]), RecordKind::Include, 0),
    ];
    assert_eq!(records(&igmp(&v3)), expected);
}

#[test]
fn reports_of_both_versions_of_mld() {
    let group = v6("ff05::1:3");
    assert_eq!(
        records(&mld(131, [0; 4], &group)),
        [(group, RecordKind::Exclude, 0)]
    );
    assert_eq!(
        records(&mld(132, [0; 4], &group)),
        [(group, RecordKind::Include, 0)]
    );
    let mut v2 = vec![2, 0, 0, 0];
    v2.extend(group);
    v2.extend([6, 0, 0, 1]);
    v2.extend(v6("ff3e::8000:1"));
    v2.extend(v6("2001:db8::1"));
    let expected = [
        (group, RecordKind::Exclude, 0),
        (v6("ff3e::8000:1"), RecordKind::Block, 1),
    ];
    assert_eq!(records(&mld(143, [0, 0, 0, 2], &v2)), expected);
}

#[test]
fn queries_of_every_version() {
    let v1 = query(&igmp(&[0x11, 0, 0, 0, 0, 0, 0, 0]));
    assert_eq!((v1.max_response_ms, v1.is_general), (10_000, true));
    assert_eq!(v1.membership_ms(), 260_000);
    assert_eq!(v1.present_ms(), 255_000);
    let v2 = query(&igmp(&[0x11, 20, 0, 0, 239, 1, 2, 3]));
    assert_eq!((v2.max_response_ms, v2.is_general), (2_000, false));
    // 0x8c is (12 | 16) << 3 tenths; the interval 0xa0 is 16 << 5 seconds.
    let v3 = query(&igmp(&[0x11, 0x8c, 0, 0, 0, 0, 0, 0, 3, 0xa0, 0, 0]));
    assert_eq!((v3.robustness, v3.interval_s), (3, 512));
    assert_eq!(v3.max_response_ms, 22_400);
    let mut body = vec![0; 16];
    let v1 = query(&mld(130, [0x27, 0x10, 0, 0], &body));
    assert_eq!((v1.max_response_ms, v1.interval_s), (10_000, 125));
    body.extend([2, 60, 0, 0]);
    let v2 = query(&mld(130, [0x80, 1, 0, 0], &body));
    assert_eq!((v2.max_response_ms, v2.interval_s), (0x1001 << 3, 60));
}

#[test]
fn what_no_router_accepts() {
    let report = [0x16, 0, 0, 0, 239, 1, 2, 3];
    let good = igmp(&report);
    let l4 = good.len() - report.len();
    let refused = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut frame = good.clone();
        change(&mut frame);
        message(&frame).unwrap().err()
    };
    assert_eq!(refused(&|_| {}), None);
    let bad = Some(ParseError::BadHeader);
    assert_eq!(refused(&|frame| frame[l4 + 7] ^= 1), bad, "checksum");
    assert_eq!(refused(&|frame| frame[22] = 64), bad, "from afar");
    assert_eq!(refused(&|frame| frame[20] = 0x20), bad, "a fragment");
    let short = igmp(&[0x22, 0, 0, 0, 0, 0, 0, 1, 4, 0, 0, 9, 239, 1, 2, 3]);
    assert_eq!(message(&short).unwrap().err(), Some(ParseError::Truncated));
    let nine = igmp(&[0x11, 1, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(message(&nine).unwrap().err(), bad, "of no version");

    let group = v6("ff05::1:3");
    let good = FrameBuilder::new(Mac([0x33, 0x33, 0, 0, 0, 22]), POD)
        .ipv6("fe80::1".parse().unwrap(), "ff02::16".parse().unwrap())
        .icmp(131, 0, [0; 4])
        .payload(&group);
    let refused = |builder: FrameBuilder<'_>| message(&builder.build()).unwrap().err();
    let alert = good.clone().extension(IpProto::HOP_BY_HOP, ALERT_V6);
    assert_eq!(refused(alert.clone().ttl(1)), None);
    assert_eq!(refused(alert.clone().ttl(255)), bad);
    assert_eq!(refused(good.clone().ttl(1)), bad, "no Router Alert");
    let global = alert.ttl(1);
    let global = global.ipv6("2001:db8::1".parse().unwrap(), "ff02::16".parse().unwrap());
    assert_eq!(refused(global), bad);
    let nobody = good
        .ipv6("::".parse().unwrap(), "ff02::16".parse().unwrap())
        .extension(IpProto::HOP_BY_HOP, ALERT_V6)
        .ttl(1);
    assert_eq!(refused(nobody.clone()), None, "a host without address");
    assert_eq!(refused(nobody.icmp(130, 0, [0; 4])), bad, "no router");
}

#[test]
fn groups_of_the_link_are_not_snooped() {
    for (group, snooped) in [
        (v4([224, 0, 0, 251]), false),
        (v4([224, 0, 1, 1]), true),
        (v4([239, 255, 255, 250]), true),
        (v4([10, 0, 0, 1]), false),
        (v4([255; 4]), false),
        (v6("ff02::fb"), false),
        (v6("ff02::1:ff00:1"), false),
        (v6("ff01::1"), false),
        (v6("ff05::2"), true),
        (v6("ff3e::8000:1"), true),
        (v6("2001:db8::1"), false),
    ] {
        assert_eq!(is_snooped(&group), snooped, "{group:?}");
    }
    assert_eq!(mac_of(&v4([239, 129, 2, 3])), Mac([1, 0, 0x5e, 1, 2, 3]));
    assert_eq!(mac_of(&v6("ff05::1:3")), Mac([0x33, 0x33, 0, 1, 0, 3]));
}

#[test]
fn a_report_of_more_records_than_are_read_is_cut() {
    let mut v3 = vec![0x22, 0, 0, 0, 0, 0, 1, 44];
    for number in 0..300_u16 {
        let [high, low] = number.to_be_bytes();
        v3.extend([4, 0, 0, 0, 239, 1, high, low]);
    }
    assert_eq!(records(&igmp(&v3)).len(), MAX_RECORDS);
}

proptest! {
    #[test]
    fn hostile_messages_never_panic_and_cost_no_more_than_the_limit(
        mut bytes in proptest::collection::vec(any::<u8>(), 8..400),
        kind in prop::sample::select(vec![0x11_u8, 0x12, 0x16, 0x17, 0x22, 0x99]),
    ) {
        bytes[0] = kind;
        let frame = igmp(&bytes);
        if let Some(Ok(Message::Report(records))) = message(&frame) {
            let (mut count, mut sources) = (0, 0);
            for record in records {
                count += 1;
                sources += record.sources().count();
            }
            prop_assert!(count <= MAX_RECORDS && sources * 4 <= bytes.len());
        }
    }

    #[test]
    fn hostile_mld_never_panics(
        bytes in proptest::collection::vec(any::<u8>(), 0..400),
        rest in any::<[u8; 4]>(),
        kind in prop::sample::select(mld::TYPES.to_vec()),
    ) {
        let frame = mld(kind, rest, &bytes);
        if let Some(Ok(Message::Report(records))) = message(&frame) {
            prop_assert!(records.count() <= MAX_RECORDS);
        }
    }

    #[test]
    fn frames_cut_anywhere_never_panic(cut in 0_usize..120, flip in any::<(usize, u8)>()) {
        let mut body = vec![2, 0, 0, 0];
        body.extend(v6("ff05::1:3"));
        for whole in [mld(143, [0, 0, 0, 1], &body), igmp(&[0x22, 0, 0, 0, 0, 0, 0, 0])] {
            let mut frame = whole[..cut.min(whole.len())].to_vec();
            if let Some(byte) = frame.get_mut(flip.0 % whole.len()) {
                *byte ^= flip.1;
            }
            if let Ok(parsed) = parse(&frame, InnerTag::Refuse) {
                let _ = read(&frame, &parsed.key, parsed.l3);
            }
        }
    }
}
