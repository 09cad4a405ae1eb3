// SPDX-License-Identifier: Apache-2.0
//! Tests of rings with accounts.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use sluice_mem::{Burst, Mbuf};
use sluice_packet::Vid;

use super::*;
use crate::frame::FrameInfo;
use crate::frame::destination::Destination;
use crate::frame::origin_tag::{Origin, OriginTag};
use crate::ids::{AttachmentId, SegmentId, UplinkId};
use crate::testing::fake_port_context::Lent;

const FLOODER: u16 = 1;

/// Frame that the pod in `slot` sends.
fn frame(lent: &mut Lent, slot: u16, bytes: usize) -> (Account, bool, Mbuf) {
    let id = AttachmentId::new(slot, 1);
    let mut mbuf = lent.pools.alloc_for(bytes).unwrap();
    assert!(mbuf.set_len(bytes));
    FrameInfo::begin(&mut mbuf, None);
    let info = FrameInfo::of_mut(&mut mbuf);
    let segment = SegmentId::new(UplinkId(0), Vid::UNTAGGED);
    info.set_origin(segment, OriginTag::new(Origin::Attachment(id), 1));
    info.set_destination(Destination::Attachment(AttachmentId::new(9, 1)));
    let large = lent.pools.is_large(&mbuf);
    (Account::of_attachment(id), large, mbuf)
}

/// Pushes as many frames as a pod has room for.
fn flood(lent: &mut Lent, sender: &mut SharedSender, slot: u16, bytes: usize) -> usize {
    let account = Account::of_attachment(AttachmentId::new(slot, 1));
    let mut pushed = 0;
    while sender.room(account, bytes > 2048) > 0 {
        let (account, large, mbuf) = frame(lent, slot, bytes);
        sender.push(account, large, true, mbuf).unwrap();
        pushed += 1;
    }
    pushed
}

fn drain(lent: &mut Lent, receiver: &mut SharedReceiver) -> usize {
    let mut taken = 0;
    loop {
        let mut burst = Burst::new();
        receiver.receive(&mut lent.pools, &mut burst, u64::MAX, |_| 0);
        if burst.is_empty() {
            return taken;
        }
        taken += burst.len();
        lent.pools.free_burst(&mut burst);
    }
}

#[test]
fn one_that_floods_gets_half_and_leaves_room_for_those_that_come_after() {
    let mut lent = Lent::new(1024);
    let (mut sender, mut receiver) = shared_ring(256, 64);
    assert_eq!(flood(&mut lent, &mut sender, FLOODER, 60), 128);
    for neighbour in 2..8 {
        let pushed = flood(&mut lent, &mut sender, neighbour, 60);
        assert!(pushed > 0, "no room for pod {neighbour}");
    }
    assert!(drain(&mut lent, &mut receiver) <= 256 + SPARSE_FRAMES);
    assert_eq!(
        flood(&mut lent, &mut sender, FLOODER, 60),
        128,
        "it is back"
    );
    drain(&mut lent, &mut receiver);
    lent.assert_all_free();
}

#[test]
fn large_mbufs_are_shared_in_the_same_way() {
    let mut lent = Lent::new(1024);
    let (mut sender, mut receiver) = shared_ring(256, 64);
    assert_eq!(flood(&mut lent, &mut sender, FLOODER, 9000), 32);
    assert_eq!(flood(&mut lent, &mut sender, 2, 9000), 16);
    let room = sender.room(Account::of_attachment(AttachmentId::new(3, 1)), false);
    assert!(room > BURST, "small frames do not suffer: {room}");
    assert_eq!(drain(&mut lent, &mut receiver), 48);
    assert_eq!(flood(&mut lent, &mut sender, FLOODER, 9000), 32);
    drain(&mut lent, &mut receiver);
    lent.assert_all_free();
}

#[test]
fn a_pod_has_room_for_two_places_a_frame() {
    let mut lent = Lent::new(1024);
    let (mut sender, mut receiver) = shared_ring(256, 64);
    let flooder = Account::of_attachment(AttachmentId::new(FLOODER, 1));
    for used in 0..=64 {
        let (room, large) = (sender.room(flooder, false), sender.room(flooder, true));
        assert!(2 * room <= 256 - used, "{room} with {used} taken");
        assert!(
            2 * large <= 64 - used,
            "{large} large ones with {used} taken"
        );
        let (account, is_large, mbuf) = frame(&mut lent, 2, 9000);
        sender.push(account, is_large, true, mbuf).unwrap();
    }
    drain(&mut lent, &mut receiver);
    lent.assert_all_free();
}

#[test]
fn a_ring_that_is_not_crowded_has_room_for_a_burst_of_anybody() {
    let mut lent = Lent::new(1024);
    let (mut sender, mut receiver) = shared_ring(256, 256);
    for _ in 0..1000 {
        let (account, large, mbuf) = frame(&mut lent, FLOODER, 60);
        if !sender.is_crowded() {
            assert!(sender.room(account, true) >= BURST);
        } else {
            drain(&mut lent, &mut receiver);
        }
        sender.push(account, large, true, mbuf).unwrap();
        assert!(sender.may_be_crowded() || !sender.is_crowded());
    }
    drain(&mut lent, &mut receiver);
    lent.assert_all_free();
}

#[test]
fn what_cannot_be_held_back_is_refused_over_its_share() {
    let mut lent = Lent::new(1024);
    let (mut sender, mut receiver) = shared_ring(64, 64);
    let mut pushed = 0;
    loop {
        let (account, large, mbuf) = frame(&mut lent, FLOODER, 60);
        match sender.push_within_share(account, large, true, mbuf) {
            Ok(()) => pushed += 1,
            Err(mbuf) => {
                lent.pools.free(mbuf);
                break;
            }
        }
    }
    assert_eq!(pushed, 32);
    let (account, large, mbuf) = frame(&mut lent, 2, 60);
    sender
        .push_within_share(account, large, true, mbuf)
        .unwrap();
    assert_eq!(drain(&mut lent, &mut receiver), 33);
    lent.assert_all_free();
}

#[test]
fn accounts_of_attachments_and_uplinks_are_different_ones() {
    let last = Account::of_attachment(AttachmentId::new(4095, 7));
    let first = Account::of_uplink(UplinkId(0));
    assert_ne!(last, first);
    assert_eq!(last.index() + 1, first.index());
    assert_eq!(
        Account::of_uplink(UplinkId(255)).index(),
        ACCOUNTS - 1,
        "every uplink has one"
    );
}

/// Takes one burst. Returns the slots of the pods whose frames are in it, in order.
fn visit(lent: &mut Lent, receiver: &mut SharedReceiver) -> Vec<usize> {
    let mut burst = Burst::new();
    receiver.receive(&mut lent.pools, &mut burst, u64::MAX, |_| 0);
    let slot = |mbuf| match FrameInfo::of(mbuf).origin() {
        Origin::Attachment(id) => id.slot(),
        Origin::Uplink(_) => panic!("no pod's"),
    };
    let slots = burst.iter().map(slot).collect();
    lent.pools.free_burst(&mut burst);
    slots
}

#[test]
fn a_frame_of_one_that_sends_little_passes_those_of_one_that_floods() {
    let mut lent = Lent::new(1024);
    let (mut sender, mut receiver) = shared_ring(256, 64);
    flood(&mut lent, &mut sender, FLOODER, 60);
    for _ in 0..3 {
        flood(&mut lent, &mut sender, FLOODER, 60);
        let (account, large, mbuf) = frame(&mut lent, 2, 60);
        sender.push(account, large, true, mbuf).unwrap();
        let slots = visit(&mut lent, &mut receiver);
        assert_eq!(slots.len(), BURST);
        assert_eq!(slots.iter().position(|&slot| slot == 2), Some(0));
    }
    drain(&mut lent, &mut receiver);
    lent.assert_all_free();
}

#[test]
fn many_that_send_little_leave_half_of_each_visit_to_the_others() {
    let mut lent = Lent::new(1024);
    let (mut sender, mut receiver) = shared_ring(512, 64);
    flood(&mut lent, &mut sender, FLOODER, 60);
    for round in 0..3 {
        for slot in 2..40 {
            for _ in 0..4 {
                let (account, large, mbuf) = frame(&mut lent, slot, 60);
                if let Err(mbuf) = sender.push(account, large, true, mbuf) {
                    lent.pools.free(mbuf);
                }
            }
        }
        let slots = visit(&mut lent, &mut receiver);
        let flooders = slots.iter().filter(|&&slot| slot == FLOODER.into()).count();
        assert!(flooders >= BURST / 2, "visit {round}: {flooders}");
    }
    drain(&mut lent, &mut receiver);
    lent.assert_all_free();
}

#[test]
fn a_flooded_frame_waits_in_the_queue() {
    let mut lent = Lent::new(1024);
    let (mut sender, mut receiver) = shared_ring(256, 64);
    flood(&mut lent, &mut sender, FLOODER, 60);
    let (account, large, mbuf) = frame(&mut lent, 2, 60);
    sender.push(account, large, false, mbuf).unwrap();
    assert!(!visit(&mut lent, &mut receiver).contains(&2));
    drain(&mut lent, &mut receiver);
    lent.assert_all_free();
}

/// Number of a frame, in its data.
fn number_of(mbuf: &Mbuf) -> u32 {
    u32::from_le_bytes(mbuf.data()[..4].try_into().unwrap())
}

#[test]
fn frames_of_an_account_stay_in_order_through_both_queues() {
    const FRAMES: u32 = 200_000;
    let mut lent = Lent::new(2048);
    let (mut sender, mut receiver) = shared_ring(256, 64);
    let mut pools = lent.more_pools();
    let receiving = std::thread::spawn(move || {
        let mut next = [0; 4];
        let mut received = 0;
        while received < FRAMES {
            let mut burst = Burst::new();
            receiver.receive(&mut pools, &mut burst, u64::MAX, |_| 0);
            for mbuf in burst.iter() {
                let Origin::Attachment(id) = FrameInfo::of(mbuf).origin() else {
                    panic!("no pod's");
                };
                assert_eq!(number_of(mbuf), next[id.slot()], "pod {}", id.slot());
                next[id.slot()] += 1;
                received += 1;
            }
            if burst.is_empty() {
                std::thread::yield_now();
            }
            pools.free_burst(&mut burst);
        }
        pools
    });
    let (mut sent, mut numbers) = (0, [0_u32; 4]);
    while sent < FRAMES {
        // One floods; three send now and then.
        let slot = match sent % 500 {
            turn @ 1..=3 => turn,
            _ => 0,
        };
        let index = slot as usize;
        let (account, large, mut mbuf) = frame(&mut lent, u16::try_from(slot).unwrap(), 60);
        mbuf.data_mut()[..4].copy_from_slice(&numbers[index].to_le_bytes());
        while let Err(back) = sender.push(account, large, true, mbuf) {
            mbuf = back;
            std::thread::yield_now();
        }
        numbers[index] += 1;
        sent += 1;
    }
    drop(receiving.join().unwrap());
    let passed = |slot| sender.passed(Account::of_attachment(AttachmentId::new(slot, 1)));
    assert!(
        (1..4).any(|slot| passed(slot) > 0),
        "the other queue was used"
    );
    lent.assert_all_free();
}
