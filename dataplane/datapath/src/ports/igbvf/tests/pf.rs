// SPDX-License-Identifier: Apache-2.0
//! The PF and the device while the VF runs: down and up, resets, silence, wake-ups.

use super::*;

#[test]
fn a_pf_that_was_down_is_waited_for() {
    let down = Pf {
        up: false,
        ..Pf::default()
    };
    let mut lab = lab(down, VfVlans::Untagged);
    assert_eq!(lab.link(), LinkState::Waiting, "and it does not pretend");
    lab.send(&[frame(1, 60)], None);
    assert_eq!(lab.drops.get(DropReason::LinkDown), 1);
    lab.housekeeping(100);
    assert_eq!(lab.link(), LinkState::Waiting);
    assert!(lab.port.as_ref().unwrap().may_miss_wakeups());
    lab.nic.with(|vf, _| vf.pf_up());
    lab.housekeeping(60);
    assert_eq!(lab.link(), LinkState::Up);
    lab.arrive(&frame(7, 60), None);
    let mut burst = lab.receive();
    assert_eq!(burst.as_slice()[0].data(), frame(7, 60));
    lab.pools.free_burst(&mut burst);
    lab.end();
}

#[test]
fn a_pf_that_forgets_the_vf_is_asked_anew() {
    for by_message in [true, false] {
        let mut lab = lab(Pf::default(), VfVlans::Untagged);
        for round in 1..=3u64 {
            for number in 0..20 {
                lab.arrive(&frame(number, 60), None);
            }
            assert_eq!(lab.send(&vec![frame(1, 60); 10], None), 10);
            lab.nic.with(|vf, bus| {
                if by_message {
                    vf.pf_down(bus);
                } else {
                    vf.pf_reset();
                }
            });
            lab.housekeeping(1);
            assert_eq!(lab.link(), LinkState::Waiting);
            lab.nic.with(|vf, _| vf.pf_up());
            lab.housekeeping(60);
            assert_eq!(lab.link(), LinkState::Up, "round {round}");
            let resets = lab.port.as_ref().unwrap().report().nic.unwrap().resets;
            assert_eq!(resets, round);
            // What was in the ring is lost; what comes now is whole.
            lab.arrive(&frame(99, 61), None);
            let mut burst = lab.receive();
            assert_eq!(burst.as_slice()[0].data(), frame(99, 61));
            lab.pools.free_burst(&mut burst);
        }
        lab.end();
    }
}

#[test]
fn a_device_that_does_not_answer_is_gone_until_it_does() {
    let mut lab = lab(Pf::default(), VfVlans::Untagged);
    for round in 1..=3u64 {
        lab.arrive(&frame(1, 60), None);
        lab.nic.with(|vf, _| vf.removed = true);
        lab.housekeeping(30);
        assert_eq!(lab.link(), LinkState::Gone, "round {round}");
        let before = lab.drops.get(DropReason::LinkDown);
        lab.send(&vec![frame(1, 60); 10], None);
        assert_eq!(lab.drops.get(DropReason::LinkDown), before + 10);
        let (port, mut context) = lab.port();
        assert_eq!(
            port.tx_room(&mut context),
            usize::MAX,
            "no pod waits for it"
        );
        assert!(!port.is_running());
        // As after a reset of the function.
        lab.nic.with(|vf, _| {
            vf.removed = false;
            vf.pf_reset();
            vf.pf_up();
        });
        lab.housekeeping(60);
        assert_eq!(lab.link(), LinkState::Up, "round {round}");
        lab.arrive(&frame(9, 61), None);
        let mut burst = lab.receive();
        assert_eq!(burst.as_slice()[0].data(), frame(9, 61));
        lab.pools.free_burst(&mut burst);
    }
    lab.end();
}

#[test]
fn a_ping_of_the_pf_changes_nothing() {
    let mut lab = lab(Pf::default(), VfVlans::Untagged);
    let asked = lab.nic.with(|vf, bus| {
        vf.say(0x0100 | MSG_CTS, bus);
        vf.pf.asked.len()
    });
    lab.housekeeping(5);
    assert_eq!(lab.link(), LinkState::Up);
    lab.nic.with(|vf, _| assert_eq!(vf.pf.asked.len(), asked));
    lab.end();
}

fn is_readable<D: Device>(port: &IgbVf<D>) -> bool {
    let mut readable = false;
    port.wake_fds(&mut |fd| {
        let mut fds = [PollFd::from_borrowed_fd(fd, PollFlags::IN)];
        let none = rustix::event::Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        readable |= poll(&mut fds, Some(&none)).unwrap() > 0;
    });
    readable
}

#[test]
fn a_sleeping_worker_is_woken_by_frames_and_by_the_pf() {
    for by_frame in [true, false] {
        let mut lab = lab(Pf::default(), VfVlans::Untagged);
        lab.arrive(&frame(1, 60), None);
        assert!(!is_readable(lab.port.as_ref().unwrap()), "not armed");
        assert!(!lab.port().0.arm(), "a frame is waiting already");
        lab.port().0.disarm();
        let mut burst = lab.receive();
        lab.pools.free_burst(&mut burst);
        assert!(lab.port().0.arm());
        assert!(!is_readable(lab.port.as_ref().unwrap()));
        if by_frame {
            lab.arrive(&frame(2, 60), None);
        } else {
            lab.nic.with(|vf, bus| vf.pf_down(bus));
        }
        assert!(is_readable(lab.port.as_ref().unwrap()));
        lab.end();
    }
}

#[test]
fn a_function_that_was_reset_alone_is_brought_up_anew() {
    let mut lab = lab(Pf::default(), VfVlans::Untagged);
    lab.arrive(&frame(1, 60), None);
    let mut burst = lab.receive();
    assert_eq!(burst.len(), 1);
    lab.pools.free_burst(&mut burst);
    lab.housekeeping(60);
    lab.nic.with(|vf, _| vf.function_reset());
    lab.arrive(&frame(2, 60), None);
    assert!(lab.receive().is_empty());
    lab.housekeeping(1);
    assert_eq!(lab.link(), LinkState::Waiting);
    lab.housekeeping(20);
    assert_eq!(lab.link(), LinkState::Up);
    lab.arrive(&frame(3, 60), None);
    let mut burst = lab.receive();
    assert_eq!(burst.as_slice()[0].data(), frame(3, 60));
    lab.pools.free_burst(&mut burst);
    assert_eq!(lab.send(&[frame(4, 60)], None), 1);
    assert_eq!(lab.nic.with(|vf, _| vf.wire.clone()), [frame(4, 60)]);
    // What the reset cleared is not taken for a register that went round.
    lab.housekeeping(60);
    let nic = lab.port.as_ref().unwrap().report().nic.unwrap();
    assert_eq!(nic.rx_frames, 2, "{nic:?}");
    assert_eq!(nic.resets, 1);
    lab.end();
}
