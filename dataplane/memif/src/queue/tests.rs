// SPDX-License-Identifier: Apache-2.0
//! Violations in rings, tried on all four kinds of queue. The tests play the peer, over the same
//! memory.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::os::fd::OwnedFd;
use std::sync::Arc;

use proptest::prelude::*;
use rustix::event::{EventfdFlags, eventfd};
use sluice_mem::SharedRegion;

use super::*;
use crate::Fault;
use crate::layout::{Descriptor, Direction, FLAG_NEXT, RingSpec, ring_bytes};
use sluice_peer::{FrameList, Kicker};

const LOG2: u8 = 4;
const SIZE: u16 = 1 << LOG2;
const CAPACITY: u32 = 2048;
/// Rings at the front, both within this.
const BUFFERS: u32 = 4096;
const BYTES: u32 = BUFFERS + 2 * CAPACITY * SIZE as u32;

const OWN: OwnBuffers = OwnBuffers {
    first: BUFFERS,
    stride: CAPACITY,
    capacity: CAPACITY,
};

/// Ring and the region it is in; `ring` is the peer's view.
struct Rig {
    region: SharedRegion,
    ring: Ring,
    kicker: Kicker,
}

fn event() -> OwnedFd {
    eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).unwrap()
}

impl Rig {
    fn new() -> Rig {
        let (region, _fd) = SharedRegion::create_sealed("test", BYTES as usize).unwrap();
        let ring = Rig::ring(&region);
        ring.format(false).unwrap();
        Rig {
            region,
            ring,
            kicker: Kicker::spawn("memif-kick", vec![Some(event())]).unwrap(),
        }
    }

    fn ring(region: &SharedRegion) -> Ring {
        let direction = Direction::ClientToServer;
        assert!(ring_bytes(LOG2) < u64::from(BUFFERS));
        Ring::new(
            region.clone(),
            &RingSpec {
                direction,
                index: 0,
                region: 0,
                offset: 0,
                log2: LOG2,
            },
        )
        .unwrap()
    }

    fn regions(&self) -> Arc<[SharedRegion]> {
        [self.region.clone()].into()
    }

    fn server_rx(&self) -> RxQueue {
        let buffers = RxBuffers::Peer(self.regions());
        RxQueue::new(Rig::ring(&self.region), buffers, event(), false).unwrap()
    }

    fn client_rx(&self) -> RxQueue {
        let buffers = RxBuffers::Own(self.region.clone(), OWN);
        RxQueue::new(Rig::ring(&self.region), buffers, event(), false).unwrap()
    }

    fn server_tx(&self) -> TxQueue {
        let buffers = TxBuffers::Peer(self.regions());
        TxQueue::new(
            Rig::ring(&self.region),
            buffers,
            self.kicker.kick(0).unwrap(),
        )
        .unwrap()
    }

    fn client_tx(&self) -> TxQueue {
        let buffers = TxBuffers::Own(self.region.clone(), OWN);
        TxQueue::new(
            Rig::ring(&self.region),
            buffers,
            self.kicker.kick(0).unwrap(),
        )
        .unwrap()
    }

    /// The peer writes a descriptor.
    fn write(&self, slot: u16, flags: u16, region: u16, offset: u32, length: u32) {
        self.ring.write(
            slot % SIZE,
            Descriptor {
                flags,
                region,
                length,
                offset,
            },
        );
    }

    /// Good descriptors all round, each with its own buffer.
    fn fill(&self, length: u32) {
        for slot in 0..SIZE {
            self.write(slot, 0, 0, OWN.offset(slot), length);
        }
    }
}

fn recv(queue: &mut RxQueue) -> Result<usize, Fault> {
    queue.recv(64, &mut FrameList::default())
}

#[test]
fn an_index_that_jumps_is_a_fault() {
    for head in [SIZE + 1, 1000, u16::MAX] {
        let jumped = Err(Fault::IndexJump {
            ahead: head,
            allowed: SIZE,
        });
        let rig = Rig::new();
        rig.fill(64);
        rig.ring.publish_head(head).unwrap();
        assert_eq!(recv(&mut rig.server_rx()), jumped);
        assert_eq!(rig.server_rx().pending().map(|_| 0), jumped);
        assert_eq!(rig.server_tx().push(&[&[0; 64]]).map(|_| 0), jumped);
        let mut client = rig.client_rx();
        rig.ring.publish_tail(head).unwrap();
        assert_eq!(recv(&mut client), jumped);
        // The server is through with more than we sent.
        let mut sender = rig.client_tx();
        rig.ring.publish_tail(head).unwrap();
        let wrong = sender.room().unwrap_err();
        assert!(
            matches!(wrong, Fault::IndexJump { .. } | Fault::IndexBack { .. }),
            "{wrong}"
        );
    }
}

#[test]
fn an_index_that_goes_back_is_a_fault() {
    let rig = Rig::new();
    rig.fill(64);
    let mut queue = rig.server_rx();
    rig.ring.publish_head(8).unwrap();
    assert_eq!(queue.recv(4, &mut FrameList::default()), Ok(4));
    assert_eq!(queue.pending(), Ok(4));
    rig.ring.publish_head(7).unwrap();
    assert_eq!(
        recv(&mut queue),
        Err(Fault::IndexBack { now: 3, before: 4 })
    );

    let mut queue = rig.server_tx();
    rig.ring.publish_head(8).unwrap();
    assert_eq!(queue.room(), Ok(8));
    rig.ring.publish_head(0).unwrap();
    assert_eq!(queue.room(), Err(Fault::IndexBack { now: 0, before: 8 }));

    let rig = Rig::new();
    let mut queue = rig.client_tx();
    assert_eq!(queue.push(&[&[0; 64]]), Ok(true));
    assert_eq!(queue.publish(), Ok(true));
    rig.ring.publish_tail(1).unwrap();
    assert_eq!(queue.room(), Ok(16));
    rig.ring.publish_tail(0).unwrap();
    assert_eq!(
        queue.room(),
        Err(Fault::IndexBack {
            now: 15,
            before: 16
        })
    );
}

#[test]
fn wild_descriptors_of_a_sending_client_are_faults() {
    let fault = |region, offset, length| {
        let rig = Rig::new();
        rig.write(0, 0, region, offset, length);
        rig.ring.publish_head(1).unwrap();
        recv(&mut rig.server_rx()).unwrap_err()
    };
    assert_eq!(fault(1, BUFFERS, 64), Fault::Region(1));
    assert_eq!(fault(200, 0, 64), Fault::Region(200));
    let outside = |offset, length| {
        assert_eq!(fault(0, offset, length), Fault::Range { offset, length });
    };
    outside(BYTES, 1);
    outside(BYTES - 63, 64);
    outside(u32::MAX, 64);
    outside(u32::MAX, u32::MAX);
    outside(BUFFERS, BYTES);
    outside(1, BYTES);
    assert_eq!(fault(0, 0, BYTES), Fault::LongPacket(BYTES));
}

#[test]
fn packets_longer_than_any_are_faults() {
    let (region, _fd) = SharedRegion::create_sealed("test", 1 << 20).unwrap();
    let rig = Rig {
        region: region.clone(),
        ring: Rig::ring(&region),
        ..Rig::new()
    };
    rig.write(0, 0, 0, 0, 65_536);
    rig.ring.publish_head(1).unwrap();
    assert_eq!(recv(&mut rig.server_rx()), Err(Fault::LongPacket(65_536)));
    rig.write(0, FLAG_NEXT, 0, 0, 40_000);
    rig.write(1, 0, 0, 0, 40_000);
    rig.ring.publish_head(2).unwrap();
    assert_eq!(recv(&mut rig.server_rx()), Err(Fault::LongPacket(80_000)));
    rig.write(1, 0, 0, 0, 25_535);
    let mut frames = FrameList::default();
    assert_eq!(rig.server_rx().recv(64, &mut frames), Ok(1));
    assert_eq!(frames.pop().unwrap().len(), 65_535);
}

#[test]
fn chains_without_end_are_faults() {
    let rig = Rig::new();
    for slot in 0..SIZE {
        rig.write(slot, FLAG_NEXT, 0, BUFFERS, 1);
    }
    for published in [1, 5, SIZE] {
        rig.ring.publish_head(published).unwrap();
        assert_eq!(recv(&mut rig.server_rx()), Err(Fault::OpenChain));
    }
    // Also behind good packets.
    rig.write(0, 0, 0, BUFFERS, 1);
    assert_eq!(recv(&mut rig.server_rx()), Err(Fault::OpenChain));
    // But not looked at before it is due.
    assert_eq!(rig.server_rx().recv(1, &mut FrameList::default()), Ok(1));

    // In a ring longer than any chain.
    let (region, _fd) = SharedRegion::create_sealed("test", 1 << 16).unwrap();
    let spec = RingSpec {
        direction: Direction::ClientToServer,
        index: 0,
        region: 0,
        offset: 0,
        log2: 8,
    };
    let ring = Ring::new(region.clone(), &spec).unwrap();
    for slot in 0..256 {
        let flags = if slot == 63 { 0 } else { FLAG_NEXT };
        ring.write(
            slot,
            Descriptor {
                flags,
                region: 0,
                length: 1,
                offset: 0,
            },
        );
    }
    ring.publish_head(256).unwrap();
    let buffers = RxBuffers::Peer([region].into());
    let mut queue = RxQueue::new(ring, buffers, event(), false).unwrap();
    let mut frames = FrameList::default();
    assert_eq!(
        queue.recv(1, &mut frames),
        Ok(1),
        "64 descriptors are no too long a chain"
    );
    assert_eq!(frames.pop().unwrap().len(), 64);
    assert_eq!(recv(&mut queue), Err(Fault::LongChain));
}

#[test]
fn a_full_burst_of_the_longest_chains_is_taken_in_turns() {
    let (region, _fd) = SharedRegion::create_sealed("test", 1 << 16).unwrap();
    let spec = RingSpec {
        direction: Direction::ClientToServer,
        index: 0,
        region: 0,
        offset: 0,
        log2: 10,
    };
    let ring = Ring::new(region.clone(), &spec).unwrap();
    for slot in 0..1024 {
        let flags = if slot % 60 == 59 || slot == 1023 {
            0
        } else {
            FLAG_NEXT
        };
        ring.write(
            slot,
            Descriptor {
                flags,
                region: 0,
                length: 10,
                offset: 0,
            },
        );
    }
    ring.publish_head(1024).unwrap();
    let buffers = RxBuffers::Peer([region].into());
    let mut queue = RxQueue::new(ring, buffers, event(), false).unwrap();
    let mut frames = FrameList::default();
    let mut taken = 0;
    while queue.pending().unwrap() > 0 {
        let packets = queue.recv(64, &mut frames).unwrap();
        assert!(packets > 0);
        taken += packets;
    }
    assert_eq!(taken, 18);
    assert_eq!(frames.len(), 18);
}

#[test]
fn empty_packets_are_dropped_and_counted() {
    let rig = Rig::new();
    rig.fill(64);
    rig.write(1, 0, 0, BUFFERS, 0);
    rig.write(2, FLAG_NEXT, 0, BYTES, 0);
    rig.write(3, 0, 0, BYTES, 0);
    rig.ring.publish_head(5).unwrap();
    let mut queue = rig.server_rx();
    let mut frames = FrameList::default();
    assert_eq!(queue.recv(64, &mut frames), Ok(4));
    assert_eq!(
        (
            frames.len(),
            queue.counters().packets,
            queue.counters().empty
        ),
        (2, 2, 2)
    );
}

#[test]
fn a_server_may_move_data_within_its_buffer_only() {
    let recv = |region, offset, length| {
        let rig = Rig::new();
        let mut queue = rig.client_rx();
        rig.write(0, 0, region, offset, length);
        rig.ring.publish_tail(1).unwrap();
        recv(&mut queue)
    };
    assert_eq!(recv(0, BUFFERS, CAPACITY), Ok(1));
    assert_eq!(recv(0, BUFFERS + 128, CAPACITY - 128), Ok(1));
    assert_eq!(recv(1, BUFFERS, 64), Err(Fault::Region(1)));
    let outside = |offset, length| {
        assert_eq!(
            recv(0, offset, length),
            Err(Fault::Range { offset, length })
        );
    };
    outside(BUFFERS, CAPACITY + 1);
    outside(BUFFERS + 128, CAPACITY - 127);
    outside(BUFFERS - 1, 64);
    outside(BUFFERS + CAPACITY, 64);
    outside(0, 64);
    outside(u32::MAX, 64);
    outside(BUFFERS, u32::MAX);
}

#[test]
fn a_client_posts_the_same_buffers_again_whatever_the_server_wrote() {
    let rig = Rig::new();
    let mut queue = rig.client_rx();
    assert_eq!(rig.ring.peer_head(), Ok(SIZE));
    for n in 0..100_u16 {
        let slot = n % SIZE;
        rig.write(slot, 0, 0, OWN.offset(slot) + 100, 10);
        rig.ring.publish_tail(n + 1).unwrap();
        assert_eq!(recv(&mut queue), Ok(1));
        assert_eq!(rig.ring.peer_head(), Ok(SIZE + n + 1));
        let posted = rig.ring.read(slot);
        let fresh = Descriptor {
            flags: 0,
            region: 0,
            length: CAPACITY,
            offset: OWN.offset(slot),
        };
        assert_eq!(posted, fresh);
    }
}

#[test]
fn buffers_are_checked_before_they_are_written() {
    let push = |region, offset, length| {
        let rig = Rig::new();
        rig.write(0, 0, region, offset, length);
        rig.ring.publish_head(1).unwrap();
        rig.server_tx().push(&[&[7; 64]])
    };
    assert_eq!(push(0, BUFFERS, CAPACITY), Ok(true));
    assert_eq!(push(9, BUFFERS, CAPACITY), Err(Fault::Region(9)));
    let outside = |offset, length| {
        assert_eq!(
            push(0, offset, length),
            Err(Fault::Range { offset, length })
        );
    };
    outside(BYTES - 10, 64);
    outside(u32::MAX, 64);
    outside(u32::MAX, u32::MAX);
    // Too small for the frame, and there is no other.
    assert_eq!(push(0, BUFFERS, 63), Ok(false));
    assert_eq!(push(0, BYTES - 10, 10), Ok(false));

    // The second of a chain.
    let rig = Rig::new();
    rig.fill(40);
    rig.write(1, 0, 0, BYTES - 10, 40);
    rig.ring.publish_head(2).unwrap();
    let wild = Fault::Range {
        offset: BYTES - 10,
        length: 40,
    };
    assert_eq!(rig.server_tx().push(&[&[7; 64]]), Err(wild));
}

#[test]
fn a_frame_for_which_there_are_never_buffers_enough_is_dropped() {
    let rig = Rig::new();
    rig.fill(3);
    rig.ring.publish_head(SIZE).unwrap();
    let mut queue = rig.server_tx();
    assert_eq!(queue.push(&[&[7; 64]]), Ok(true));
    assert_eq!((queue.counters().unfit, queue.counters().packets), (1, 0));
    assert_eq!(queue.publish(), Ok(false));
    rig.fill(0);
    assert_eq!(queue.push(&[&[7; 64]]), Ok(true));
    assert_eq!(queue.counters().unfit, 2);
    rig.fill(4);
    assert_eq!(queue.push(&[&[7; 64]]), Ok(true));
    assert_eq!(queue.counters().packets, 1);
}

#[test]
fn a_kick_is_asked_for_only_by_a_consumer_that_wants_it() {
    let rig = Rig::new();
    rig.fill(CAPACITY);
    rig.ring.publish_head(2).unwrap();
    let mut queue = rig.server_tx();
    rig.ring.set_masked(true).unwrap();
    assert_eq!(queue.push(&[&[7; 64]]), Ok(true));
    assert_eq!(queue.publish(), Ok(false));
    rig.ring.set_masked(false).unwrap();
    assert_eq!(queue.publish(), Ok(false), "nothing new");
    assert_eq!(queue.push(&[&[7; 64]]), Ok(true));
    assert_eq!(queue.publish(), Ok(true));
}

fn any_descriptor() -> impl Strategy<Value = (u16, u16, u32, u32)> {
    let offset = prop_oneof![4 => BUFFERS..BYTES, 1 => any::<u32>()];
    let length = prop_oneof![4 => 0..3000_u32, 1 => any::<u32>()];
    (
        0..4_u16,
        prop_oneof![8 => Just(0_u16), 1 => any::<u16>()],
        offset,
        length,
    )
}

proptest! {
    /// A queue takes at most what is there, or finds a fault, whatever is in the memory.
    #[test]
    fn random_rings_never_panic(
        descriptors in prop::collection::vec(any_descriptor(), usize::from(SIZE)),
        indices in prop::collection::vec(prop_oneof![4 => 0..40_u16, 1 => any::<u16>()], 1..20),
    ) {
        let rig = Rig::new();
        let mut queues = (rig.server_rx(), rig.client_rx(), rig.server_tx(), rig.client_tx());
        let mut alive = [true; 4];
        for index in indices {
            for (slot, &(flags, region, offset, length)) in (0..).zip(&descriptors) {
                rig.write(slot, flags, region, offset, length);
            }
            rig.ring.publish_head(index).unwrap();
            rig.ring.publish_tail(index).unwrap();
            let mut frames = FrameList::default();
            if alive[0] {
                let result = queues.0.recv(64, &mut frames);
                prop_assert!(frames.len() <= usize::from(SIZE));
                alive[0] = result.is_ok();
            }
            rig.ring.publish_tail(index).unwrap();
            let mut frames = FrameList::default();
            if alive[1] {
                alive[1] = queues.1.recv(64, &mut frames).is_ok();
                prop_assert!(frames.len() <= usize::from(SIZE));
            }
            let frame = [0x55; 3000];
            if alive[2] {
                alive[2] = queues.2.push(&[&frame[..100], &frame]).and_then(|_| queues.2.publish()).is_ok();
            }
            rig.ring.publish_tail(index).unwrap();
            if alive[3] {
                alive[3] = queues.3.push(&[&frame]).and_then(|_| queues.3.publish()).is_ok();
            }
        }
    }
}
