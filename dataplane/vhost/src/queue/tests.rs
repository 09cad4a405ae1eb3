// SPDX-License-Identifier: Apache-2.0
//! Queues against a driver in the same process: honest, and hostile in every way that there is.

use std::os::fd::AsFd;

use proptest::prelude::*;
use rustix::event::{EventfdFlags, eventfd};
use sluice_peer::{FrameList, Kicker};

use super::ring::{INDIRECT, NEXT, WRITE};
use super::*;
use crate::fault::{Direction, Fault};
use crate::memory::{Memory, MemoryTable};
use crate::testing::{DriverRing, GUEST, GuestMemory};

const BYTES: usize = 4 << 20;
/// Buffers begin here.
const BUFFERS: u64 = 1 << 20;
const HEADER: usize = 12;

struct Rig {
    guest: GuestMemory,
    memory: Memory,
    driver: DriverRing,
    kicker: Kicker,
    call: std::os::fd::OwnedFd,
}

impl Rig {
    fn new(size: u16) -> Rig {
        let guest = GuestMemory::new(BYTES);
        let mut table = MemoryTable::new(BYTES as u64);
        let fd = guest.as_fd().try_clone_to_owned().unwrap();
        table.add(guest.spec(), fd).unwrap();
        let driver = DriverRing::new(guest.region().clone(), 0, size);
        let call = eventfd(0, EventfdFlags::NONBLOCK).unwrap();
        let kicker = Kicker::spawn("test-kick", vec![Some(call.try_clone().unwrap())]).unwrap();
        Rig {
            memory: table.memory(),
            guest,
            driver,
            kicker,
            call,
        }
    }

    fn ring(&self) -> Ring {
        let parts = Parts {
            log2: u8::try_from(self.driver.size().ilog2()).unwrap(),
            addresses: self.driver.addresses(0),
        };
        Ring::new(&self.memory, &parts).unwrap()
    }

    fn rx(&self) -> RxQueue {
        let kick = self.kicker.kick(0).unwrap();
        RxQueue::new(self.ring(), self.memory.clone(), None, kick, HEADER).unwrap()
    }

    fn tx(&self, merge: bool) -> TxQueue {
        let kick = self.kicker.kick(0).unwrap();
        TxQueue::new(self.ring(), self.memory.clone(), kick, HEADER, merge).unwrap()
    }

    fn address(&self, number: u16) -> u64 {
        GUEST + BUFFERS + 4096 * u64::from(number)
    }

    fn write(&self, number: u16, at: usize, bytes: &[u8]) {
        let start = BUFFERS as usize + 4096 * usize::from(number) + at;
        self.guest.region().copy_out(start, bytes).unwrap();
    }

    fn read(&self, number: u16, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        let start = BUFFERS as usize + 4096 * usize::from(number);
        self.guest.region().copy_in(start, &mut bytes).unwrap();
        bytes
    }

    /// Offers one buffer to be read: a header of zeros, and the frame.
    fn offer(&mut self, number: u16, frame: &[u8]) {
        let bytes = [&[0; HEADER][..], frame].concat();
        self.write(number, 0, &bytes);
        let len = u32::try_from(bytes.len()).unwrap();
        self.driver
            .describe(number, self.address(number), len, 0, 0);
        self.driver.offer(number);
    }

    fn used(&mut self) -> Vec<(u16, u32)> {
        std::iter::from_fn(|| self.driver.used()).collect()
    }
}

fn receive(queue: &mut RxQueue) -> Result<Vec<Vec<u8>>, Fault> {
    let mut list = FrameList::default();
    while queue.recv(64, &mut list)? > 0 {}
    Ok(std::iter::from_fn(|| list.pop()).collect())
}

fn frame(number: u16, len: usize) -> Vec<u8> {
    let [low, high] = number.to_le_bytes();
    (0..len)
        .map(|at| match at {
            0 => low,
            1 => high,
            at => u8::try_from(at % 251).unwrap(),
        })
        .collect()
}

#[test]
fn frames_come_in_order_around_the_ring() {
    let mut rig = Rig::new(64);
    let mut queue = rig.rx();
    for turn in 0..20_u16 {
        let sent: Vec<_> = (0..50)
            .map(|n| frame(turn * 50 + n, 60 + usize::from(n) * 29))
            .collect();
        for (n, frame) in (0..).zip(&sent) {
            rig.offer(n, frame);
        }
        rig.driver.publish();
        assert_eq!(queue.pending(), Ok(50));
        assert_eq!(receive(&mut queue).unwrap(), sent);
        let heads: Vec<_> = (0..50).map(|n| (n, 0)).collect();
        assert_eq!(rig.used(), heads, "given back in order, nothing written");
    }
    assert_eq!(queue.counters().frames, 1000);
}

#[test]
fn a_frame_may_lie_in_many_pieces_and_its_header_too() {
    let mut rig = Rig::new(64);
    let mut queue = rig.rx();
    let whole = [&[0; HEADER][..], &frame(1, 100)].concat();
    // Pieces of one byte, of none, and of many.
    let cuts = [1, 2, 0, 8, 5, 0, 60, 36];
    let mut start = 0;
    for (n, len) in (0..).zip(cuts) {
        rig.write(n, 0, &whole[start..start + len]);
        let flags = if n == 7 { 0 } else { NEXT };
        let len = u32::try_from(len).unwrap();
        rig.driver.describe(n, rig.address(n), len, flags, n + 1);
        start += len as usize;
    }
    assert_eq!(start, whole.len());
    rig.driver.offer(0);
    rig.driver.publish();
    assert_eq!(receive(&mut queue).unwrap(), [frame(1, 100)]);
    assert_eq!(rig.used(), [(0, 0)]);
}

/// Writes an indirect table at buffer `number`, and descriptor 0 that names it.
fn indirect(rig: &Rig, number: u16, table: &[(u64, u32, u16, u16)]) {
    for (at, (address, len, flags, next)) in (0..).zip(table) {
        let bytes = DriverRing::descriptor(*address, *len, *flags, *next);
        rig.write(number, 16 * at, &bytes);
    }
    let len = 16 * u32::try_from(table.len()).unwrap();
    rig.driver
        .describe(0, rig.address(number), len, INDIRECT, 0);
}

#[test]
fn a_frame_may_be_named_by_an_indirect_table() {
    let mut rig = Rig::new(64);
    let mut queue = rig.rx();
    rig.write(1, 0, &[0; HEADER]);
    rig.write(2, 0, &frame(7, 300));
    let table = [
        (rig.address(1), 12, NEXT, 2),
        (0, 0, 0, 0),
        (rig.address(2), 300, 0, 0),
    ];
    indirect(&rig, 3, &table);
    rig.driver.offer(0);
    rig.driver.publish();
    assert_eq!(receive(&mut queue).unwrap(), [frame(7, 300)]);
}

#[test]
fn plain_and_chained_frames_of_one_burst_keep_their_order() {
    let mut rig = Rig::new(64);
    let mut queue = rig.rx();
    rig.offer(0, &frame(0, 60));
    rig.write(10, 0, &[0; HEADER]);
    rig.write(11, 0, &frame(1, 99));
    rig.driver.describe(10, rig.address(10), 12, NEXT, 11);
    rig.driver.describe(11, rig.address(11), 99, 0, 0);
    rig.driver.offer(10);
    rig.offer(1, &frame(2, 70));
    rig.driver.publish();
    let expected = [frame(0, 60), frame(1, 99), frame(2, 70)];
    assert_eq!(receive(&mut queue).unwrap(), expected);
    assert_eq!(rig.used(), [(0, 0), (10, 0), (1, 0)]);
}

#[test]
fn frames_that_ask_for_offloads_and_empty_ones_are_dropped_and_counted() {
    let mut rig = Rig::new(64);
    let mut queue = rig.rx();
    rig.offer(0, &frame(0, 60));
    rig.offer(1, &frame(1, 60));
    rig.write(1, 0, &[1]);
    rig.offer(2, &frame(2, 60));
    rig.write(2, 1, &[3]);
    rig.offer(3, &[]);
    rig.driver.describe(4, rig.address(4), 5, 0, 0);
    rig.driver.offer(4);
    rig.offer(5, &frame(5, 60));
    rig.driver.publish();
    let expected = [frame(0, 60), frame(5, 60)];
    assert_eq!(receive(&mut queue).unwrap(), expected);
    let counters = queue.counters();
    assert_eq!((counters.offload, counters.empty), (2, 2));
    assert_eq!(rig.used().len(), 6, "their buffers are given back");
}

#[test]
fn an_interrupt_comes_only_if_it_is_wanted() {
    let mut rig = Rig::new(64);
    let mut queue = rig.rx();
    let interrupted = |rig: &Rig| {
        let mut count = [0; 8];
        let woken = || rustix::io::read(&rig.call, &mut count).is_ok();
        std::iter::repeat_with(woken)
            .take(50)
            .inspect(|woken| {
                if !woken {
                    std::thread::sleep(std::time::Duration::from_millis(1));
                }
            })
            .any(|woken| woken)
    };
    rig.driver.set_interrupts(false);
    rig.offer(0, &frame(0, 60));
    rig.driver.publish();
    receive(&mut queue).unwrap();
    assert!(!interrupted(&rig));
    rig.driver.set_interrupts(true);
    rig.offer(1, &frame(0, 60));
    rig.driver.publish();
    receive(&mut queue).unwrap();
    assert!(interrupted(&rig));
    let mut queue = rig.tx(true);
    rig.driver.describe(0, rig.address(0), 2048, WRITE, 0);
    rig.driver.offer(0);
    rig.driver.publish();
    assert!(queue.push(&[&frame(0, 60)]).unwrap());
    assert!(queue.publish().unwrap());
    assert!(!queue.publish().unwrap(), "nothing new");
}

#[test]
fn kicks_are_wanted_only_while_somebody_sleeps() {
    let mut rig = Rig::new(64);
    let mut queue = rig.rx();
    rig.offer(0, &frame(0, 60));
    assert!(!rig.driver.publish());
    queue.set_kicks(true).unwrap();
    rig.offer(1, &frame(0, 60));
    assert!(rig.driver.publish());
    queue.set_kicks(false).unwrap();
    rig.offer(2, &frame(0, 60));
    assert!(!rig.driver.publish());
    assert_eq!(queue.pending(), Ok(3));
}

#[test]
fn a_ring_goes_on_where_it_stopped() {
    let mut rig = Rig::new(64);
    rig.driver.begin_at(65_500);
    let mut queue = rig.rx();
    for turn in 0..10 {
        for n in 0..20 {
            rig.offer(n, &frame(turn * 20 + n, 80));
        }
        rig.driver.publish();
        assert_eq!(receive(&mut queue).unwrap().len(), 20);
        // The next one takes over from the used index.
        queue = rig.rx();
    }
    assert_eq!(rig.used().len(), 200);
}

#[test]
fn frames_are_sent_to_single_merged_and_chained_buffers() {
    for merge in [false, true] {
        let mut rig = Rig::new(64);
        let mut queue = rig.tx(merge);
        // One of one piece, one of header and rest, one by an indirect table.
        rig.driver.describe(1, rig.address(1), 2048, WRITE, 0);
        rig.driver.offer(1);
        rig.driver.describe(2, rig.address(2), 12, WRITE | NEXT, 3);
        rig.driver.describe(3, rig.address(3), 2048, WRITE, 0);
        rig.driver.offer(2);
        let table = [
            (rig.address(4), 5, WRITE | NEXT, 1),
            (rig.address(5), 2048, WRITE, 0),
        ];
        indirect(&rig, 6, &table);
        rig.driver.offer(0);
        rig.driver.publish();
        queue.prepare().unwrap();
        for n in 0..3 {
            assert!(queue.push(&[&frame(n, 100), &[9; 10]]).unwrap());
        }
        assert!(rig.driver.used().is_none(), "not before it is published");
        queue.publish().unwrap();
        assert_eq!(rig.used(), [(1, 122), (2, 122), (0, 122)]);
        let header = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0];
        let body = |n| [&frame(n, 100)[..], &[9; 10]].concat();
        assert_eq!(rig.read(1, 122), [&header[..], &body(0)].concat());
        assert_eq!(rig.read(2, 12), header);
        assert_eq!(rig.read(3, 110), body(1));
        assert_eq!(rig.read(4, 5), header[..5]);
        assert_eq!(rig.read(5, 117), [&header[5..], &body(2)].concat());
    }
}

#[test]
fn a_long_frame_takes_several_buffers_if_they_may_be_merged() {
    let mut rig = Rig::new(64);
    let mut queue = rig.tx(true);
    for n in 0..4 {
        rig.driver.describe(n, rig.address(n), 512, WRITE, 0);
        rig.driver.offer(n);
    }
    rig.driver.publish();
    queue.prepare().unwrap();
    let long = frame(3, 1500);
    assert!(queue.push(&[&long]).unwrap());
    assert!(queue.push(&[&frame(4, 60)]).unwrap());
    assert!(!queue.push(&[&frame(5, 60)]).unwrap(), "no buffer is left");
    queue.publish().unwrap();
    assert_eq!(rig.used(), [(0, 512), (1, 512), (2, 488), (3, 72)]);
    let whole: Vec<u8> = (0..3).flat_map(|n| rig.read(n, 512)).collect();
    assert_eq!(whole[10..12], [3, 0], "buffers of the frame");
    assert_eq!(whole[12..1512], long);
    assert_eq!(rig.read(3, 12)[10..], [1, 0]);
    assert_eq!(queue.counters().full, 1);
}

#[test]
fn a_frame_that_can_never_fit_is_dropped_and_counted() {
    let mut rig = Rig::new(16);
    let mut queue = rig.tx(false);
    for n in 0..16 {
        rig.driver.describe(n, rig.address(n), 512, WRITE, 0);
        rig.driver.offer(n);
    }
    rig.driver.publish();
    assert!(queue.push(&[&frame(0, 501)]).unwrap());
    assert!(queue.push(&[]).unwrap());
    assert!(queue.push(&[&vec![0; MAX_FRAME + 1]]).unwrap());
    assert_eq!(queue.counters().unfit, 3);
    let mut queue = rig.tx(true);
    assert!(queue.push(&[&frame(0, 16 * 512)]).unwrap());
    assert_eq!(queue.counters().unfit, 1, "longer than the whole ring");
    assert!(queue.push(&[&frame(0, 500)]).unwrap());
    queue.publish().unwrap();
    assert_eq!(rig.used(), [(0, 512)], "those behind do not suffer");
}

/// Receives what a driver offers that was made so by `attack`, which returns the buffer's head.
fn attacked(attack: impl FnOnce(&mut Rig) -> u16) -> Result<Vec<Vec<u8>>, Fault> {
    let mut rig = Rig::new(64);
    let mut queue = rig.rx();
    let head = attack(&mut rig);
    rig.driver.offer(head);
    rig.driver.publish();
    receive(&mut queue)
}

#[test]
fn heads_and_nexts_out_of_range_are_faults() {
    for head in [64, 65, 0x8000, u16::MAX] {
        let found = attacked(|_| head).unwrap_err();
        assert_eq!(
            found,
            Fault::Descriptor {
                index: head,
                size: 64
            }
        );
    }
    let next = attacked(|rig| {
        rig.driver.describe(0, rig.address(0), 60, NEXT, 64);
        0
    });
    assert!(matches!(next, Err(Fault::Descriptor { index: 64, .. })));
}

#[test]
fn addresses_outside_the_memory_are_faults() {
    let end = GUEST + BYTES as u64;
    for (address, len) in [
        (0, 100),
        (end, 100),
        (end - 99, 100),
        (GUEST - 1, 100),
        (u64::MAX - 10, 100),
        (GUEST, u32::MAX),
        (GUEST + BUFFERS, BYTES as u32),
    ] {
        for flags in [0, NEXT] {
            let found = attacked(|rig| {
                rig.driver.describe(0, address, len, flags, 1);
                rig.driver.describe(1, rig.address(1), 60, 0, 0);
                0
            });
            assert_eq!(found, Err(Fault::Range { address, len }));
        }
    }
}

#[test]
fn chains_that_loop_end() {
    for len in [0, 1, 60] {
        let found = attacked(|rig| {
            rig.driver.describe(0, rig.address(0), len, NEXT, 1);
            rig.driver.describe(1, rig.address(1), len, NEXT, 0);
            0
        });
        assert_eq!(found, Err(Fault::LongChain), "{len}");
    }
    let found = attacked(|rig| {
        indirect(rig, 3, &[(rig.address(0), 1, NEXT, 0)]);
        0
    });
    assert_eq!(found, Err(Fault::LongChain));
}

#[test]
fn indirect_tables_are_bounded_and_not_nested() {
    for len in [0, 15, 17, 16 * 1025, !15] {
        let found = attacked(|rig| {
            rig.driver.describe(0, rig.address(0), len, INDIRECT, 0);
            0
        });
        assert_eq!(found, Err(Fault::Table(len)), "{len}");
    }
    let found = attacked(|rig| {
        rig.driver.describe(0, u64::MAX - 7, 16, INDIRECT, 0);
        0
    });
    assert!(matches!(found, Err(Fault::Range { .. })));
    let found = attacked(|rig| {
        indirect(rig, 3, &[(rig.address(4), 16, INDIRECT, 0)]);
        0
    });
    assert_eq!(found, Err(Fault::Nested));
    let found = attacked(|rig| {
        indirect(rig, 3, &[(rig.address(4), 16, NEXT, 1)]);
        0
    });
    assert_eq!(found, Err(Fault::Descriptor { index: 1, size: 1 }));
    for flags in [INDIRECT | NEXT, INDIRECT | WRITE] {
        let found = attacked(|rig| {
            rig.driver.describe(0, rig.address(0), 16, flags, 1);
            0
        });
        assert_eq!(found, Err(Fault::Flags(flags)));
    }
    // In the chain, behind a descriptor of the ring.
    let found = attacked(|rig| {
        rig.driver.describe(0, rig.address(0), 60, NEXT, 1);
        rig.driver.describe(1, rig.address(1), 16, INDIRECT, 0);
        0
    });
    assert_eq!(found, Err(Fault::Nested));
}

#[test]
fn flags_that_do_not_exist_and_wrong_directions_are_faults() {
    for flags in [8, 0x80, 0x8000] {
        let found = attacked(|rig| {
            rig.driver.describe(0, rig.address(0), 100, flags, 0);
            0
        });
        assert_eq!(found, Err(Fault::Flags(flags)));
    }
    let found = attacked(|rig| {
        rig.driver.describe(0, rig.address(0), 100, WRITE, 0);
        0
    });
    assert_eq!(found, Err(Fault::Direction(Direction::Writable)));
    let mut rig = Rig::new(64);
    let mut queue = rig.tx(true);
    rig.driver.describe(0, rig.address(0), 2048, 0, 0);
    rig.driver.offer(0);
    rig.driver.publish();
    queue.prepare().unwrap();
    let found = queue.push(&[&frame(0, 60)]);
    assert_eq!(found, Err(Fault::Direction(Direction::ReadOnly)));
}

#[test]
fn a_huge_frame_is_a_fault() {
    let found = attacked(|rig| {
        rig.driver.describe(0, GUEST + BUFFERS, 65_548, 0, 0);
        0
    });
    assert_eq!(found, Err(Fault::LongFrame(65_536)));
    let found = attacked(|rig| {
        let table: Vec<_> = (0..64)
            .map(|n| (GUEST, 1 << 20, if n == 63 { 0 } else { NEXT }, n + 1))
            .collect();
        indirect(rig, 3, &table);
        0
    });
    assert_eq!(found, Err(Fault::LongFrame((64 << 20) - 12)));
}

#[test]
fn an_available_index_that_runs_away_or_goes_back_is_a_fault() {
    let mut rig = Rig::new(64);
    for index in [65, 1000, 0x8000, u16::MAX] {
        rig.driver.publish_index(index);
        let found = receive(&mut rig.rx()).unwrap_err();
        assert_eq!(
            found,
            Fault::IndexJump {
                ahead: index,
                allowed: 64
            }
        );
        let found = rig.tx(true).prepare().unwrap_err();
        assert!(matches!(found, Fault::IndexJump { .. }));
    }
    rig.driver.publish_index(0);
    let mut queue = rig.rx();
    for n in 0..8 {
        rig.offer(n, &frame(n, 60));
    }
    rig.driver.publish();
    assert_eq!(queue.pending(), Ok(8));
    rig.driver.publish_index(7);
    assert_eq!(queue.pending(), Err(Fault::IndexBack { now: 7, before: 8 }));
}

#[test]
fn runts_as_receive_buffers_do_no_harm() {
    let mut rig = Rig::new(64);
    for len in [0, 1, 11] {
        rig.driver = DriverRing::new(rig.guest.region().clone(), 0, 64);
        let mut queue = rig.tx(true);
        rig.driver.describe(0, rig.address(0), len, WRITE, 0);
        rig.driver.offer(0);
        rig.driver.publish();
        queue.prepare().unwrap();
        let found = queue.push(&[&frame(0, 60)]);
        assert_eq!(found, Err(Fault::Runt(len.into())));
    }
    // Just the header, then buffers of a byte each: too many for one frame.
    rig.driver = DriverRing::new(rig.guest.region().clone(), 0, 64);
    let mut queue = rig.tx(true);
    for n in 0..64 {
        let len = if n == 0 { 12 } else { 1 };
        rig.driver.describe(n, rig.address(n), len, WRITE, 0);
        rig.driver.offer(n);
    }
    rig.driver.publish();
    queue.prepare().unwrap();
    assert!(queue.push(&[&frame(0, 100)]).unwrap());
    assert_eq!(queue.counters().unfit, 1);
    assert!(queue.push(&[&frame(0, 60)]).unwrap());
    assert_eq!(queue.counters().frames, 1);
}

#[test]
fn a_file_made_shorter_is_a_fault_and_kills_nobody() {
    sluice_mem::sigbus::install().unwrap();
    let mut rig = Rig::new(64);
    let mut receiving = rig.rx();
    rig.offer(0, &frame(0, 60));
    rig.driver.publish();
    rig.guest.truncate(BUFFERS);
    let mut list = FrameList::default();
    assert_eq!(receiving.recv(64, &mut list), Err(Fault::MemoryGone));
    assert_eq!(receiving.pending(), Err(Fault::MemoryGone));
    let rig = Rig::new(64);
    let mut sending = rig.tx(true);
    rig.guest.truncate(0);
    assert_eq!(
        sending.push(&[&frame(0, 60)]),
        Ok(false),
        "zeros: no buffer"
    );
    assert_eq!(sending.push(&[&frame(0, 60)]), Err(Fault::MemoryGone));
}

#[test]
fn rings_outside_the_memory_or_not_aligned_do_not_run() {
    let rig = Rig::new(64);
    let addresses = rig.driver.addresses(0);
    let end = crate::testing::USER + BYTES as u64;
    let ring = |change: &dyn Fn(&mut crate::msg::RingAddresses)| {
        let mut addresses = addresses;
        change(&mut addresses);
        let parts = Parts { log2: 6, addresses };
        Ring::new(&rig.memory, &parts).is_ok()
    };
    assert!(ring(&|_| {}));
    assert!(!ring(&|a| a.descriptors += 8));
    assert!(!ring(&|a| a.available += 1));
    assert!(!ring(&|a| a.used += 2));
    for address in [end - 15, end, 0, u64::MAX - 15] {
        assert!(!ring(&|a| a.descriptors = address & !15));
        assert!(!ring(&|a| a.available = address & !1));
        assert!(!ring(&|a| a.used = address & !3));
    }
    assert!(ring(&|a| a.descriptors = end - 1024));
    assert!(!ring(&|a| a.descriptors = end - 1008));
}

/// Naive model of a chain: `None` where a rule is broken.
fn model(table: &[(u64, u32, u16, u16)], head: u16, bytes: &[u8]) -> Option<Vec<u8>> {
    let mut whole = Vec::new();
    let mut at = head;
    for _ in 0..MAX_PIECES {
        let (address, len, flags, next) = *table.get(usize::from(at))?;
        if flags & !NEXT != 0 {
            return None;
        }
        let start = usize::try_from(address.checked_sub(GUEST)?).ok()?;
        whole.extend(bytes.get(start..start.checked_add(len as usize)?)?);
        if flags & NEXT == 0 {
            return (whole.len() <= MAX_FRAME + HEADER).then_some(whole);
        }
        at = next;
    }
    None
}

fn descriptor() -> impl Strategy<Value = (u64, u32, u16, u16)> {
    let address = prop_oneof![
        20 => GUEST + BUFFERS..GUEST + BUFFERS + 10_000,
        1 => GUEST + BYTES as u64 - 50..GUEST + BYTES as u64 + 50,
        1 => any::<u64>(),
    ];
    let len = prop_oneof![20 => 0..200_u32, 2 => 0..70_000_u32, 1 => any::<u32>()];
    let flags = prop_oneof![20 => Just(0), 20 => Just(NEXT), 1 => any::<u16>()];
    let next = prop_oneof![20 => 0..8_u16, 1 => any::<u16>()];
    (address, len, flags, next)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Compares what comes of any descriptors with the model, which has a fault where the queue has one.
    #[test]
    fn any_descriptors_come_to_what_the_model_says(
        table in prop::collection::vec(descriptor(), 8),
        heads in prop::collection::vec(0..8_u16, 1..6),
    ) {
        let mut rig = Rig::new(8);
        let pattern: Vec<u8> = (0..10_200_u32).map(|n| u8::try_from(n % 199).unwrap()).collect();
        let zeros = vec![0; BYTES];
        rig.guest.region().copy_out(BUFFERS as usize, &zeros[..100_000]).unwrap();
        rig.guest.region().copy_out(BUFFERS as usize + 300, &pattern).unwrap();
        for (n, (address, len, flags, next)) in (0..).zip(&table) {
            rig.driver.describe(n, *address, *len, *flags, *next);
        }
        let mut bytes = vec![0; BYTES];
        rig.guest.region().copy_in(0, &mut bytes).unwrap();
        let mut expected = Vec::new();
        let mut sound = true;
        for head in &heads {
            rig.driver.offer(*head);
            // An indirect table anywhere in memory is beyond the model.
            if table.iter().any(|descriptor| descriptor.2 & INDIRECT != 0) {
                return Ok(());
            }
            match model(&table, *head, &bytes) {
                Some(whole) if whole.len() > HEADER && whole[..2] == [0, 0] => {
                    expected.push(whole[HEADER..].to_vec());
                }
                Some(_) => {}
                None => sound = false,
            }
        }
        let mut queue = rig.rx();
        rig.driver.publish();
        match receive(&mut queue) {
            Ok(frames) => {
                prop_assert!(sound);
                prop_assert_eq!(frames, expected);
            }
            Err(_) => prop_assert!(!sound),
        }
    }
}
