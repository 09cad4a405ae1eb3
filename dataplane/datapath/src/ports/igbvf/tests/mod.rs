// SPDX-License-Identifier: Apache-2.0
//! The driver on the emulated VF.
//!
//! | file | tests |
//! |---|---|
//! | `bring_up.rs` | agreement with the PF |
//! | `frames.rs` | frames in and out |
//! | `pf.rs` | the PF and the device while the VF runs |
#![allow(clippy::unwrap_used, reason = "tests")]

mod bring_up;
mod frames;
mod pf;

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
        macs: Vec::new(),
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
