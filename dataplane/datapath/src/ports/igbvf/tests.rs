// SPDX-License-Identifier: Apache-2.0
//! The driver on the emulated VF.
#![allow(clippy::unwrap_used, reason = "tests")]

use proptest::prelude::*;
use rustix::event::{PollFd, PollFlags, poll};
use sluice_mem::{BufSize, Burst, HugePages, Mempool, PoolConfig, Pools};
use sluice_packet::{Mac, Vid, VlanTag};
use sluice_stats::LinkState;
use sluice_vfio::emulated::{EmulatedDevice, Event, Model};
use sluice_vfio::{Counted, Device};

use super::fake_vf::{self, MAC, Pf, Vf};
use super::regs::*;
use super::{IgbVf, IgbVfConfig, IgbVfError, Refusal, VfVlans};
use crate::drops::{DropCounts, DropReason};
use crate::frame::FrameInfo;
use crate::ports::seam::{PortContext, Uplink, Wake};

const BUFFERS: u32 = 4096;

fn pool(size: BufSize) -> Mempool {
    Mempool::new(PoolConfig {
        buffers: BUFFERS,
        size,
        numa_node: None,
        huge_pages: HugePages::Off,
    })
    .unwrap()
}

/// A worker's mempools, and a VF on them.
struct Lab<D: Device = EmulatedDevice<Vf>> {
    port: Option<IgbVf<D>>,
    nic: Model<Vf>,
    pools: Pools,
    mempools: [Mempool; 2],
    drops: DropCounts,
    now_ms: u64,
}

fn config(mempools: [Mempool; 2], vlans: VfVlans) -> IgbVfConfig {
    IgbVfConfig {
        mac: MAC,
        mtu: 1500,
        vlans,
        groups: vec![Mac([0x33, 0x33, 0xff, 0, 0x0a, 1])],
        small: mempools[0],
        large: mempools[1],
        rx_descriptors: 128,
        tx_descriptors: 128,
    }
}

fn lab(pf: Pf, vlans: VfVlans) -> Lab {
    lab_on(
        fake_vf::device(Vf::of(pf)),
        |device| device.model(),
        |device| device,
        vlans,
    )
}

fn lab_on<D: Device>(
    device: EmulatedDevice<Vf>,
    nic: impl Fn(&EmulatedDevice<Vf>) -> Model<Vf>,
    wrap: impl FnOnce(EmulatedDevice<Vf>) -> D,
    vlans: VfVlans,
) -> Lab<D> {
    let mempools = [pool(BufSize::Small), pool(BufSize::Large)];
    let nic = nic(&device);
    let port = IgbVf::open(wrap(device), config(mempools, vlans)).unwrap();
    Lab {
        port: Some(port),
        nic,
        pools: Pools::new(mempools[0], mempools[1], 512),
        mempools,
        drops: DropCounts::new(),
        now_ms: 5_000_000,
    }
}

impl<D: Device> Lab<D> {
    fn port(&mut self) -> (&mut IgbVf<D>, PortContext<'_>) {
        let context = PortContext {
            pools: &mut self.pools,
            drops: &self.drops,
        };
        (self.port.as_mut().unwrap(), context)
    }

    fn receive(&mut self) -> Burst {
        let mut out = Burst::new();
        let (port, mut context) = self.port();
        port.rx_burst(&mut context, &mut out);
        out
    }

    /// Sends copies of `frames`; how many were taken.
    fn send(&mut self, frames: &[Vec<u8>], tag: Option<VlanTag>) -> usize {
        let mut burst = Burst::new();
        for frame in frames {
            let mut mbuf = self.pools.alloc_for(frame.len()).unwrap();
            assert!(mbuf.copy_from(frame));
            FrameInfo::begin(&mut mbuf, tag);
            burst.push(mbuf).unwrap();
        }
        let (port, mut context) = self.port();
        port.tx_burst(&mut context, &mut burst);
        let left = burst.len();
        self.pools.free_burst(&mut burst);
        frames.len() - left
    }

    fn housekeeping(&mut self, times: u32) {
        for _ in 0..times {
            self.now_ms += 10;
            let now_ms = self.now_ms;
            let (port, mut context) = self.port();
            port.housekeeping(&mut context, now_ms);
        }
    }

    fn link(&self) -> LinkState {
        self.port.as_ref().unwrap().report().link
    }

    fn arrive(&self, frame: &[u8], tci: Option<u16>) {
        self.nic.with(|vf, bus| vf.arrive(frame, tci, bus));
    }

    /// Ends it all: every mbuf is home, and the device did nothing that it may not.
    fn end(mut self) {
        self.port = None;
        drop(self.pools);
        for mempool in self.mempools {
            let all = mempool.conservation();
            assert!(
                all.holds() && all.in_flight == 0 && all.strays == 0,
                "{all:?}"
            );
        }
        assert_eq!(self.nic.bus().take_faults(), []);
        let events = self.nic.bus().take_events();
        let closed = events.iter().position(|event| *event == Event::Closed);
        let freed = events
            .iter()
            .position(|event| matches!(event, Event::RingGone(_)));
        assert!(closed.is_some() && closed < freed, "{events:?}");
    }
}

fn frame(number: u32, len: usize) -> Vec<u8> {
    let mut frame = vec![0xab; len];
    frame[..6].copy_from_slice(&MAC.0);
    frame[14..18].copy_from_slice(&number.to_be_bytes());
    frame
}

#[test]
fn a_vf_agrees_with_its_pf_and_starts() {
    let vlans = VfVlans::Trunk([210, 220].map(|vid| Vid::new(vid).unwrap()).to_vec());
    let lab = lab(Pf::default(), vlans);
    assert_eq!(lab.link(), LinkState::Up);
    lab.nic.with(|vf, _| {
        let asked: Vec<u32> = vf.pf.asked.iter().map(|word| word & 0xffff).collect();
        let all = [
            MSG_RESET,
            MSG_SET_LPE,
            MSG_SET_MULTICAST,
            MSG_SET_VLAN,
            MSG_SET_VLAN,
        ];
        assert_eq!(asked, all, "its MAC address is the PF's already");
        assert_eq!(vf.pf.longest, 1518);
        // 33:33:ff:00:0a:01 by hand: (0x0a >> 4 | 0x01 << 4) & 0xfff.
        assert_eq!(vf.pf.hashes, [0x010]);
        assert_eq!(vf.pf.vlans.iter().copied().collect::<Vec<_>>(), [210, 220]);
    });
    lab.end();
}

#[test]
fn a_pf_without_a_mac_address_takes_ours_and_another_s_is_refused() {
    let none = Pf {
        admin_mac: None,
        ..Pf::default()
    };
    let lab = lab(none, VfVlans::Untagged);
    lab.nic.with(|vf, _| assert_eq!(vf.pf.own_mac, Some(MAC)));
    lab.end();

    let mempools = [pool(BufSize::Small), pool(BufSize::Large)];
    let other = Pf {
        admin_mac: Some(Mac([2, 0, 0, 0, 0, 9])),
        ..Pf::default()
    };
    let device = fake_vf::device(Vf::of(other));
    let error = IgbVf::open(device, config(mempools, VfVlans::Untagged)).unwrap_err();
    assert!(
        matches!(
            error,
            IgbVfError::Refused {
                refusal: Refusal::Mac,
                ..
            }
        ),
        "{error}"
    );
    let vlans = VfVlans::Trunk(vec![Vid::new(7).unwrap()]);
    let device = fake_vf::device(Vf::of(Pf {
        refuses_vlans: true,
        ..Pf::default()
    }));
    let error = IgbVf::open(device, config(mempools, vlans)).unwrap_err();
    assert!(error.to_string().contains("refuses VLAN 7"), "{error}");
    assert_eq!(mempools[0].conservation().in_flight, 0);
}

#[test]
fn frames_come_and_go_byte_for_byte_and_in_order() {
    let mut lab = lab(Pf::default(), VfVlans::Untagged);
    let (mut sent, mut received) = (0u32, 0u32);
    while received < 10_000 {
        for _ in 0..sent % 60 + 1 {
            lab.arrive(&frame(sent, 60 + sent as usize % 1400), None);
            sent += 1;
        }
        loop {
            let mut burst = lab.receive();
            if burst.is_empty() {
                break;
            }
            let mut frames = Vec::new();
            for mbuf in burst.iter() {
                assert_eq!(mbuf.data(), frame(received, 60 + received as usize % 1400));
                assert_eq!(FrameInfo::of(mbuf).tag(), None);
                frames.push(mbuf.data().to_vec());
                received += 1;
            }
            lab.pools.free_burst(&mut burst);
            assert_eq!(lab.send(&frames, None), frames.len());
        }
    }
    lab.nic.with(|vf, _| {
        assert_eq!(vf.missed, 0);
        assert_eq!(vf.wire.len(), received as usize);
        for (number, sent) in (0..).zip(&vf.wire) {
            assert_eq!(*sent, frame(number, 60 + number as usize % 1400));
        }
    });
    lab.housekeeping(60);
    let nic = lab.port.as_ref().unwrap().report().nic.unwrap();
    assert_eq!(nic.tx_frames, u64::from(received), "over a register's wrap");
    lab.end();
}

#[test]
fn one_doorbell_per_burst() {
    let vf = Vf::default();
    let device = fake_vf::device(vf);
    let mut counts = None;
    let mut lab = lab_on(
        device,
        |device| device.model(),
        |device| {
            let (counted, seen) = Counted::new(device);
            counts = Some(seen);
            counted
        },
        VfVlans::Untagged,
    );
    let counts = counts.unwrap();
    let before = counts.tally();
    let doorbells = |register| counts.writes_at(register);
    let bells_before = [RDT, TDT].map(doorbells);
    for round in 0..8 {
        for number in 0..64 {
            lab.arrive(&frame(number, 64), None);
        }
        let mut burst = lab.receive();
        assert_eq!(burst.len(), 64, "round {round}");
        let (port, mut context) = lab.port();
        port.tx_burst(&mut context, &mut burst);
        assert!(burst.is_empty());
    }
    let done = counts.tally().since(before);
    assert_eq!(
        [RDT, TDT].map(doorbells),
        bells_before.map(|bells| bells + 8)
    );
    assert_eq!(done.register_reads, 0, "no register is read for a frame");
    assert_eq!(done.register_writes, 16);
    lab.end();
}

#[test]
fn a_full_ring_gives_the_rest_back_and_goes_on() {
    let mut lab = lab(Pf::default(), VfVlans::Untagged);
    lab.nic.with(|vf, _| vf.stuck = true);
    let frames: Vec<_> = (0..64).map(|number| frame(number, 64)).collect();
    let room = |lab: &mut Lab| {
        let (port, mut context) = lab.port();
        port.tx_room(&mut context)
    };
    assert_eq!(room(&mut lab), 127);
    assert_eq!(lab.send(&frames, None), 64);
    assert_eq!(room(&mut lab), 63);
    assert_eq!(lab.send(&frames, None), 63, "one descriptor stays free");
    assert_eq!(room(&mut lab), 0);
    assert_eq!(lab.send(&frames, None), 0);
    lab.nic.with(|vf, _| vf.stuck = false);
    assert_eq!(lab.send(&frames, None), 0, "nothing is done yet");
    // The next doorbell is the one that a stuck NIC looks at.
    lab.nic.with(|vf, bus| {
        use sluice_vfio::emulated::RegisterModel;
        let tail = vf.read32(TDT, bus);
        vf.write32(TDT, tail, bus);
    });
    assert_eq!(room(&mut lab), 127);
    assert_eq!(lab.send(&frames, None), 64);
    lab.end();
}

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

#[test]
fn tags_by_the_kind_of_vf() {
    let tag = VlanTag {
        tpid: 0x8100,
        tci: 0x60d2,
    };
    let vid = Vid::new(0xd2).unwrap();
    let mut trunk = lab(Pf::default(), VfVlans::Trunk(vec![vid]));
    trunk.arrive(&frame(1, 60), Some(tag.tci));
    let mut burst = trunk.receive();
    assert_eq!(FrameInfo::of(&burst.as_slice()[0]).tag(), Some(tag));
    trunk.pools.free_burst(&mut burst);
    assert_eq!(trunk.send(&[frame(1, 60)], Some(tag)), 1);
    trunk.nic.with(|vf, _| {
        let plain = frame(1, 60);
        let tagged = [&plain[..12], &tag.to_bytes(), &plain[12..]].concat();
        assert_eq!(vf.wire, [tagged]);
    });
    trunk.end();

    let pf = Pf {
        port_vlan: Some(0xd2),
        ..Pf::default()
    };
    let mut port = lab(pf, VfVlans::Port(vid));
    port.arrive(&frame(1, 60), Some(0xd2));
    let mut burst = port.receive();
    assert_eq!(
        FrameInfo::of(&burst.as_slice()[0]).tag(),
        None,
        "the PF's own"
    );
    port.pools.free_burst(&mut burst);
    port.send(&[frame(1, 60)], Some(tag));
    assert_eq!(port.drops.get(DropReason::InnerTag), 1);
    port.nic
        .with(|vf, _| assert!(vf.wire.is_empty(), "it would have two tags"));
    port.send(&[frame(1, 60)], None);
    port.nic
        .with(|vf, _| assert_eq!(vf.wire[0][12..16], [0x81, 0, 0, 0xd2]));
    port.end();
}

#[test]
fn what_cannot_be_sent_is_counted() {
    let mut lab = lab(Pf::default(), VfVlans::Untagged);
    assert_eq!(
        lab.send(&[frame(1, 1519), frame(2, 1518), vec![1; 14]], None),
        3
    );
    assert_eq!(lab.drops.get(DropReason::TooLong), 1);
    lab.nic.with(|vf, _| {
        assert_eq!(vf.wire[0], frame(2, 1518));
        assert_eq!(vf.wire[1], [vec![1; 14], vec![0; 3]].concat(), "padded");
    });
    lab.end();
}

#[test]
fn without_mbufs_frames_are_lost_and_counted_and_then_it_goes_on() {
    let mut lab = lab(Pf::default(), VfVlans::Untagged);
    let mut held = Vec::new();
    while let Some(mbuf) = lab.pools.small.alloc() {
        held.push(mbuf);
    }
    let mut received = 0;
    for number in 0..60 {
        lab.arrive(&frame(number, 60), None);
        let mut burst = lab.receive();
        received += burst.len();
        while let Some(mbuf) = burst.pop() {
            held.push(mbuf);
        }
    }
    let lost = lab.drops.get(DropReason::NoMbuf);
    assert!(lost >= 28, "{lost} lost");
    assert_eq!(received as u64 + lost, 60);
    held.drain(..).for_each(|mbuf| lab.pools.free(mbuf));
    lab.arrive(&frame(61, 60), None);
    let mut burst = lab.receive();
    assert_eq!(burst.as_slice()[0].data(), frame(61, 60));
    lab.pools.free_burst(&mut burst);
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
fn what_the_nic_cannot_have_is_refused() {
    let mempools = [pool(BufSize::Small), pool(BufSize::Large)];
    let open = |change: &dyn Fn(&mut IgbVfConfig)| {
        let mut config = config(mempools, VfVlans::Untagged);
        change(&mut config);
        let opened = IgbVf::open(fake_vf::device(Vf::default()), config);
        opened.map(|_| ()).unwrap_err().to_string()
    };
    assert!(open(&|config| config.mtu = 9500).contains("MTU of 9500"));
    assert!(open(&|config| config.rx_descriptors = 100).contains("100 descriptors"));
    assert!(open(&|config| config.tx_descriptors = 8192).contains("8192 descriptors"));
}

#[test]
fn jumbo_frames_go_into_large_mbufs() {
    let mempools = [pool(BufSize::Small), pool(BufSize::Large)];
    let device = fake_vf::device(Vf::default());
    let nic = device.model();
    let jumbo = IgbVfConfig {
        mtu: 9000,
        ..config(mempools, VfVlans::Untagged)
    };
    let mut lab = Lab {
        port: Some(IgbVf::open(device, jumbo).unwrap()),
        nic,
        pools: Pools::new(mempools[0], mempools[1], 512),
        mempools,
        drops: DropCounts::new(),
        now_ms: 0,
    };
    lab.arrive(&frame(1, 9018), None);
    let mut burst = lab.receive();
    assert_eq!(burst.as_slice()[0].data(), frame(1, 9018));
    lab.pools.free_burst(&mut burst);
    lab.end();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    /// A device may write anything into its descriptors: nothing panics, nothing is lost.
    #[test]
    fn a_device_that_lies_costs_frames_and_nothing_else(words in prop::collection::vec(any::<u64>(), 1..300)) {
        let mut lab = lab(Pf::default(), VfVlans::Trunk(vec![Vid::new(5).unwrap()]));
        let mut seen = 0;
        for chunk in words.chunks(40) {
            for word in chunk {
                lab.nic.with(|vf, bus| vf.done(word | RX_DD, bus));
            }
            loop {
                let mut burst = lab.receive();
                if burst.is_empty() {
                    break;
                }
                prop_assert!(burst.iter().all(|mbuf| mbuf.len() <= BufSize::Small.data_bytes()));
                seen += burst.len();
                lab.pools.free_burst(&mut burst);
            }
        }
        prop_assert!(seen <= words.len());
        lab.end();
    }
}
