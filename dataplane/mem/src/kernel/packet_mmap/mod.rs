// SPDX-License-Identifier: Apache-2.0
//! A kernel netdev as packet rings: AF_PACKET with TPACKET_V2 (packet(7),
//! Documentation/networking/packet_mmap.rst in the kernel's source).
//!
//! Frames cross between kernel and user in slots of a shared ring, without a system call per frame:
//! receiving makes none, sending one per burst ([`PacketSocket::flush`]). Before each frame, in both
//! directions, lies a virtio_net_hdr (PACKET_VNET_HDR): on receive it says which checksum is not
//! filled in yet and whether the frame is a GSO super-frame, and without it the kernel would hand
//! over such frames with no word about them.
//!
//! Where things lie in a slot, TPACKET_V2 with PACKET_VNET_HDR (net/packet/af_packet.c):
//!
//! ```text
//! rx   tpacket2_hdr (32) | sockaddr_ll (20) | ... | virtio_net_hdr (10) | frame from tp_mac on
//! tx   tpacket2_hdr (32) | virtio_net_hdr (10) | frame            tp_len counts the last two
//! ```
//!
//! The kernel takes an outermost 802.1Q or 802.1ad tag out of what it receives (tag and TPID are in
//! the slot's header) but leaves tags alone in what it sends.
//!
//! A frame longer than its receive slot is cut by the kernel, which with [`PacketConfig::long_frames`]
//! keeps it whole beside the ring: then [`PacketSocket::recv`] fetches it, a system call for each of
//! these alone. What is cut all the same is [`RxFrame::truncated`].
//!
//! The netdev may go away or go down at any time. The socket stays, mute: the kernel unbinds it when the
//! netdev is deleted or moved to another namespace, for good, and has it receive again when a netdev
//! that was down is up. [`PacketSocket::take_error`] and [`PacketSocket::is_bound`] tell.

mod frame;
mod long;
mod ring;
mod sys;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::SendFlags;

pub use frame::{GsoInfo, GsoKind, RxFrame};
pub(crate) use frame::{VNET_HDR_BYTES, VnetHdr};

use crate::error::Error;
use long::LongFrames;
use ring::{Geometry, Rings, TX_OVERHEAD};

/// Bytes of a receive slot beyond the MTU: a header with two tags, and the ring's own (about 100).
const RX_OVERHEAD: u32 = 160;
/// Memory that long frames may take while they wait, in bytes: about 300 super-frames of 64 KiB.
const LONG_FRAMES_BYTES: i32 = 32 << 20;

/// Configuration of a [`PacketSocket`] and its rings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PacketConfig {
    /// Slots of the receive ring, 1 to 65536; rounded up to whole blocks.
    pub rx_frames: u32,
    /// Bytes of a receive slot, headers included (about 100); rounded up to cache lines.
    pub rx_frame_bytes: u32,
    /// Whether frames that are longer than a slot, GSO super-frames above all, are kept whole: up to
    /// 64 KiB each and 32 MB together.
    pub long_frames: bool,
    /// Slots of the send ring, 1 to 65536; rounded up to whole blocks.
    pub tx_frames: u32,
    /// Bytes of a send slot, headers included (42); rounded up to cache lines.
    pub tx_frame_bytes: u32,
    /// Whether to receive frames for other MACs too.
    pub promiscuous: bool,
    /// Whether to send past the netdev's queueing discipline, which is faster; then neither traffic
    /// control nor tcpdump on this host sees what is sent. Where the kernel refuses it frames take
    /// the ordinary way.
    pub qdisc_bypass: bool,
}

impl PacketConfig {
    /// For a netdev of `mtu_bytes`: 2048 slots each way for two tags and the MTU (7 MB at an MTU of
    /// 1500), longer frames beside the ring; promiscuous, past the queueing discipline.
    pub fn for_mtu(mtu_bytes: u32) -> PacketConfig {
        const ETH_AND_TWO_TAGS: u32 = 14 + 8;
        let mtu_bytes = mtu_bytes.min(1 << 17);
        PacketConfig {
            rx_frames: 2048,
            rx_frame_bytes: mtu_bytes + RX_OVERHEAD,
            long_frames: true,
            tx_frames: 2048,
            tx_frame_bytes: mtu_bytes + ETH_AND_TWO_TAGS + TX_OVERHEAD,
            promiscuous: true,
            qdisc_bypass: true,
        }
    }
}

impl Default for PacketConfig {
    fn default() -> PacketConfig {
        PacketConfig::for_mtu(1500)
    }
}

/// Answer of the function given to [`PacketSocket::recv`], per frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Frame taken; continue with the next one.
    Take,
    /// Leave it in the ring and end the burst.
    Leave,
}

/// Counts since the socket was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PacketStats {
    /// Frames that the netdev had for this socket, the dropped ones included.
    pub packets: u64,
    /// Frames among them that found the receive ring full.
    pub drops: u64,
}

/// A netdev's frames, sent and received. Its own sent frames do not come back.
#[derive(Debug)]
pub struct PacketSocket {
    fd: OwnedFd,
    rings: Rings,
    long: LongFrames,
    stats: PacketStats,
}

impl PacketSocket {
    /// Opens the netdev with index `ifindex` in the calling thread's network namespace; afterwards the
    /// socket works from any. Needs CAP_NET_RAW.
    ///
    /// # Errors
    /// [`Error::Packet`] with the step that the kernel refused, [`Error::PacketSlots`] for a
    /// geometry it would refuse.
    pub fn open(ifindex: u32, config: PacketConfig) -> Result<PacketSocket, Error> {
        let rx = Geometry::new("receive", config.rx_frames, config.rx_frame_bytes)?;
        let tx = Geometry::new("send", config.tx_frames, config.tx_frame_bytes)?;
        let fail = |step| {
            move |source| Error::Packet {
                ifindex,
                step,
                source,
            }
        };

        // Protocol 0: nothing arrives before bind says from which netdev.
        let fd = sys::socket().map_err(fail("socket(AF_PACKET)"))?;
        sys::set_version_2(&fd).map_err(fail("PACKET_VERSION"))?;
        sys::set_flag(&fd, libc::PACKET_VNET_HDR, true).map_err(fail("PACKET_VNET_HDR"))?;
        // A frame that the kernel finds malformed would otherwise block the send ring for good.
        sys::set_flag(&fd, libc::PACKET_LOSS, true).map_err(fail("PACKET_LOSS"))?;
        // Before Linux 4.20 there is no such option; `recv` looks at each frame's type as well.
        let _ = sys::set_flag(&fd, libc::PACKET_IGNORE_OUTGOING, true);
        if config.qdisc_bypass {
            let _ = sys::set_flag(&fd, libc::PACKET_QDISC_BYPASS, true);
        }
        sys::raise_send_buffer(&fd, tx.bytes());
        if config.long_frames {
            sys::keep_long_frames(&fd, LONG_FRAMES_BYTES).map_err(fail("PACKET_COPY_THRESH"))?;
        }
        sys::set_ring(&fd, libc::PACKET_RX_RING, rx.request()).map_err(fail("PACKET_RX_RING"))?;
        sys::set_ring(&fd, libc::PACKET_TX_RING, tx.request()).map_err(fail("PACKET_TX_RING"))?;
        let rings = Rings::map(&fd, rx, tx).map_err(fail("mmap of the rings"))?;
        sys::bind(&fd, ifindex).map_err(fail("bind"))?;
        if config.promiscuous {
            sys::join_promiscuous(&fd, ifindex).map_err(fail("PACKET_MR_PROMISC"))?;
        }
        Ok(PacketSocket {
            fd,
            rings,
            long: LongFrames::new(),
            stats: PacketStats::default(),
        })
    }

    /// Gives up to `max` received frames to `f`, oldest first, and each one's slot back to the
    /// kernel when `f` has taken it. Returns how many `f` took. Makes no system call but one for each
    /// frame that is longer than its slot.
    #[inline]
    pub fn recv(&mut self, max: usize, f: impl FnMut(RxFrame<'_>) -> Next) -> usize {
        self.rings.recv(max, &mut self.long, &self.fd, f)
    }

    /// Whether a received frame is waiting. For a last look before sleeping on the fd.
    #[inline]
    pub fn has_frames(&self) -> bool {
        self.rings.has_frames()
    }

    /// The longest frame that [`PacketSocket::send`] takes, in bytes.
    pub fn max_frame(&self) -> usize {
        self.rings.max_frame()
    }

    /// Returns the number of frames that [`PacketSocket::send`] takes before the kernel has sent one
    /// more.
    pub fn tx_room(&mut self) -> usize {
        self.rings.tx_room()
    }

    /// Has `write` put a frame into the next send slot: it gets [`PacketSocket::max_frame`] bytes
    /// that hold anything, and returns the frame's length, tags included, checksums filled in. The
    /// frame leaves with the next [`PacketSocket::flush`]. A length below 14 or above `max_frame`
    /// sends nothing. False, and `write` is not called, if the ring is full.
    #[inline]
    pub fn send(&mut self, write: impl FnOnce(&mut [u8]) -> usize) -> bool {
        self.rings.send(write)
    }

    /// Has the kernel send what is in the send ring: one system call, or none if there is nothing.
    /// True if it took all. False: the netdev is congested, try again later; frames stay in the
    /// ring.
    ///
    /// # Errors
    /// What the kernel said, ENETDOWN above all: frames stay in the ring.
    pub fn flush(&mut self) -> std::io::Result<bool> {
        if !self.rings.has_unsent() {
            return Ok(true);
        }
        match rustix::net::send(&self.fd, &[], SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
            Ok(_) | Err(Errno::AGAIN | Errno::NOBUFS | Errno::INTR) => Ok(!self.rings.has_unsent()),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Takes the error that the kernel has noted at the socket, ENETDOWN when its netdev went down or
    /// away; one system call.
    pub fn take_error(&mut self) -> Option<std::io::Error> {
        let noted = rustix::net::sockopt::socket_error(&self.fd);
        let noted = noted.and_then(|noted| noted).err();
        noted.or(self.long.take_error()).map(Into::into)
    }

    /// Whether the socket still has its netdev; false for good once that was deleted or moved to another
    /// network namespace. One system call.
    pub fn is_bound(&self) -> bool {
        sys::bound_index(&self.fd).is_ok_and(|index| index.is_some())
    }

    /// Counts since the socket was opened; one system call.
    pub fn stats(&mut self) -> PacketStats {
        // The kernel's counts start anew with each reading.
        if let Ok(new) = sys::statistics(&self.fd) {
            self.stats.packets += u64::from(new.tp_packets);
            self.stats.drops += u64::from(new.tp_drops);
        }
        self.stats
    }
}

impl AsFd for PacketSocket {
    /// Readable when frames are waiting, writable when the send ring has an empty slot.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
