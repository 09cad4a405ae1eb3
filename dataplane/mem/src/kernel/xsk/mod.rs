// SPDX-License-Identifier: Apache-2.0
//! A kernel netdev as AF_XDP sockets, one for each of its receive queues
//! (Documentation/networking/af_xdp.rst in the kernel's source).
//!
//! The packet memory is a mempool of ours: what the kernel receives it writes, or has the device write,
//! straight into mbufs, and it sends out of them. Receiving makes no system call, sending one per
//! burst; with a driver that has AF_XDP of its own (zero copy) only where the kernel asks for one.
//!
//! While an [`Xsk`] lives no frame of its netdev reaches the host's stack, and frames that find no room are
//! dropped and counted ([`XskStats`]). Program, map and sockets end with the process, however it ends.
//!
//! **Tags.** AF_XDP shows a frame's bytes and nothing else: a tag that the netdev took out of them is lost
//! without a trace. Whoever opens a netdev sees to it that tags stay in the bytes
//! ([`offloads`](super::offloads)).
//!
//! Needs Linux 5.9, and CAP_NET_RAW, CAP_NET_ADMIN and CAP_BPF.

mod program;
mod queue;
mod rings;
mod umem;

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::thread;
use std::time::{Duration, Instant};

use program::XdpProgram;
use queue::Queue;
use umem::Umem;

use crate::error::Error;
use crate::mempool::layout::BufSize;
use crate::{Backing, Cache, Mbuf, Mempool};

/// Longest wait for the kernel to be done with frames of a netdev that is being closed.
const CLOSE_WAIT: Duration = Duration::from_millis(100);

/// Place where the XDP program runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum XdpMode {
    /// In the netdev's driver.
    Native,
    /// In the kernel's common receive path, for drivers without XDP.
    Generic,
}

/// Configuration of an [`Xsk`].
#[derive(Debug, Clone, Copy)]
pub struct XskConfig {
    /// Interface index in the calling thread's network namespace.
    pub ifindex: u32,
    /// Receive queues of the netdev, all of them, 1 to 64.
    pub queues: u32,
    /// Entries of each ring, a power of two from 64 to 16384. So many mbufs of each queue wait for frames.
    pub entries: u32,
    /// Packet memory: a pool of [`BufSize::Small`].
    pub pool: Mempool,
    /// Modes to try in this order.
    pub modes: &'static [XdpMode],
}

impl XskConfig {
    /// The driver's own XDP, else the kernel's.
    pub const ANY_MODE: &'static [XdpMode] = &[XdpMode::Native, XdpMode::Generic];

    /// Longest frame that can be received, in bytes: what is longer the kernel drops.
    pub fn longest_frame() -> usize {
        Umem::longest(BufSize::Small)
    }
}

/// Frames that the kernel dropped or refused since the sockets were opened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct XskStats {
    /// Received frames that found no mbuf or no room in the receive ring, or were too long.
    pub rx_dropped: u64,
    /// Descriptors of ours that the kernel refused.
    pub refused: u64,
}

/// A netdev's frames, received from all its queues and sent by the first.
#[derive(Debug)]
pub struct Xsk {
    /// Before the sockets, so that it ends first.
    program: Option<XdpProgram>,
    queues: Box<[Queue]>,
    umem: Umem,
    /// Queue to begin the next burst with.
    next: usize,
    /// Reason why an earlier mode of the list could not be had.
    passed_over: Option<String>,
}

impl Xsk {
    /// Opens a netdev of the calling thread's network namespace; afterwards it works from any. Frames come
    /// once [`Xsk::refill`] has given the kernel mbufs. May wait some 100 ms for sockets that have just been
    /// closed.
    ///
    /// # Errors
    /// [`Error::Xdp`] with the step that the kernel refused.
    pub fn open(config: XskConfig) -> Result<Xsk, Error> {
        let fail = |step, source| Error::Xdp {
            ifindex: config.ifindex,
            step,
            source,
        };
        let mut passed_over = None;
        let mut program = Err(("XDP mode", io::ErrorKind::InvalidInput.into()));
        for &mode in config.modes {
            program = XdpProgram::attach(config.ifindex, config.queues, mode);
            match &program {
                Ok(_) => break,
                Err((step, error)) => {
                    passed_over = Some(format!("no {mode:?} XDP: {step}: {error}"));
                }
            }
        }
        let program = program.map_err(|(step, source)| fail(step, source))?;
        // Pages that are not contiguous cannot be handed to a device in chunks that cross them.
        let zero_copy = program.mode() == XdpMode::Native && config.pool.backing() == Backing::Huge;
        let mut queues = Vec::with_capacity(config.queues as usize);
        for number in 0..config.queues {
            let queue = Queue::open(&config, number, zero_copy)
                .map_err(|(step, source)| fail(step, source))?;
            program
                .serve(number, &queue)
                .map_err(|source| fail("BPF_MAP_UPDATE_ELEM", source))?;
            queues.push(queue);
        }
        Ok(Xsk {
            passed_over: passed_over.filter(|_| program.mode() == XdpMode::Generic),
            program: Some(program),
            queues: queues.into(),
            umem: Umem::new(config.pool),
            next: 0,
        })
    }

    /// Mode of the program.
    pub fn mode(&self) -> XdpMode {
        self.program
            .as_ref()
            .map_or(XdpMode::Generic, XdpProgram::mode)
    }

    /// Whether the device reads and writes mbufs itself, on every queue.
    pub fn is_zero_copy(&self) -> bool {
        self.queues.iter().all(Queue::is_zero_copy)
    }

    /// Reason why the driver's own XDP could not be had, where [`Xsk::mode`] is generic for want of it.
    pub fn passed_over(&self) -> Option<&str> {
        self.passed_over.as_deref()
    }

    /// Names the fds that are readable when frames wait, one for each queue.
    pub fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.queues.iter().map(AsFd::as_fd)
    }

    /// Whether a received frame is waiting.
    pub fn has_frames(&self) -> bool {
        self.queues.iter().any(Queue::has_frames)
    }

    /// Gives the kernel mbufs to receive into, as many as there is room for and the cache has.
    #[inline]
    pub fn refill(&mut self, cache: &mut Cache) {
        for queue in &mut self.queues {
            queue.refill(&mut self.umem, cache);
        }
    }

    /// Hands out up to `max` received frames, queue by queue; each begins with its destination MAC. `bad`
    /// gets the mbufs of descriptors that make no sense. Call [`Xsk::refill`] after it.
    #[inline]
    pub fn recv(&mut self, max: usize, mut take: impl FnMut(Result<Mbuf, Mbuf>)) -> usize {
        let count = self.queues.len();
        let mut taken = 0;
        for turn in 0..count {
            let at = (self.next + turn) % count;
            taken += self.queues[at].recv(max - taken, &mut self.umem, &mut take);
            if taken == max {
                break;
            }
        }
        // The others come first next time.
        self.next = (self.next + 1) % count;
        taken
    }

    /// Number of frames that [`Xsk::send`] takes now. Takes back what was sent.
    #[inline]
    pub fn tx_room(&mut self, free: impl FnMut(Mbuf)) -> usize {
        match self.queues.first_mut() {
            Some(queue) => {
                queue.complete(&mut self.umem, free);
                queue.tx_room()
            }
            None => 0,
        }
    }

    /// Takes a frame to be sent with the next [`Xsk::flush`], for as many as [`Xsk::tx_room`] said.
    ///
    /// # Errors
    /// The mbuf itself, if it is not of the packet memory or there is no room.
    #[inline]
    pub fn send(&mut self, mbuf: Mbuf) -> Result<(), Mbuf> {
        match self.queues.first_mut() {
            Some(queue) => queue.send(mbuf, &mut self.umem),
            None => Err(mbuf),
        }
    }

    /// Has the kernel send what was taken. False if it did not take all: call again.
    #[inline]
    pub fn flush(&mut self) -> bool {
        self.queues.first_mut().is_none_or(Queue::flush)
    }

    /// Whether the netdev was deleted or moved to another network namespace since the last call: the sockets
    /// are mute for good. A system call for each queue.
    pub fn has_ended(&self) -> bool {
        self.queues.iter().any(Queue::has_ended)
    }

    /// Counts since the sockets were opened; a system call for each queue.
    pub fn stats(&self) -> XskStats {
        self.queues.iter().map(Queue::stats).fold(
            XskStats::default(),
            |XskStats {
                 rx_dropped,
                 refused,
             },
             queue| XskStats {
                rx_dropped: rx_dropped + queue.rx_dropped,
                refused: refused + queue.refused,
            },
        )
    }

    /// Number of mbufs that the kernel has.
    pub fn held(&self) -> usize {
        self.umem.held()
    }

    /// Packet memory.
    pub fn pool(&self) -> Mempool {
        self.umem.pool()
    }
}

impl Drop for Xsk {
    /// Ends the program, so that no more frames come, waits a moment for those that are being sent, and
    /// closes the sockets. Only then may mbufs that the kernel had be used again.
    fn drop(&mut self) {
        if let Some(program) = self.program.take() {
            // Explicitly: an fd that a child has inherited for a moment would keep it.
            program.detach();
        }
        let end = Instant::now() + CLOSE_WAIT;
        while Instant::now() < end {
            for queue in &mut self.queues {
                queue.flush();
                queue.complete(&mut self.umem, drop);
            }
            if self.queues.iter().all(|queue| !queue.is_sending()) {
                break;
            }
            thread::sleep(Duration::from_millis(1));
        }
        self.queues = Box::default();
    }
}
