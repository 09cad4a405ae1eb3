// SPDX-License-Identifier: Apache-2.0
//! Frames of all tags and lengths, byte for byte.

use sluice_datapath::{DropReason, FrameInfo, Sent};
use sluice_packet::VlanTag;
use sluice_tests::root_or_skip;

use super::rig::{Driver, Rig, far_end, frame, is_ours, send, tagged};
use crate::ports_worker::Worker;

#[test]
fn tags_come_through_both_ways() {
    if !root_or_skip("ports_netdev::tags_come_through_both_ways") {
        return;
    }
    for driver in Driver::ALL {
        let rig = Rig::new().unwrap();
        let mut worker = Worker::new();
        let mut uplink = rig.uplink(driver, 2048, &mut worker).unwrap();
        assert_eq!(
            (uplink.driver(), uplink.device(), uplink.mtu()),
            (driver.name(), "up0", 1500)
        );
        let mut tagger = rig.tagger().unwrap();

        // Towards the engine: untagged, C-VLAN with priority, S-VLAN, priority only, and QinQ, whose
        // inner tag stays in the bytes.
        let plain = frame(1, 1514);
        let (c_tag, s_tag) = ((0x8100, 0xa0d2), (0x88a8, 0x00dc));
        let cases = [
            &[][..],
            &[c_tag],
            &[s_tag],
            &[(0x8100, 0x6000)],
            &[s_tag, c_tag],
        ];
        for tags in cases {
            let bytes = if tags.len() == 2 {
                &plain[..1510]
            } else {
                &plain[..]
            };
            send(&mut tagger, &tagged(bytes, tags)).unwrap();
        }
        let seen = worker.receive(&mut *uplink, cases.len(), is_ours).unwrap();
        for (seen, tags) in seen.iter().zip(cases) {
            // AF_PACKET tells the outermost tag beside the bytes, AF_XDP leaves it in them.
            if driver == Driver::AfPacket {
                assert_eq!(seen.tag, tags.first().copied());
            }
            let bytes = if tags.len() == 2 {
                &plain[..1510]
            } else {
                &plain[..]
            };
            assert_eq!(tagged(&seen.data, seen.tag.as_slice()), tagged(bytes, tags));
        }

        // Towards the wire: the same, from the frames' facts.
        let bytes = [
            plain.clone(),
            plain.clone(),
            plain.clone(),
            tagged(&plain[..1510], &[c_tag]),
        ];
        let tags = [None, Some(c_tag), Some(s_tag), Some(s_tag)];
        let mut burst = worker.burst(&bytes);
        for (mbuf, tag) in burst.iter_mut().zip(tags) {
            FrameInfo::of_mut(mbuf).set_tag(tag.map(|(tpid, tci)| VlanTag { tpid, tci }));
        }
        let sent = uplink.tx_burst(&mut worker.context(), &mut burst);
        assert_eq!(
            sent,
            Sent {
                frames: 4,
                bytes: 1514 + 3 * 1518,
                ..Sent::default()
            }
        );
        assert!(burst.is_empty());
        for ((seen, tag), bytes) in far_end(&mut tagger, 4).unwrap().iter().zip(tags).zip(bytes) {
            assert_eq!((seen.tag, &seen.data), (tag, &bytes));
        }
        drop(uplink);
        worker.check(&[]);
    }
}

#[test]
fn what_does_not_fit_the_netdev_is_counted() {
    if !root_or_skip("ports_netdev::what_does_not_fit_the_netdev_is_counted") {
        return;
    }
    for driver in Driver::ALL {
        let rig = Rig::new().unwrap();
        rig.engine
            .ip(&["link", "set", "up0", "mtu", "1400"])
            .unwrap();
        let mut worker = Worker::new();
        let mut uplink = rig.uplink(driver, 2048, &mut worker).unwrap();
        assert_eq!(uplink.mtu(), 1400);
        let mut tagger = rig.tagger().unwrap();
        let frames = [frame(1, 1414), frame(2, 1419), frame(3, 60), frame(4, 1415)];
        let mut burst = worker.burst(&frames);
        let tag = VlanTag {
            tpid: 0x8100,
            tci: 210,
        };
        for mbuf in burst.iter_mut() {
            FrameInfo::of_mut(mbuf).set_tag(Some(tag));
        }
        let sent = uplink.tx_burst(&mut worker.context(), &mut burst);
        assert_eq!(
            sent,
            Sent {
                frames: 2,
                bytes: 1418 + 64,
                ..Sent::default()
            }
        );
        assert!(burst.is_empty());
        assert_eq!(worker.drops.get(DropReason::TooLong), 2);
        let seen = far_end(&mut tagger, 2).unwrap();
        assert_eq!((seen[0].data.len(), seen[1].data.len()), (1414, 60));
        drop(uplink);
        worker.check(&[DropReason::TooLong]);
    }
}
