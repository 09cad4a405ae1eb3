// SPDX-License-Identifier: Apache-2.0
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use sluice_api::ErrorCode;

use super::super::vf_lab::{lab, request};
use super::*;

#[test]
fn a_vf_is_closed_with_a_failed_attach_and_kept_with_one_that_is_made() {
    let lab = lab();
    let guard = lab.open_uplink(&request(1400)).unwrap();
    assert_eq!(lab.vfs.open(), 1);
    let there = ("0000:01:10.0".to_owned(), "enp1s0".to_owned(), 1400);
    assert_eq!(lab.uplinks(), [there]);
    let worker = guard.worker().unwrap();
    let id = guard.id();
    assert_eq!(
        lab.control
            .engine
            .try_with(|e| e.uplink_worker(id))
            .unwrap(),
        worker
    );
    drop(guard);
    assert_eq!((lab.vfs.open(), lab.uplinks().len()), (0, 0));

    let kept = lab.open_uplink(&request(1500)).unwrap().keep().unwrap();
    assert_eq!((lab.vfs.open(), lab.uplinks().len()), (1, 1));
    // Whose VF it is, is known by attachments alone: the engine itself knows no second of that name.
    let error = lab.open_uplink(&request(1500)).unwrap_err();
    assert_eq!(error.code, ErrorCode::Conflict);
    assert_eq!(lab.vfs.open(), 1, "the second was closed again");
    lab.control.close_vf(kept).unwrap();
    assert_eq!((lab.vfs.open(), lab.uplinks().len()), (0, 0));
    lab.control.close_vf(kept).unwrap();
}

#[test]
fn what_a_vf_cannot_be_is_refused() {
    let lab = lab();
    assert!(
        lab.open_uplink(&request(9100))
            .unwrap_err()
            .message
            .contains("nowhere")
    );
    let mut wrong = request(1500);
    wrong.vf.as_mut().unwrap().address = "01:99.9".into();
    let error = lab.open_uplink(&wrong).unwrap_err();
    assert_eq!(error.code, ErrorCode::Invalid);
    assert!(error.message.contains("PCI address"), "{error}");
    let attached = lab.control.attach(&request(1500)).unwrap_err();
    assert_eq!(
        attached.code,
        ErrorCode::Invalid,
        "no such namespace: {attached}"
    );
    assert_eq!((lab.vfs.open(), lab.uplinks().len()), (0, 0));
}

#[test]
fn a_vf_asks_for_the_vlans_that_its_pf_does_not_put_on() {
    let vid = |vid| Vid::new(vid).unwrap();
    let vf = |port_vlan: Option<u16>| VfChoice {
        address: "0000:01:10.0".parse().unwrap(),
        network: "enp1s0".into(),
        port_vlan: port_vlan.map(vid),
        mtu: 1500,
        may_be_away: false,
    };
    let access = |number| VlanSet::Access(vid(number));
    assert_eq!(vlans(&vf(Some(210)), &access(210)), VfVlans::Port(vid(210)));
    assert_eq!(vlans(&vf(None), &access(0)), VfVlans::Untagged);
    assert_eq!(
        vlans(&vf(None), &access(210)),
        VfVlans::Trunk(vec![vid(210)])
    );
    let trunk = VlanSet::Trunk {
        vids: vec![vid(220), vid(210)],
        native: Some(vid(0)),
    };
    assert_eq!(
        vlans(&vf(None), &trunk),
        VfVlans::Trunk(vec![vid(210), vid(220)])
    );
}

#[test]
fn a_vf_asks_for_the_macs_that_its_pod_may_pose_as() {
    let mac = |last| Mac([2, 0, 0, 0, 0, last]);
    let pair = |mac| AddressPair { mac, ip: None };
    let pairs = [
        pair(Some(mac(9))),
        pair(None),
        pair(Some(mac(1))),
        pair(Some(mac(9))),
        pair(Some(Mac([0x33, 0x33, 0, 0, 0, 1]))),
    ];
    assert_eq!(further_macs(mac(1), &pairs), [mac(9)]);
}
