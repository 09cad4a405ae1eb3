// SPDX-License-Identifier: Apache-2.0
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use super::super::vf_lab::{Lab, lab, request};
use super::*;

fn gone() -> (LinkState, String) {
    (LinkState::Gone, "VF is gone from this machine".to_owned())
}

fn opened(lab: &Lab) -> UplinkId {
    let guard = lab.open_uplink(&request(1400)).unwrap();
    guard.keep().unwrap()
}

/// Reason of a VF that must be away.
fn away(renewed: Renewed) -> (String, bool) {
    match renewed {
        Renewed::Away { reason, now } => (reason, now),
        other => panic!("{other:?}"),
    }
}

/// Lets the next try come at once.
fn hurry(lab: &Lab, id: UplinkId) {
    let mut vfs = locked(&lab.control.own_vfs);
    let Device::Away(away) = &mut vfs.get_mut(&id).unwrap().device else {
        panic!("it is open");
    };
    away.next = Instant::now();
}

fn report(lab: &Lab, id: UplinkId) -> LinkState {
    let report = lab
        .control
        .engine
        .try_with(|engine| engine.uplink_report(id));
    report.unwrap().link
}

#[test]
fn a_vf_that_the_kernel_asks_for_is_closed_and_taken_up_when_it_is_back() {
    let lab = lab();
    let id = opened(&lab);
    assert_eq!(lab.control.renew_vf(id, None), Renewed::Open);
    lab.vfs.ask_back();
    let (reason, now) = away(lab.control.renew_vf(id, None));
    assert!(
        now && reason.contains("the kernel took VF 0000:01:10.0 back"),
        "{reason}"
    );
    assert_eq!(lab.vfs.open(), 0, "the kernel would wait");
    assert_eq!(lab.uplinks().len(), 1, "the attachment keeps its uplink");
    // The kernel is still at work; then the VF is gone.
    assert!(!away(lab.control.renew_vf(id, None)).1);
    hurry(&lab, id);
    let (reason, now) = away(lab.control.renew_vf(id, Some(&gone())));
    assert_eq!(
        (reason.as_str(), now),
        ("VF is gone from this machine", false)
    );
    assert_eq!((lab.vfs.open(), lab.vfs.prepared()), (0, 0));
    // It is back, and its PF still down: it is taken up all the same.
    let down = (LinkState::Down, "its PF is down".to_owned());
    assert_eq!(lab.control.renew_vf(id, Some(&down)), Renewed::Open);
    assert_eq!((lab.vfs.open(), lab.vfs.prepared()), (1, 1));
    assert_eq!(lab.uplinks()[0].2, 1400);
    // And may go again.
    lab.vfs.ask_back();
    assert!(away(lab.control.renew_vf(id, None)).1);
    lab.control.close_vf(id).unwrap();
    assert_eq!(lab.control.renew_vf(id, None), Renewed::Closed);
    assert_eq!((lab.vfs.open(), lab.uplinks().len()), (0, 0));
}

#[test]
fn a_vf_that_vanished_unasked_is_given_up() {
    let lab = lab();
    let id = opened(&lab);
    assert_eq!(
        away(lab.control.renew_vf(id, Some(&gone()))),
        (gone().1, true)
    );
    assert_eq!(lab.vfs.open(), 0);
    lab.control.close_vf(id).unwrap();
}

#[test]
fn tries_that_fail_say_why_and_come_less_and_less_often() {
    let lab = lab();
    let id = opened(&lab);
    lab.vfs.ask_back();
    away(lab.control.renew_vf(id, None));
    lab.vfs.refuse(Some("held by testpmd"));
    for _ in 0..8 {
        hurry(&lab, id);
        let (reason, _) = away(lab.control.renew_vf(id, None));
        assert!(
            reason.contains("0000:01:10.0 is there, and cannot be taken up: held by testpmd"),
            "{reason}"
        );
    }
    {
        let vfs = locked(&lab.control.own_vfs);
        let Device::Away(away) = &vfs[&id].device else {
            panic!("it is open");
        };
        assert_eq!(away.pause, LAST_TRY);
    }
    lab.vfs.refuse(None);
    // Not before its time.
    away(lab.control.renew_vf(id, None));
    hurry(&lab, id);
    assert_eq!(lab.control.renew_vf(id, None), Renewed::Open);
    lab.control.close_vf(id).unwrap();
}

#[test]
fn an_attachment_is_served_again_although_its_vf_is_away() {
    let lab = lab();
    // What cannot be opened stands for a VF that is away.
    let mut unopenable = request(9194);
    let refused = lab.open_uplink(&unopenable).unwrap_err();
    assert!(refused.message.contains("too large"), "{refused}");
    let choice = lab
        .control
        .choose_uplink(&unopenable)
        .unwrap()
        .though_away();
    let checked = super::super::request::CheckedRequest::new(&unopenable, 9194).unwrap();
    let guard = lab.control.open_uplink(&choice, &checked).unwrap();
    let id = guard.keep().unwrap();
    assert_eq!(lab.vfs.open(), 0);
    let (reason, now) = away(lab.control.renew_vf(id, None));
    assert!(!now && reason.contains("too large"), "{reason}");
    assert_eq!(lab.vfs.prepared(), 1, "tried at once");
    wait_for_gone(&lab, id);
    lab.control.close_vf(id).unwrap();
    unopenable.mtu = Some(1500);
    assert!(lab.open_uplink(&unopenable).is_ok());
}

/// The stand-in's report reaches control with the worker's next housekeeping.
fn wait_for_gone(lab: &Lab, id: UplinkId) {
    let begun = Instant::now();
    while report(lab, id) != LinkState::Gone {
        assert!(begun.elapsed() < Duration::from_secs(20), "no report");
        std::thread::yield_now();
    }
}
