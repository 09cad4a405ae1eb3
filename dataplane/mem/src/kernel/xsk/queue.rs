// SPDX-License-Identifier: Apache-2.0
//! Receive queue of a netdev: an AF_XDP socket and its four rings.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::thread;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::xdp::{SocketAddrXdp, SocketAddrXdpFlags, XdpUmemReg, XdpUmemRegFlags};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, sockopt};

use super::rings::{COMPLETION_RING, Consumer, Descriptor, FILL_RING, Producer, RX_RING, TX_RING};
use super::umem::Umem;
use super::{XskConfig, XskStats};
use crate::mempool::layout::BufSize;
use crate::{Burst, Cache, DmaMemory, Mbuf};

/// Longest wait for the kernel to free a queue whose socket was closed: it does so later, mostly within
/// 20 ms.
const BUSY_WAIT: Duration = Duration::from_millis(200);
/// System calls of one flush at most. In copy mode the kernel sends 32 frames a call.
const CALLS: usize = 8;
/// Mbufs fetched from the cache at a time.
const REFILL: usize = 32;

/// Step that the kernel refused, and its answer.
type Refusal = (&'static str, io::Error);

/// Socket of one receive queue.
#[derive(Debug)]
pub(super) struct Queue {
    fd: OwnedFd,
    fill: Producer<u64>,
    completion: Consumer<u64>,
    rx: Consumer<Descriptor>,
    tx: Producer<Descriptor>,
    zero_copy: bool,
    /// Mbufs given to the kernel to fill that did not come back yet.
    filling: u32,
    /// Mbufs given to the kernel to send that did not come back yet.
    sending: u32,
    spare: Burst,
}

impl Queue {
    /// Opens the socket of queue `number`, with zero copy if `zero_copy` and the driver has it.
    pub(super) fn open(config: &XskConfig, number: u32, zero_copy: bool) -> Result<Queue, Refusal> {
        if zero_copy && let Ok(queue) = Queue::bind(config, number, true) {
            return Ok(queue);
        }
        Queue::bind(config, number, false)
    }

    fn bind(config: &XskConfig, number: u32, zero_copy: bool) -> Result<Queue, Refusal> {
        let end = Instant::now() + BUSY_WAIT;
        loop {
            match Queue::bind_once(config, number, zero_copy) {
                Err(("bind", error))
                    if Errno::from_io_error(&error) == Some(Errno::BUSY)
                        && Instant::now() < end =>
                {
                    thread::sleep(Duration::from_millis(5));
                }
                result => return result,
            }
        }
    }

    fn bind_once(config: &XskConfig, number: u32, zero_copy: bool) -> Result<Queue, Refusal> {
        let XskConfig {
            ifindex,
            entries,
            pool,
            ..
        } = *config;
        let refused = |step: &'static str| move |errno: Errno| (step, io::Error::from(errno));
        let mapped = |step: &'static str| move |error: io::Error| (step, error);

        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let fd = rustix::net::socket_with(AddressFamily::XDP, SocketType::RAW, flags, None)
            .map_err(refused("socket(AF_XDP)"))?;
        let (base, bytes) = pool.range();
        let memory = XdpUmemReg {
            addr: base.as_ptr() as u64,
            len: bytes as u64,
            chunk_size: u32::try_from(Umem::chunk_bytes(BufSize::Small)).unwrap_or(u32::MAX),
            headroom: 0,
            flags: XdpUmemRegFlags::XDP_UMEM_UNALIGNED_CHUNK_FLAG,
            tx_metadata_len: 0,
        };
        sockopt::set_xdp_umem_reg(&fd, memory).map_err(refused("XDP_UMEM_REG"))?;
        sockopt::set_xdp_umem_fill_ring_size(&fd, entries)
            .map_err(refused("XDP_UMEM_FILL_RING"))?;
        sockopt::set_xdp_umem_completion_ring_size(&fd, entries)
            .map_err(refused("XDP_UMEM_COMPLETION_RING"))?;
        sockopt::set_xdp_rx_ring_size(&fd, entries).map_err(refused("XDP_RX_RING"))?;
        sockopt::set_xdp_tx_ring_size(&fd, entries).map_err(refused("XDP_TX_RING"))?;
        let at = sockopt::xdp_mmap_offsets(&fd).map_err(refused("XDP_MMAP_OFFSETS"))?;
        let fill = Producer::map(&fd, FILL_RING, &at.fr, entries)
            .map_err(mapped("mmap of the fill ring"))?;
        let completion = Consumer::map(&fd, COMPLETION_RING, &at.cr, entries)
            .map_err(mapped("mmap of the completion ring"))?;
        let rx = Consumer::map(&fd, RX_RING, &at.rx, entries)
            .map_err(mapped("mmap of the receive ring"))?;
        let tx = Producer::map(&fd, TX_RING, &at.tx, entries)
            .map_err(mapped("mmap of the send ring"))?;
        let how = if zero_copy {
            SocketAddrXdpFlags::XDP_ZEROCOPY
        } else {
            SocketAddrXdpFlags::XDP_COPY
        };
        let address = SocketAddrXdp::new(
            how | SocketAddrXdpFlags::XDP_USE_NEED_WAKEUP,
            ifindex,
            number,
        );
        rustix::net::bind(&fd, &address).map_err(refused("bind"))?;
        Ok(Queue {
            fd,
            fill,
            completion,
            rx,
            tx,
            zero_copy,
            filling: 0,
            sending: 0,
            spare: Burst::new(),
        })
    }

    pub(super) fn is_zero_copy(&self) -> bool {
        self.zero_copy
    }

    pub(super) fn has_frames(&self) -> bool {
        self.rx.is_waiting()
    }

    /// Whether the kernel has frames to send.
    pub(super) fn is_sending(&self) -> bool {
        self.sending > 0
    }

    #[inline]
    pub(super) fn refill(&mut self, umem: &mut Umem, cache: &mut Cache) {
        let mut wanted = self.fill.entries() - self.filling;
        if wanted == 0 {
            return;
        }
        wanted = wanted.min(self.fill.room());
        let mut pushed = false;
        while wanted > 0 {
            if self.spare.is_empty() {
                cache.alloc_burst(&mut self.spare, REFILL.min(wanted as usize));
            }
            let Some(mbuf) = self.spare.pop() else { break };
            match umem.lend(mbuf) {
                Ok(chunk) => {
                    self.fill.push(chunk);
                    self.filling += 1;
                    pushed = true;
                }
                // A cache of another pool than the sockets were opened with.
                Err(stranger) => return cache.free(stranger),
            }
            wanted -= 1;
        }
        if pushed {
            self.fill.publish();
        }
        if self.fill.needs_wakeup() && self.zero_copy {
            let _ = rustix::net::recv(&self.fd, &mut [0u8; 0][..], RecvFlags::DONTWAIT);
        }
    }

    #[inline]
    pub(super) fn recv(
        &mut self,
        max: usize,
        umem: &mut Umem,
        take: &mut impl FnMut(Result<Mbuf, Mbuf>),
    ) -> usize {
        let mut taken = 0;
        while taken < max {
            let Some(Descriptor { addr, len, .. }) = self.rx.pop() else {
                break;
            };
            taken += 1;
            match umem.received(addr, len) {
                Ok(mbuf) => take(Ok(mbuf)),
                Err(Some(mbuf)) => take(Err(mbuf)),
                Err(None) => continue,
            }
            self.filling = self.filling.saturating_sub(1);
        }
        if taken > 0 {
            self.rx.give_back();
        }
        taken
    }

    /// Takes back what the kernel has sent.
    #[inline]
    pub(super) fn complete(&mut self, umem: &mut Umem, mut free: impl FnMut(Mbuf)) {
        let mut any = false;
        while let Some(addr) = self.completion.pop() {
            any = true;
            if let Some(mbuf) = umem.reclaim(addr) {
                self.sending = self.sending.saturating_sub(1);
                free(mbuf);
            }
        }
        if any {
            self.completion.give_back();
        }
    }

    /// Number of frames that can be taken: the completion ring must have room for each.
    #[inline]
    pub(super) fn tx_room(&mut self) -> usize {
        let unsent = self.tx.room();
        unsent.min(self.tx.entries() - self.sending) as usize
    }

    #[inline]
    pub(super) fn send(&mut self, mbuf: Mbuf, umem: &mut Umem) -> Result<(), Mbuf> {
        if self.sending == self.tx.entries() {
            return Err(mbuf);
        }
        let len = u32::try_from(mbuf.len()).unwrap_or(0);
        let addr = umem.lend_data(mbuf)?;
        self.tx.push(Descriptor {
            addr,
            len,
            options: 0,
        });
        self.sending += 1;
        Ok(())
    }

    /// Shows the kernel what was taken and has it send that. False if some is left.
    #[inline]
    pub(super) fn flush(&mut self) -> bool {
        self.tx.publish();
        for _ in 0..CALLS {
            self.tx.room();
            if self.tx.unread() == 0 {
                return true;
            }
            if !self.tx.needs_wakeup() {
                // The driver sends by itself.
                return true;
            }
            match rustix::net::send(&self.fd, &[], SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
                // EAGAIN says that a call's share of frames was sent.
                Ok(_) | Err(Errno::AGAIN) => {}
                Err(_) => break,
            }
        }
        self.tx.room();
        self.tx.unread() == 0
    }

    /// Whether the kernel has noted that the netdev is gone. It does so once.
    pub(super) fn has_ended(&self) -> bool {
        matches!(
            rustix::net::sockopt::socket_error(&self.fd),
            Ok(Err(Errno::NETDOWN))
        )
    }

    pub(super) fn stats(&self) -> XskStats {
        let Ok(stats) = sockopt::xdp_statistics(&self.fd) else {
            return XskStats::default();
        };
        XskStats {
            // An empty fill ring is among the dropped.
            rx_dropped: stats.rx_dropped + stats.rx_ring_full.unwrap_or(0),
            refused: stats.rx_invalid_descs + stats.tx_invalid_descs,
        }
    }
}

impl AsFd for Queue {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
