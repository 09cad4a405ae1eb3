// SPDX-License-Identifier: Apache-2.0
//! A device of DPDK's as an uplink: frames go between its driver and the engine's mempools without a copy.
//! `sluice-dpdk` has everything that touches DPDK; here a frame's tag goes into its bytes, and what a driver does
//! not take is kept or, in the end, dropped.
//!
//! *Waking.* DPDK's software devices have no interrupt, and of the others most drivers have none that could be
//! waited for beside other ports: a worker with such a port sleeps 1 ms at most.
//!
//! *VLANs.* Tags stay in the bytes. Where a PF takes them off its VFs' frames all the same they come beside the
//! frame, and go back into its facts.
//!
//! *A driver that takes nothing.* A burst that it does not take waits here, and the pods with it. After a fifth of
//! a second without progress the burst is dropped, so that a wire that is stuck costs no pod its neighbours. Its
//! frames count as sent, as those do that a NIC loses: the device's own counters have them not.

use std::os::fd::BorrowedFd;

use sluice_dpdk::Port;
use sluice_mem::{Burst, Mbuf};
use sluice_packet::VlanTag;
use sluice_stats::LinkState;

use crate::drops::DropReason;
use crate::frame::FrameInfo;
use crate::ports::seam::{PortContext, Sent, Uplink, UplinkReport, Wake};

/// Bytes of both MAC addresses: what stands before the tag.
const MACS: usize = 12;
/// Bytes of an Ethernet header, without tags.
const ETH_HEADER: usize = 14;
/// TPID of a tag that a device took off (802.1Q); DPDK's drivers do not say which it was.
const STRIPPED_TPID: u16 = 0x8100;
/// Time without progress after which a burst that waits is dropped, in milliseconds.
const STUCK_MS: u64 = 200;

/// Uplink on a device of DPDK's.
#[derive(Debug)]
pub struct DpdkUplink {
    port: Port,
    name: String,
    /// Frames that waited when it was last looked, and since when: of the worker's clock.
    stuck: Option<(usize, u64)>,
    /// Frames lost by the device that are counted already.
    missed: u64,
}

impl DpdkUplink {
    /// Makes an uplink of an open port.
    pub fn new(port: Port) -> DpdkUplink {
        DpdkUplink {
            name: port.device().to_string(),
            missed: port.missed(),
            port,
            stuck: None,
        }
    }

    /// The port.
    pub fn port(&self) -> &Port {
        &self.port
    }

    /// Longest frame to send, tag included, in bytes.
    fn longest(&self) -> usize {
        self.port.mtu() as usize + ETH_HEADER + VlanTag::LEN
    }
}

/// Puts the tag of a frame's facts into its bytes.
#[inline]
fn put_tag(mbuf: &mut Mbuf, longest: usize) -> Result<(), DropReason> {
    let tag = FrameInfo::of(mbuf).tag();
    let tag_bytes = if tag.is_some() { VlanTag::LEN } else { 0 };
    if mbuf.len() + tag_bytes > longest {
        return Err(DropReason::TooLong);
    }
    let Some(tag) = tag else { return Ok(()) };
    if mbuf.len() < MACS || !mbuf.prepend(VlanTag::LEN) {
        return Err(DropReason::TxError);
    }
    let frame = mbuf.data_mut();
    frame.copy_within(VlanTag::LEN..VlanTag::LEN + MACS, 0);
    frame[MACS..MACS + VlanTag::LEN].copy_from_slice(&tag.to_bytes());
    Ok(())
}

impl Wake for DpdkUplink {
    fn wake_fds(&self, _add: &mut dyn FnMut(BorrowedFd<'_>)) {}

    /// Frames cannot be looked for without taking them: the worker's short sleep is all there is.
    fn arm(&mut self) -> bool {
        self.port.waiting() == 0
    }

    fn disarm(&mut self) {}

    fn may_miss_wakeups(&self) -> bool {
        true
    }
}

impl Uplink for DpdkUplink {
    fn driver(&self) -> &'static str {
        "dpdk"
    }

    fn device(&self) -> &str {
        &self.name
    }

    fn mtu(&self) -> u32 {
        self.port.mtu()
    }

    fn rx_burst(&mut self, context: &mut PortContext<'_>, out: &mut Burst) {
        let room = out.room();
        let PortContext { pools, drops } = context;
        self.port.rx_burst(pools, room, |mut mbuf, tci| {
            let tag = tci.map(|tci| VlanTag {
                tpid: STRIPPED_TPID,
                tci,
            });
            FrameInfo::begin(&mut mbuf, tag);
            // No more come than there is room for.
            drop(out.push(mbuf));
        });
        let unfit = self.port.take_unfit();
        if unfit > 0 {
            drops.add(DropReason::RxError, unfit);
        }
    }

    fn tx_room(&mut self, context: &mut PortContext<'_>) -> usize {
        if self.port.link() == LinkState::Up {
            self.port.tx_room(context.pools)
        } else {
            usize::MAX
        }
    }

    fn tx_burst(&mut self, context: &mut PortContext<'_>, burst: &mut Burst) -> Sent {
        if self.port.link() != LinkState::Up {
            context.drops.add(DropReason::LinkDown, burst.len() as u64);
            context.pools.free_burst(burst);
            return Sent::default();
        }
        // Tags go into the bytes once: what is not taken must come again as it was.
        if self.port.tx_room(context.pools) < burst.len() {
            return Sent::default();
        }
        let longest = self.longest();
        let pools = &mut *context.pools;
        let drops = context.drops;
        burst.retain_or(
            |_, mbuf| put_tag(mbuf, longest),
            |mbuf, reason| {
                drops.add(reason, 1);
                pools.free(mbuf);
            },
        );
        let taken = self.port.tx_burst(context.pools, burst);
        if !burst.is_empty() {
            // Headers ran out, as a driver keeps more than its descriptors: these have their tags already.
            context.drops.add(DropReason::TxError, burst.len() as u64);
            context.pools.free_burst(burst);
        }
        Sent {
            frames: taken.frames,
            bytes: taken.bytes,
            ..Sent::default()
        }
    }

    fn housekeeping(&mut self, context: &mut PortContext<'_>, now_ms: u64) {
        let missed = self.port.missed();
        let new = missed.saturating_sub(self.missed);
        if new > 0 {
            context.drops.add(DropReason::NoMbuf, new);
        }
        self.missed = missed;
        self.port.tx_room(context.pools);
        let waiting = self.port.waiting();
        self.stuck = match self.stuck {
            _ if waiting == 0 => None,
            Some((before, since)) if before == waiting => {
                if now_ms.saturating_sub(since) >= STUCK_MS {
                    self.port.drop_waiting(context.pools);
                    None
                } else {
                    Some((waiting, since))
                }
            }
            _ => Some((waiting, now_ms)),
        };
    }

    fn report(&self) -> UplinkReport {
        UplinkReport {
            link: self.port.link(),
            nic: Some(self.port.counters()),
        }
    }
}
