// SPDX-License-Identifier: Apache-2.0
//! A kernel netdev as an uplink, over AF_PACKET's shared rings: any netdev will do, no driver of
//! ours is needed.
//!
//! Receiving makes no system call but for super-frames; sending makes one per burst. What the kernel leaves to others is
//! done here: tags that it took out of the bytes go into the frame's facts, checksums it left open
//! are filled in, and the super-frames of its own TCP are cut to the size it names. Frames that this
//! host sends on the netdev never come back.
//!
//! Sent frames carry their tag in the bytes, and [`SKB_MARK`], by which control's nftables rules tell
//! them from the host's own. Facts about the netdev are handed in: no netlink is spoken here. A frame may have the MTU and
//! four bytes of tag, which is what netdevs grant a VLAN; for a second tag the uplink's MTU must be
//! raised by four. Longer ones are [`DropReason::TooLong`], since a netdev would lose them in
//! silence.
//!
//! *A netdev that goes.* Control watches it and says so in the [`WatchedLink`]: while there is no link,
//! what is to be sent is [`DropReason::LinkDown`]. The port reads the socket's errors besides. Once the
//! netdev was deleted or moved to another namespace the port is at its end, reports
//! [`LinkState::Gone`], and is replaced by control.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use nix::sys::socket::{setsockopt, sockopt};
use sluice_mem::Burst;
use sluice_mem::packet_mmap::{Next, PacketConfig, PacketSocket};
use sluice_packet::VlanTag;
use sluice_stats::LinkState;

use super::arrival::{Arrival, Arrivals, Taken};
use super::tagged::Tagged;
use crate::drops::DropReason;
use crate::ports::kernel_drops::KernelDrops;
use crate::ports::seam::{PortContext, Sent, Uplink, UplinkReport, Wake};

pub use crate::ports::watched_link::WatchedLink;

/// The skb mark of frames that the engine sends. Frames lose it when they leave the namespace.
pub const SKB_MARK: u32 = 0x736c_7565;

/// Configuration of an AF_PACKET uplink.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AfPacketConfig {
    /// The netdev's name, in the network namespace of the thread that opens it.
    pub device: String,
    /// Interface index of the netdev in that namespace.
    pub index: u32,
    /// MTU of the netdev in bytes.
    pub mtu: u32,
    /// Frames of the receive ring, 1 to 65536. Each takes the MTU and some.
    pub rx_frames: u32,
    /// Frames of the send ring, 1 to 65536. Each takes the MTU and some.
    pub tx_frames: u32,
    /// Whether to see frames for all MACs: needed for attachments' own.
    pub promiscuous: bool,
    /// Whether super-frames of this host's TCP, of GRO and of peers on veth are received, up to 64 KiB
    /// each, and cut here. Without, they are [`DropReason::Oversize`]: right where
    /// `ethtool -K DEVICE gro off lro off` (and `tso off gso off` at a veth peer) sees to it that there
    /// are none.
    pub super_frames: bool,
}

impl AfPacketConfig {
    /// The usual: 2048 frames each way (7 MB at an MTU of 1500), promiscuous, with super-frames.
    pub fn new(device: impl Into<String>, index: u32, mtu: u32) -> AfPacketConfig {
        let PacketConfig {
            rx_frames,
            tx_frames,
            ..
        } = PacketConfig::default();
        AfPacketConfig {
            device: device.into(),
            index,
            mtu,
            rx_frames,
            tx_frames,
            promiscuous: true,
            super_frames: true,
        }
    }
}

/// Error of a netdev that cannot be an uplink.
#[derive(Debug, thiserror::Error)]
pub enum AfPacketError {
    /// Frames sent could not be marked.
    #[error("cannot mark what is sent on netdev {device}: {source}; this needs CAP_NET_ADMIN")]
    Mark {
        /// The device.
        device: String,
        /// Error of the system call.
        source: std::io::Error,
    },
    /// The rings could not be made.
    #[error("cannot open netdev {device}: {source}")]
    Open {
        /// The device.
        device: String,
        /// Error of the memory.
        source: sluice_mem::Error,
    },
}

/// An uplink on a kernel netdev.
#[derive(Debug)]
pub struct AfPacket {
    socket: PacketSocket,
    device: String,
    link: Arc<WatchedLink>,
    /// The netdev was deleted or moved: the socket is mute for good.
    ended: bool,
    arrivals: Arrivals,
    /// The kernel has frames of ours that it could not send yet.
    unsent: bool,
    kernel: KernelDrops,
}

impl AfPacket {
    /// Opens a netdev of the calling thread's network namespace; afterwards it works from any.
    /// After its MTU was raised, open it anew.
    ///
    /// # Errors
    /// The kernel refuses: there is no netdev of that index, or CAP_NET_RAW or CAP_NET_ADMIN is missing.
    pub fn open(config: AfPacketConfig) -> Result<AfPacket, AfPacketError> {
        let AfPacketConfig {
            device,
            index,
            mtu,
            rx_frames,
            tx_frames,
            promiscuous,
            super_frames,
        } = config;
        let rings = PacketConfig {
            rx_frames,
            long_frames: super_frames,
            tx_frames,
            promiscuous,
            ..PacketConfig::for_mtu(mtu)
        };
        let socket = match PacketSocket::open(index, rings) {
            Ok(socket) => socket,
            Err(source) => return Err(AfPacketError::Open { device, source }),
        };
        if let Err(errno) = setsockopt(&socket, sockopt::Mark, &SKB_MARK) {
            return Err(AfPacketError::Mark {
                device,
                source: errno.into(),
            });
        }
        Ok(AfPacket {
            socket,
            device,
            link: Arc::new(WatchedLink::new(mtu)),
            ended: false,
            arrivals: Arrivals::default(),
            unsent: false,
            kernel: KernelDrops::default(),
        })
    }

    /// The netdev's link, for control to note what it sees of it.
    pub fn link(&self) -> Arc<WatchedLink> {
        Arc::clone(&self.link)
    }

    fn state(&self) -> LinkState {
        if self.ended {
            LinkState::Gone
        } else {
            self.link.state()
        }
    }

    /// Longest frame to send, tags included, in bytes.
    fn longest(&self) -> usize {
        self.link.longest_frame().min(self.socket.max_frame())
    }

    fn send_rings(&mut self) {
        // What fails stays in the ring: a netdev that went down, of which control will say so.
        self.unsent = matches!(self.socket.flush(), Ok(false));
    }

    fn count_kernel_drops(&mut self, context: &PortContext<'_>) {
        let drops = self.socket.stats().drops;
        let new = drops.saturating_sub(self.kernel.counted);
        if new > 0 {
            context.drops.add(DropReason::KernelDropped, new);
        }
        self.kernel.counted = drops;
    }
}

impl Wake for AfPacket {
    fn wake_fds(&self, add: &mut dyn FnMut(BorrowedFd<'_>)) {
        add(self.socket.as_fd());
    }

    /// The kernel always wakes; what is left is the look, and frames that it could not send before.
    fn arm(&mut self) -> bool {
        if self.unsent {
            self.send_rings();
        }
        !self.unsent && !self.socket.has_frames()
    }

    fn disarm(&mut self) {}
}

impl Uplink for AfPacket {
    fn driver(&self) -> &'static str {
        "af_packet"
    }

    fn device(&self) -> &str {
        &self.device
    }

    fn mtu(&self) -> u32 {
        self.link.mtu()
    }

    fn rx_burst(&mut self, context: &mut PortContext<'_>, out: &mut Burst) {
        if self.unsent {
            self.send_rings();
        }
        let arrivals = &mut self.arrivals;
        let mut losing = false;
        let frames = self.socket.recv(out.room(), |frame| {
            losing |= frame.losing;
            if frame.truncated {
                let super_frame = frame.gso.is_some();
                let reason = if super_frame {
                    DropReason::Oversize
                } else {
                    DropReason::KernelDropped
                };
                context.drops.add(reason, 1);
                return Next::Take;
            }
            let arrival = Arrival {
                data: frame.data,
                tag: frame.vlan.map(|(tpid, tci)| VlanTag { tpid, tci }),
                checksum: frame.csum_not_ready,
                gso: frame.gso,
            };
            match arrivals.take(&arrival, context, out) {
                Taken::Whole => Next::Take,
                Taken::InPart => Next::Leave,
            }
        });
        if self.kernel.due(frames, losing) {
            self.count_kernel_drops(context);
        }
    }

    fn tx_room(&mut self, _context: &mut PortContext<'_>) -> usize {
        if self.state() == LinkState::Up {
            self.socket.tx_room()
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
        let longest = self.longest();
        let mut taken = 0;
        for mbuf in burst.iter() {
            let frame = Tagged::to_wire(mbuf);
            let len = frame.len();
            if len > longest {
                context.drops.add(DropReason::TooLong, 1);
            } else if self.socket.send(|space| frame.copy_to(space).unwrap_or(0)) {
                sent.add(len);
            } else {
                break;
            }
            taken += 1;
        }
        if taken == burst.len() {
            context.pools.free_burst(burst);
        } else {
            burst
                .drain_front(taken)
                .for_each(|mbuf| context.pools.free(mbuf));
        }
        self.send_rings();
        sent
    }

    /// Reads the socket's errors: a netdev that went down and one that went away both say ENETDOWN.
    fn housekeeping(&mut self, context: &mut PortContext<'_>, _now_ms: u64) {
        if !self.ended && self.socket.take_error().is_some() {
            self.ended = !self.socket.is_bound();
            if self.ended {
                self.count_kernel_drops(context);
            }
        }
    }

    fn report(&self) -> UplinkReport {
        UplinkReport {
            link: self.state(),
            nic: None,
        }
    }
}
