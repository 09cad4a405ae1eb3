// SPDX-License-Identifier: Apache-2.0
//! The VF of an Intel 82576 as an uplink: frames go between the NIC and the engine's mempools without a
//! copy. The driver knows its device through [`sluice_vfio::Device`] alone; `regs` says where the
//! datasheet has what.
//!
//! ```text
//! rx_burst   descriptors that the NIC has filled -> mbufs out, fresh mbufs in; one doorbell per 32
//! tx_burst   mbufs -> descriptors; one doorbell per burst; what the NIC is done with goes home
//! tend       the mailbox: brought up again when the PF has forgotten this VF; link and counts
//! ```
//!
//! *The PF.* A VF works by leave of its PF's driver, which is asked through a mailbox. When the PF goes
//! down it forgets its VFs; they say "link up" all the same and get nothing. So the mailbox is looked at
//! every 10 ms (and wakes a sleeping worker), and when the PF no longer knows this VF the function is
//! reset and everything agreed anew. As long as a PF does not answer the port is
//! [`LinkState::Waiting`]. A device that does not answer at all, as it was removed or is being reset, is
//! [`LinkState::Gone`], and is brought up anew if it answers again. A function that was reset by others
//! (`echo 1 > reset` in sysfs) has its queues off, and is brought up anew too.
//!
//! *VLANs.* A trunk asks for its VLANs by mailbox; the PF then takes tags off, and they come from the
//! descriptor. Under a port VLAN the descriptor has a tag too: it is the PF's, not the frame's. Tags of
//! frames to send go into their bytes.
//!
//! *Multicast.* A VF gets the groups it has asked for, 30 at most.
//!
//! *Further MAC addresses* are asked for by mailbox. The PF grants them to a VF that it trusts
//! (`ip link set PF vf N trust on`), from a table that all its VFs share.
//!
//! *Checksums* are the sender's business: the engine changes no byte that one covers but in frames it
//! makes itself, so there is nothing to have computed by the NIC. What the NIC says of checksums received
//! is passed over: the pod judges them.

mod bring_up;
#[cfg(test)]
mod fake_vf;
mod mailbox;
mod regs;
mod rx;
mod stats;
#[cfg(test)]
mod tests;
mod tx;

use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use sluice_mem::{BufSize, Burst, Mempool, Pools};
use sluice_packet::{Mac, Vid};
use sluice_stats::LinkState;
use sluice_vfio::{Device, Interrupt, PciAddr, Registers};

use crate::drops::DropReason;
use crate::ports::seam::{PortContext, Sent, Uplink, UplinkReport, Wake};
use bring_up::{BringUp, Progress, Wishes};
use mailbox::{Heard, Mailbox};
use regs::{EIAC, EIAM, EIMC, EIMS, IVAR_MISC, IVAR_VALID, IVAR0, STATUS, STATUS_LU};
use rx::RxQueue;
use stats::Stats;
use tx::{Reachable, TxQueue};

pub use bring_up::Refusal;
pub use regs::{RDT, TDT};

/// Largest MTU in bytes: the NIC's longest frame is 9728 bytes, its PF's driver grants less.
pub const MAX_MTU: u32 = 9194;
/// Bytes of an Ethernet header and a tag.
const ETH_AND_TAG: usize = 18;
/// Bytes of an Ethernet header and the frame check sequence.
const ETH_AND_FCS: u32 = 18;
/// Time that opening waits for the PF, which answers within a few milliseconds if it is up.
const OPEN_PATIENCE: Duration = Duration::from_millis(600);
/// Milliseconds after a refusal until the PF is asked again.
const AFTER_REFUSAL_MS: u64 = 1000;
/// Milliseconds between two readings of the NIC's counters.
const STATS_EVERY_MS: u64 = 500;
/// The one interrupt vector.
const VECTOR_0: u32 = 1;

/// VLANs of a VF.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VfVlans {
    /// None: untagged frames, and those of VID 0.
    Untagged,
    /// A port VLAN that the PF puts on and takes off.
    Port(Vid),
    /// VLANs asked for by mailbox, and untagged frames.
    Trunk(Vec<Vid>),
}

/// Configuration of a VF uplink.
#[derive(Debug, Clone)]
pub struct IgbVfConfig {
    /// MAC address: the administrative one, where the PF has laid one down.
    pub mac: Mac,
    /// The largest IP packet, 68 to [`MAX_MTU`] bytes.
    pub mtu: u32,
    /// VLANs of the VF.
    pub vlans: VfVlans,
    /// Multicast groups to be received; those after the first 30 are passed over.
    pub groups: Vec<Mac>,
    /// Further unicast MAC addresses to be received. The PF grants them to a VF that it trusts, as far as it
    /// has filters left; those that it refuses are no error.
    pub macs: Vec<Mac>,
    /// The pool of small mbufs.
    pub small: Mempool,
    /// The pool of large mbufs, for receiving frames that do not fit in small ones.
    pub large: Mempool,
    /// Descriptors of the receive queue: a power of two from 64 to 4096.
    pub rx_descriptors: usize,
    /// Descriptors of the transmit queue: a power of two from 64 to 4096.
    pub tx_descriptors: usize,
}

/// Error of a VF that cannot be an uplink.
#[derive(Debug, thiserror::Error)]
pub enum IgbVfError {
    /// The device is not a VF of an 82576.
    #[error(
        "{device} is {vendor:04x}:{id:04x}, for which the engine has no driver: it drives VFs of the Intel 82576 (8086:10ca)"
    )]
    OtherDevice {
        /// The device.
        device: PciAddr,
        /// Vendor id of the device.
        vendor: u16,
        /// Device id.
        id: u16,
    },
    /// An MTU that the NIC cannot have.
    #[error("{device}: an MTU of {mtu} bytes is not possible: give 68 to {MAX_MTU}")]
    Mtu {
        /// The device.
        device: PciAddr,
        /// The MTU asked for.
        mtu: u32,
    },
    /// A queue length that the NIC cannot have.
    #[error(
        "{device}: a queue cannot have {descriptors} descriptors: give a power of two from 64 to 4096"
    )]
    Descriptors {
        /// The device.
        device: PciAddr,
        /// The number asked for.
        descriptors: usize,
    },
    /// The PF refuses something.
    #[error("{device}: {}", refusal_text(*refusal, *mac))]
    Refused {
        /// The device.
        device: PciAddr,
        /// Setting that was refused.
        refusal: Refusal,
        /// The MAC address asked for.
        mac: Mac,
    },
    /// Too few mbufs to fill the receive queue.
    #[error(
        "{device}: the mempool has fewer than {descriptors} mbufs free for the receive queue: raise the number of mbufs in the configuration"
    )]
    NoMbufs {
        /// The device.
        device: PciAddr,
        /// Mbufs needed.
        descriptors: usize,
    },
    /// The device failed.
    #[error(transparent)]
    Device(#[from] sluice_vfio::Error),
}

fn refusal_text(refusal: Refusal, mac: Mac) -> String {
    match refusal {
        Refusal::Mac => format!(
            "its PF refuses MAC address {mac}, as it has laid down another: ip link set PF vf N mac {mac}"
        ),
        Refusal::Longest => "its PF refuses frames of this length: raise the PF's MTU".to_owned(),
        Refusal::Vlan(vid) => format!(
            "its PF refuses VLAN {vid}: it has laid down a port VLAN (ip link set PF vf N vlan 0 takes it off), or all its 32 filters are taken"
        ),
    }
}

/// An uplink on a VF of an 82576.
pub struct IgbVf<D: Device> {
    /// None only while this is dropped.
    device: Option<D>,
    registers: D::Registers,
    interrupt: Option<Interrupt>,
    name: String,
    mtu: u32,
    wishes: Wishes,
    pools: (Mempool, Mempool),
    /// Whether frames are received into large mbufs.
    receives_large: bool,
    rx: RxQueue<D>,
    tx: TxQueue<D>,
    mailbox: Mailbox,
    state: State,
    link: LinkState,
    stats: Stats,
    stats_at_ms: u64,
    /// Number of further MAC addresses that the PF refused.
    refused_macs: usize,
}

#[derive(Debug)]
enum State {
    /// To be brought up from this moment on.
    From(u64),
    /// On the way.
    BringUp(BringUp),
    /// The queues run.
    Running,
}

impl<D: Device> std::fmt::Debug for IgbVf<D> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IgbVf")
            .field("device", &self.name)
            .field("state", &self.state)
            .field("link", &self.link)
            .finish_non_exhaustive()
    }
}

impl<D: Device> IgbVf<D> {
    /// Opens the VF and brings it up. If its PF does not answer within 600 ms, it is brought up when the
    /// PF does: the port is [`LinkState::Waiting`] till then.
    ///
    /// # Errors
    /// Another device, sizes that the NIC cannot have, a refusal by the PF, no memory or mbufs. The
    /// device is closed then.
    pub fn open(mut device: D, config: IgbVfConfig) -> Result<IgbVf<D>, IgbVfError> {
        let addr = device.addr();
        check(&device, &config)?;
        let registers = device.registers(0)?;
        let small_at = device.map(&config.small)?;
        let large_at = device.map(&config.large)?;
        let frame_bytes = config.mtu as usize + ETH_AND_TAG;
        let receives_large = frame_bytes > BufSize::Small.data_bytes();
        let (size, at) = if receives_large {
            (BufSize::Large, large_at)
        } else {
            (BufSize::Small, small_at)
        };
        let rx_ring = device.ring(config.rx_descriptors)?;
        let tx_ring = device.ring(config.tx_descriptors)?;
        let interrupt = device.interrupts(1)?.pop();
        device.set_bus_master(true)?;
        let pools = Reachable([(config.small, small_at), (config.large, large_at)]);
        let vids = match &config.vlans {
            VfVlans::Trunk(vids) => vids.iter().map(|vid| vid.get()).collect(),
            VfVlans::Untagged | VfVlans::Port(_) => Vec::new(),
        };
        let mut vf = IgbVf {
            name: addr.to_string(),
            mtu: config.mtu,
            wishes: Wishes {
                mac: config.mac,
                longest: config.mtu + ETH_AND_FCS,
                vids,
                groups: config.groups,
                macs: config.macs,
            },
            pools: (config.small, config.large),
            receives_large,
            rx: RxQueue::new(rx_ring, at, size.data_bytes(), &config.vlans),
            tx: TxQueue::new(tx_ring, pools, frame_bytes, &config.vlans),
            device: Some(device),
            registers,
            interrupt,
            mailbox: Mailbox::default(),
            state: State::From(0),
            link: LinkState::Waiting,
            stats: Stats::default(),
            stats_at_ms: 0,
            refused_macs: 0,
        };
        vf.first_bring_up(addr, config.rx_descriptors)?;
        Ok(vf)
    }

    /// Brings it up while the caller waits.
    #[allow(
        clippy::disallowed_methods,
        reason = "opening runs on control's thread, which may wait"
    )]
    fn first_bring_up(&mut self, device: PciAddr, descriptors: usize) -> Result<(), IgbVfError> {
        // Gives back what it does not use when it goes.
        let mut pools = self.own_pools();
        let start = Instant::now();
        let mut bring_up = BringUp::begin(&self.registers, &mut self.mailbox, 0);
        while start.elapsed() < OPEN_PATIENCE {
            let now_ms = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
            match bring_up.go_on(&self.registers, &mut self.mailbox, &self.wishes, now_ms) {
                Progress::Done if self.start(&mut pools) => {
                    self.refused_macs = bring_up.refused_macs();
                    return Ok(());
                }
                Progress::Done => {
                    return Err(IgbVfError::NoMbufs {
                        device,
                        descriptors,
                    });
                }
                Progress::Refused(refusal) => {
                    return Err(IgbVfError::Refused {
                        device,
                        refusal,
                        mac: self.wishes.mac,
                    });
                }
                Progress::Going | Progress::Silent => {
                    std::thread::sleep(Duration::from_micros(500));
                }
            }
        }
        // The worker's clock is another one.
        self.state = State::From(0);
        Ok(())
    }

    /// Number of further MAC addresses that the PF refused when the VF was opened.
    pub fn refused_macs(&self) -> usize {
        self.refused_macs
    }

    fn own_pools(&self) -> Pools {
        Pools::new(self.pools.0, self.pools.1, 2048)
    }

    /// Starts the queues, once all is agreed with the PF. False if there are too few mbufs.
    fn start(&mut self, pools: &mut Pools) -> bool {
        let registers = &self.registers;
        // Frames and messages wake by the same vector, which masks itself when it has.
        registers.write32(EIMC, u32::MAX);
        registers.write32(IVAR0, IVAR_VALID);
        registers.write32(IVAR_MISC, IVAR_VALID);
        registers.write32(EIAC, VECTOR_0);
        registers.write32(EIAM, VECTOR_0);
        self.tx.start(registers, pools);
        let cache = if self.receives_large {
            &mut pools.large
        } else {
            &mut pools.small
        };
        if !self.rx.start(registers, cache) {
            return false;
        }
        self.state = State::Running;
        self.stats.read(registers);
        self.read_link();
        true
    }

    fn read_link(&mut self) {
        self.link = if self.registers.read32(STATUS) & STATUS_LU != 0 {
            LinkState::Up
        } else {
            LinkState::Down
        };
    }

    /// The PF has forgotten this VF: from the start again.
    fn begin_again(&mut self, now_ms: u64) {
        self.stats.read(&self.registers);
        self.stats.forget_last();
        self.stats.count_reset();
        RxQueue::<D>::stop(&self.registers);
        TxQueue::<D>::stop(&self.registers);
        let bring_up = BringUp::begin(&self.registers, &mut self.mailbox, now_ms);
        self.state = State::BringUp(bring_up);
        self.link = LinkState::Waiting;
    }

    /// Whether the device answers: one that was removed, or is being reset, reads as all ones. Once it
    /// answers again it is brought up from the start.
    fn is_there(&mut self, now_ms: u64) -> bool {
        let answers = self.registers.read32(STATUS) != u32::MAX;
        match (answers, self.link == LinkState::Gone) {
            (true, false) => {}
            (true, true) => self.begin_again(now_ms),
            (false, true) => {}
            (false, false) => {
                self.stats.forget_last();
                self.state = State::From(now_ms);
                self.link = LinkState::Gone;
            }
        }
        answers
    }

    fn bring_up(&mut self, pools: &mut Pools, now_ms: u64) {
        let State::BringUp(bring_up) = &mut self.state else {
            return;
        };
        match bring_up.go_on(&self.registers, &mut self.mailbox, &self.wishes, now_ms) {
            Progress::Going | Progress::Silent => {}
            Progress::Done if self.start(pools) => {}
            Progress::Done | Progress::Refused(_) => {
                self.state = State::From(now_ms + AFTER_REFUSAL_MS);
            }
        }
    }

    fn is_running(&self) -> bool {
        matches!(self.state, State::Running)
    }
}

fn check<D: Device>(device: &D, config: &IgbVfConfig) -> Result<(), IgbVfError> {
    let addr = device.addr();
    let (vendor, id) = device.ids();
    if (vendor, id) != regs::IDS {
        return Err(IgbVfError::OtherDevice {
            device: addr,
            vendor,
            id,
        });
    }
    if !(68..=MAX_MTU).contains(&config.mtu) {
        return Err(IgbVfError::Mtu {
            device: addr,
            mtu: config.mtu,
        });
    }
    for descriptors in [config.rx_descriptors, config.tx_descriptors] {
        if !descriptors.is_power_of_two() || !(64..=4096).contains(&descriptors) {
            return Err(IgbVfError::Descriptors {
                device: addr,
                descriptors,
            });
        }
    }
    Ok(())
}

impl<D: Device> Drop for IgbVf<D> {
    /// Queues off, the function reset and closed, and only then its mbufs home.
    fn drop(&mut self) {
        RxQueue::<D>::stop(&self.registers);
        TxQueue::<D>::stop(&self.registers);
        drop(self.device.take());
        let mut pools = self.own_pools();
        self.rx.give_back(|mbuf| pools.free(mbuf));
        self.tx.give_back(|mbuf| pools.free(mbuf));
    }
}

impl<D: Device> Wake for IgbVf<D> {
    fn wake_fds(&self, add: &mut dyn FnMut(BorrowedFd<'_>)) {
        if let Some(interrupt) = &self.interrupt {
            add(interrupt.as_fd());
        }
    }

    fn arm(&mut self) -> bool {
        if !self.is_running() {
            return true;
        }
        self.registers.write32(EIMS, VECTOR_0);
        !self.rx.has_frames() && !self.mailbox.has_news(&self.registers)
    }

    /// The vector masks itself when it wakes, but the worker may have been woken by another port.
    fn disarm(&mut self) {
        if self.is_running() {
            self.registers.write32(EIMC, VECTOR_0);
        }
    }

    /// A PF that has come back does not call.
    fn may_miss_wakeups(&self) -> bool {
        !self.is_running()
    }
}

impl<D: Device> Uplink for IgbVf<D> {
    fn driver(&self) -> &'static str {
        "igbvf"
    }

    fn device(&self) -> &str {
        &self.name
    }

    fn mtu(&self) -> u32 {
        self.mtu
    }

    fn rx_burst(&mut self, context: &mut PortContext<'_>, out: &mut Burst) {
        if !self.is_running() {
            return;
        }
        let cache = if self.receives_large {
            &mut context.pools.large
        } else {
            &mut context.pools.small
        };
        self.rx.receive(&self.registers, cache, context.drops, out);
    }

    fn tx_room(&mut self, context: &mut PortContext<'_>) -> usize {
        if !self.is_running() {
            return usize::MAX;
        }
        self.tx.room(context.pools)
    }

    fn tx_burst(&mut self, context: &mut PortContext<'_>, burst: &mut Burst) -> Sent {
        if !self.is_running() {
            context.drops.add(DropReason::LinkDown, burst.len() as u64);
            context.pools.free_burst(burst);
            return Sent::default();
        }
        self.tx
            .send(&self.registers, context.pools, context.drops, burst)
    }

    fn housekeeping(&mut self, context: &mut PortContext<'_>, now_ms: u64) {
        if !self.is_there(now_ms) {
            return;
        }
        match self.state {
            State::From(moment) if now_ms < moment => {}
            State::From(_) => {
                let bring_up = BringUp::begin(&self.registers, &mut self.mailbox, now_ms);
                self.state = State::BringUp(bring_up);
            }
            State::BringUp(_) => self.bring_up(context.pools, now_ms),
            State::Running => match self.mailbox.listen(&self.registers) {
                Heard::Reset | Heard::Forgotten => self.begin_again(now_ms),
                _ if !RxQueue::<D>::is_on(&self.registers) => self.begin_again(now_ms),
                Heard::Nothing | Heard::Done(_) | Heard::Refused => {
                    self.read_link();
                    self.tx.reclaim(context.pools);
                    self.rx.tell(&self.registers);
                    if now_ms.wrapping_sub(self.stats_at_ms) >= STATS_EVERY_MS {
                        self.stats_at_ms = now_ms;
                        self.stats.read(&self.registers);
                    }
                }
            },
        }
    }

    fn report(&self) -> UplinkReport {
        UplinkReport {
            link: self.link,
            nic: Some(self.stats.counters()),
        }
    }
}
