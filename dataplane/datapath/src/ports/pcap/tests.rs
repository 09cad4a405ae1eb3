// SPDX-License-Identifier: Apache-2.0
//! Files of every kind in, files out, and files that lie.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::path::Path;

use proptest::prelude::*;
use sluice_packet::{Vid, VlanTag};

use super::*;
use crate::ids::{SegmentId, UplinkId};
use crate::testing::fake_port_context::Lent;

/// A frame of `len` bytes with a tag of VID 210 in its bytes.
fn frame(fill: u8, len: usize) -> Vec<u8> {
    let mut frame = vec![fill; len];
    frame[12..16].copy_from_slice(&[0x81, 0x00, 0x00, 0xd2]);
    frame
}

fn frames() -> Vec<Vec<u8>> {
    (1..=70u8)
        .map(|fill| frame(fill, 60 + usize::from(fill) * 13))
        .collect()
}

fn word(value: u32, big_endian: bool) -> [u8; 4] {
    if big_endian {
        value.to_be_bytes()
    } else {
        value.to_le_bytes()
    }
}

/// A pcap file, byte by byte as its specification says.
fn pcap_bytes(frames: &[Vec<u8>], magic: u32, big_endian: bool) -> Vec<u8> {
    let half = |value: u16| {
        if big_endian {
            value.to_be_bytes()
        } else {
            value.to_le_bytes()
        }
    };
    let mut bytes = word(magic, big_endian).to_vec();
    bytes.extend([half(2), half(4)].concat());
    bytes.extend(
        [0u32, 0, 65535, 1]
            .map(|value| word(value, big_endian))
            .concat(),
    );
    for frame in frames {
        let len = u32::try_from(frame.len()).unwrap();
        bytes.extend(
            [1u32, 999_999, len, len]
                .map(|value| word(value, big_endian))
                .concat(),
        );
        bytes.extend_from_slice(frame);
    }
    bytes
}

/// Bytes of one pcapng block, its body padded to 32 bits.
fn block(kind: u32, body: &[u8], big_endian: bool) -> Vec<u8> {
    let mut body = body.to_vec();
    body.resize(body.len().next_multiple_of(4), 0);
    let total = word(u32::try_from(body.len() + 12).unwrap(), big_endian);
    [&word(kind, big_endian), &total, &body[..], &total].concat()
}

/// A pcapng file of one section and one Ethernet interface, byte by byte as its specification says:
/// frames lie in enhanced, simple and obsolete packet blocks by turns.
fn pcapng_bytes(frames: &[Vec<u8>], big_endian: bool) -> Vec<u8> {
    let half = |value: u16| {
        if big_endian {
            value.to_be_bytes()
        } else {
            value.to_le_bytes()
        }
    };
    let words = |values: &[u32]| -> Vec<u8> {
        values
            .iter()
            .flat_map(|value| word(*value, big_endian))
            .collect()
    };
    let section = [
        &word(0x1a2b_3c4d, big_endian)[..],
        &half(1),
        &half(0),
        &[0xff; 8],
    ]
    .concat();
    let mut bytes = block(0x0a0d_0d0a, &section, big_endian);
    let interface = [&half(1)[..], &half(0), &words(&[0])].concat();
    bytes.extend(block(1, &interface, big_endian));
    for (index, frame) in frames.iter().enumerate() {
        let len = u32::try_from(frame.len()).unwrap();
        let (kind, head) = match index % 3 {
            0 => (6, words(&[0, 0, 7, len, len])),
            1 => (3, words(&[len])),
            _ => (
                2,
                [&half(0)[..], &half(9), &words(&[0, 7, len, len])].concat(),
            ),
        };
        bytes.extend(block(kind, &[&head[..], frame].concat(), big_endian));
    }
    // A name resolution block, of which nothing is read.
    bytes.extend(block(4, &[0; 4], big_endian));
    bytes
}

fn open(path: &Path) -> Result<PcapUplink, PcapError> {
    let config = PcapConfig {
        read: Some(path.to_owned()),
        write: None,
    };
    PcapUplink::open(config, 1500)
}

/// Everything that the file holding `bytes` gives.
fn received(bytes: &[u8]) -> Vec<Vec<u8>> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("in");
    std::fs::write(&path, bytes).unwrap();
    let mut uplink = open(&path).unwrap();
    let progress = uplink.progress();
    let mut lent = Lent::new(128);
    let mut seen = Vec::new();
    while !progress.finished() {
        assert!(!uplink.arm(), "frames are left, so nobody may sleep");
        let mut burst = Burst::default();
        uplink.rx_burst(&mut lent.context(), &mut burst);
        seen.extend(burst.iter().map(|mbuf| mbuf.data().to_vec()));
        lent.pools.free_burst(&mut burst);
    }
    assert!(uplink.arm());
    lent.assert_all_free();
    seen
}

#[test]
fn every_kind_of_file_is_read() {
    let frames = frames();
    for (magic, big_endian) in [
        (0xa1b2_c3d4, false),
        (0xa1b2_c3d4, true),
        (0xa1b2_3c4d, false),
        (0xa1b2_3c4d, true),
    ] {
        assert_eq!(received(&pcap_bytes(&frames, magic, big_endian)), frames);
    }
    for big_endian in [false, true] {
        assert_eq!(received(&pcapng_bytes(&frames, big_endian)), frames);
    }
    let sections = [false, true]
        .map(|order| pcapng_bytes(&frames, order))
        .concat();
    assert_eq!(received(&sections), [&frames[..], &frames].concat());
    assert_eq!(
        received(&pcap_bytes(&[], 0xa1b2_c3d4, false)),
        Vec::<Vec<u8>>::new()
    );
}

#[test]
fn what_is_sent_is_in_the_file_with_its_tag() {
    let folder = tempfile::tempdir().unwrap();
    let (path_in, path_out) = (folder.path().join("in"), folder.path().join("out"));
    let plain = vec![vec![7u8; 60], vec![8; 1500]];
    std::fs::write(&path_in, pcap_bytes(&plain, 0xa1b2_c3d4, false)).unwrap();
    let config = PcapConfig {
        read: Some(path_in),
        write: Some(path_out.clone()),
    };
    let mut uplink = PcapUplink::open(config, 1500).unwrap();
    let mut lent = Lent::new(16);
    let mut burst = Burst::default();
    uplink.rx_burst(&mut lent.context(), &mut burst);
    let tag = VlanTag {
        tpid: 0x88a8,
        tci: 0x20dc,
    };
    FrameInfo::of_mut(&mut burst.as_mut_slice()[1]).set_tag(Some(tag));
    let sent = uplink.tx_burst(&mut lent.context(), &mut burst);
    assert_eq!(
        sent,
        Sent {
            frames: 2,
            bytes: 60 + 1504,
            ..Sent::default()
        }
    );
    assert_eq!(uplink.progress().written(), 2);
    // The port is still open: the file is whole all the same.
    let mut tagged = plain[1].clone();
    tagged.splice(12..12, [0x88, 0xa8, 0x20, 0xdc]);
    assert_eq!(
        received(&std::fs::read(&path_out).unwrap()),
        [plain[0].clone(), tagged]
    );
    lent.assert_all_free();
}

#[test]
fn a_pod_gets_the_tag_of_its_attachment() {
    let folder = tempfile::tempdir().unwrap();
    let path_out = folder.path().join("out");
    let config = PcapConfig {
        read: None,
        write: Some(path_out.clone()),
    };
    let mut port = PcapPort::open(config).unwrap();
    let mut lent = Lent::new(16);
    let mut mbuf = lent.pools.alloc_for(60).unwrap();
    assert!(mbuf.copy_from(&[7; 60]));
    FrameInfo::begin(
        &mut mbuf,
        Some(VlanTag {
            tpid: 0x8100,
            tci: 0x60d2,
        }),
    );
    let segment = SegmentId::new(UplinkId(0), Vid::new(210).unwrap());
    FrameInfo::of_mut(&mut mbuf).set_segment(segment);
    let frames = [mbuf];
    assert_eq!(port.deliver(&frames, Tagging::Untagged).unwrap().bytes, 60);
    assert_eq!(
        port.deliver(&frames, Tagging::Tagged { native: None })
            .unwrap()
            .bytes,
        64
    );
    port.flush();
    let written = received(&std::fs::read(&path_out).unwrap());
    assert_eq!(written[0], [7; 60]);
    assert_eq!(written[1][12..16], [0x81, 0x00, 0x60, 0xd2]);
    let [mbuf] = frames;
    lent.pools.free(mbuf);
    lent.assert_all_free();
}

#[test]
fn a_full_disk_is_counted_and_told() {
    let config = PcapConfig {
        read: None,
        write: Some("/dev/full".into()),
    };
    // /dev/full takes the opening, and refuses the header already.
    let error = PcapUplink::open(config, 1500).unwrap_err().to_string();
    assert!(error.contains("/dev/full"), "{error}");
}

#[test]
fn errors_name_the_file_and_the_frame() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("golden.pcap");
    let whole = pcap_bytes(&frames()[..3], 0xa1b2_c3d4, false);
    let refused = |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        open(&path).unwrap_err().to_string()
    };
    let cut = refused(&whole[..whole.len() - 1]);
    assert!(
        cut.contains("golden.pcap, frame 3: the file ends in the middle"),
        "{cut}"
    );
    let cut = refused(&whole[..24 + 5]);
    assert!(cut.contains("frame 1"), "{cut}");
    let mut snapped = whole.clone();
    snapped[24 + 12] += 1;
    let snapped = refused(&snapped);
    assert!(
        snapped.contains("frame 1") && snapped.contains("tcpdump -s 0"),
        "{snapped}"
    );
    let mut other_link = whole.clone();
    other_link[20] = 101;
    let other_link = refused(&other_link);
    assert!(other_link.contains("not ETHERNET"), "{other_link}");
    assert!(refused(b"no capture at all, but some text").contains("not a capture"));
    assert!(refused(b"").contains("not a capture"));
    let ng = pcapng_bytes(&frames()[..2], false);
    let cut = refused(&ng[..ng.len() - 16 - 2]);
    assert!(cut.contains("frame 2"), "{cut}");
    std::fs::remove_file(&path).unwrap();
    assert!(open(&path).unwrap_err().to_string().contains("cannot read"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn damaged_files_never_panic(
        ng in any::<bool>(),
        big_endian in any::<bool>(),
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        cut in any::<prop::sample::Index>(),
    ) {
        let frames: Vec<_> = frames().into_iter().take(4).collect();
        let mut bytes =
            if ng { pcapng_bytes(&frames, big_endian) } else { pcap_bytes(&frames, 0xa1b2_c3d4, big_endian) };
        for (at, value) in damage {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        let len = cut.index(bytes.len() + 1);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("in");
        std::fs::write(&path, &bytes[..len]).unwrap();
        // Whatever it is: frames or a refusal.
        let _ = open(&path);
    }
}
