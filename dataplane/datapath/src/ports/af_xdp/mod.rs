// SPDX-License-Identifier: Apache-2.0
//! A kernel netdev as an uplink, over AF_XDP: past the kernel's stack, and with some drivers without a copy
//! between the NIC and the engine's mbufs.
//!
//! Frames are received straight into mbufs and sent out of them. What the kernel leaves to others is done
//! here: checksums that a kernel at the other end of a veth left open are filled in. Super-frames never
//! come: the kernel drops, and counts, what does not fit into an mbuf.
//!
//! | | AF_PACKET | AF_XDP |
//! |---|---|---|
//! | needs | CAP_NET_RAW, CAP_NET_ADMIN | CAP_BPF besides; Linux 5.9 |
//! | MTU | any | up to [`MAX_MTU`] |
//! | the host's stack | is kept off by nftables | sees no frame |
//! | a tag that the netdev took out of the bytes | is told | **is lost**: the offload must be off |
//! | super-frames | are cut | are dropped, and counted |
//!
//! Facts about the netdev are handed in, and its offloads switched by whoever opens it. Frames sent carry
//! their tag in the bytes; a frame may have the MTU and four bytes of tag, as with AF_PACKET.

use std::os::fd::BorrowedFd;
use std::sync::Arc;

use sluice_mem::xsk::{XdpMode, Xsk, XskConfig};
use sluice_mem::{BufSize, Burst, Mbuf, Mempool};
use sluice_packet::{VlanTag, open_checksum};
use sluice_stats::LinkState;

use super::crc32c::crc32c;
use super::kernel_drops::KernelDrops;
use super::tagged::put_in;
use super::watched_link::WatchedLink;
use crate::drops::DropReason;
use crate::frame::FrameInfo;
use crate::ports::seam::{PortContext, Sent, Uplink, UplinkReport, Wake};

/// Bytes of an Ethernet header with two tags.
const HEADER: usize = 14 + 2 * VlanTag::LEN;
/// Largest MTU in bytes: a frame with two tags must fit into a small mbuf behind the kernel's headroom.
pub const MAX_MTU: u32 = 1_898;
const _: () = assert!(MAX_MTU as usize + HEADER == 1920);

/// Configuration of an AF_XDP uplink.
#[derive(Debug, Clone)]
pub struct AfXdpConfig {
    /// The netdev's name, in the network namespace of the thread that opens it.
    pub device: String,
    /// Interface index of the netdev in that namespace.
    pub index: u32,
    /// MTU of the netdev in bytes, at most [`MAX_MTU`].
    pub mtu: u32,
    /// Receive queues of the netdev: all of them, 1 to 64.
    pub queues: u32,
    /// Frames of each ring, a power of two from 64 to 16384; each receive queue keeps so many mbufs.
    pub ring_frames: u32,
    /// The engine's pool of small mbufs.
    pub pool: Mempool,
    /// Modes to try in this order.
    pub modes: &'static [XdpMode],
}

/// Error of a netdev that cannot be an AF_XDP uplink.
#[derive(Debug, thiserror::Error)]
pub enum AfXdpError {
    /// MTU with which frames may be longer than an mbuf.
    #[error(
        "netdev {device} has an MTU of {mtu}: AF_XDP takes {MAX_MTU} at most; use driver: af_packet"
    )]
    Mtu {
        /// The device.
        device: String,
        /// MTU in bytes.
        mtu: u32,
    },
    /// The sockets could not be made.
    #[error("cannot open netdev {device}: {source}")]
    Open {
        /// The device.
        device: String,
        /// Error of the memory.
        source: sluice_mem::Error,
    },
}

/// An uplink on a kernel netdev, past its stack.
#[derive(Debug)]
pub struct AfXdp {
    xsk: Xsk,
    device: String,
    link: Arc<WatchedLink>,
    /// The netdev was deleted or moved: the sockets are mute for good.
    ended: bool,
    /// The kernel has frames of ours that it could not send yet.
    unsent: bool,
    kernel: KernelDrops,
    /// Descriptors that the kernel refused and that were counted.
    refused: u64,
}

impl AfXdp {
    /// Opens a netdev of the calling thread's network namespace; afterwards it works from any.
    ///
    /// # Errors
    /// The MTU is too large, or the kernel refuses a step, which is named.
    pub fn open(config: AfXdpConfig) -> Result<AfXdp, AfXdpError> {
        let AfXdpConfig {
            device,
            index,
            mtu,
            queues,
            ring_frames,
            pool,
            modes,
        } = config;
        if mtu > MAX_MTU {
            return Err(AfXdpError::Mtu { device, mtu });
        }
        let sockets = XskConfig {
            ifindex: index,
            queues,
            entries: ring_frames,
            pool,
            modes,
        };
        match Xsk::open(sockets) {
            Ok(xsk) => Ok(AfXdp {
                xsk,
                device,
                link: Arc::new(WatchedLink::new(mtu)),
                ended: false,
                unsent: false,
                kernel: KernelDrops::default(),
                refused: 0,
            }),
            Err(source) => Err(AfXdpError::Open { device, source }),
        }
    }

    /// The netdev's link, for control to note what it sees of it.
    pub fn link(&self) -> Arc<WatchedLink> {
        Arc::clone(&self.link)
    }

    /// Mode in a few words, for the log and the status: where the program runs, who copies, and why a
    /// better mode could not be had.
    pub fn mode(&self) -> String {
        let place = match self.xsk.mode() {
            XdpMode::Native => "native",
            XdpMode::Generic => "generic",
        };
        let copies = if self.xsk.is_zero_copy() {
            "zero copy"
        } else {
            "copy"
        };
        match self.xsk.passed_over() {
            Some(reason) => format!("{place}, {copies} ({reason})"),
            None => format!("{place}, {copies}"),
        }
    }

    fn state(&self) -> LinkState {
        if self.ended {
            LinkState::Gone
        } else {
            self.link.state()
        }
    }

    fn send_ring(&mut self) {
        self.unsent = !self.xsk.flush();
    }

    fn count_kernel_drops(&mut self, context: &PortContext<'_>) {
        let stats = self.xsk.stats();
        let dropped = stats.rx_dropped.saturating_sub(self.kernel.counted);
        if dropped > 0 {
            context.drops.add(DropReason::KernelDropped, dropped);
        }
        let refused = stats.refused.saturating_sub(self.refused);
        if refused > 0 {
            context.drops.add(DropReason::BadDescriptor, refused);
        }
        self.kernel.counted = stats.rx_dropped;
        self.refused = stats.refused;
    }

    /// The frame in packet memory, its tag in the bytes; it is freed and counted where that cannot be.
    #[inline]
    fn prepare(
        &self,
        mut mbuf: Mbuf,
        longest: usize,
        context: &mut PortContext<'_>,
    ) -> Option<Mbuf> {
        let reason = if !put_in(&mut mbuf) {
            DropReason::TxError
        } else if mbuf.len() > longest {
            DropReason::TooLong
        } else if context.pools.is_large(&mbuf) {
            match copy_to_small(&mbuf, context) {
                Ok(small) => {
                    context.pools.free(mbuf);
                    return Some(small);
                }
                Err(reason) => reason,
            }
        } else {
            return Some(mbuf);
        };
        context.drops.add(reason, 1);
        context.pools.free(mbuf);
        None
    }
}

/// Copies a frame in a large mbuf, as one that was made longer and shorter again.
#[cold]
fn copy_to_small(mbuf: &Mbuf, context: &mut PortContext<'_>) -> Result<Mbuf, DropReason> {
    if mbuf.len() > BufSize::Small.data_bytes() {
        return Err(DropReason::TooLong);
    }
    let mut small = context.pools.small.alloc().ok_or(DropReason::NoMbuf)?;
    if small.copy_from(mbuf.data()) {
        Ok(small)
    } else {
        context.pools.free(small);
        Err(DropReason::TooLong)
    }
}

impl Wake for AfXdp {
    fn wake_fds(&self, add: &mut dyn FnMut(BorrowedFd<'_>)) {
        self.xsk.fds().for_each(add);
    }

    /// The kernel always wakes; what is left is the look, and frames that it could not send before.
    fn arm(&mut self) -> bool {
        if self.unsent {
            self.send_ring();
        }
        !self.unsent && !self.xsk.has_frames()
    }

    fn disarm(&mut self) {}
}

impl Uplink for AfXdp {
    fn driver(&self) -> &'static str {
        "af_xdp"
    }

    fn device(&self) -> &str {
        &self.device
    }

    fn mtu(&self) -> u32 {
        self.link.mtu()
    }

    fn rx_burst(&mut self, context: &mut PortContext<'_>, out: &mut Burst) {
        if self.unsent {
            self.send_ring();
        }
        let frames = self.xsk.recv(out.room(), |received| match received {
            Ok(mut mbuf) => {
                open_checksum::complete(mbuf.data_mut(), crc32c);
                FrameInfo::begin(&mut mbuf, None);
                if let Err(mbuf) = out.push(mbuf) {
                    // Not reached: no more are asked for than there is room for.
                    context.pools.free(mbuf);
                }
            }
            Err(mbuf) => {
                context.drops.add(DropReason::BadDescriptor, 1);
                context.pools.free(mbuf);
            }
        });
        self.xsk.refill(&mut context.pools.small);
        // A full burst may be the first of many, and the ring behind it full.
        let losing = frames == out.len() && out.room() == 0;
        if self.kernel.due(frames, losing) {
            self.count_kernel_drops(context);
        }
    }

    fn tx_room(&mut self, context: &mut PortContext<'_>) -> usize {
        if self.state() == LinkState::Up {
            self.xsk.tx_room(|mbuf| context.pools.free(mbuf))
        } else {
            usize::MAX
        }
    }

    fn tx_burst(&mut self, context: &mut PortContext<'_>, burst: &mut Burst) -> Sent {
        let mut sent = Sent::default();
        if self.state() != LinkState::Up {
            context.drops.add(DropReason::LinkDown, burst.len() as u64);
            context.pools.free_burst(burst);
            return sent;
        }
        let room = self.xsk.tx_room(|mbuf| context.pools.free(mbuf));
        let longest = self.link.longest_frame();
        for mbuf in burst.drain_front(room) {
            let Some(mbuf) = self.prepare(mbuf, longest, context) else {
                continue;
            };
            let len = mbuf.len();
            match self.xsk.send(mbuf) {
                Ok(()) => sent.add(len),
                Err(mbuf) => {
                    context.drops.add(DropReason::TxError, 1);
                    context.pools.free(mbuf);
                }
            }
        }
        self.send_ring();
        sent
    }

    /// Takes back what was sent meanwhile, and looks whether the netdev is still there.
    fn housekeeping(&mut self, context: &mut PortContext<'_>, _now_ms: u64) {
        if !self.ended && self.xsk.has_ended() {
            self.ended = true;
            self.count_kernel_drops(context);
        }
        self.xsk.tx_room(|mbuf| context.pools.free(mbuf));
        self.xsk.refill(&mut context.pools.small);
    }

    fn report(&self) -> UplinkReport {
        UplinkReport {
            link: self.state(),
            nic: None,
        }
    }
}
