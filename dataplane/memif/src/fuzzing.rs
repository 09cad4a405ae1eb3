// SPDX-License-Identifier: Apache-2.0
//! Queue whose peer is played by a fuzzer.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rustix::event::{EventfdFlags, eventfd};
use sluice_mem::SharedRegion;

use crate::fault::Fault;
use crate::layout::{Descriptor, Direction, HEAD_AT, RingSpec, TAIL_AT, ring_bytes};
use crate::queue::{OwnBuffers, Ring, RxBuffers, RxQueue, TxBuffers, TxQueue};
use sluice_peer::Kicker;

/// Bytes of a buffer.
const BUFFER: u32 = 2048;

/// Queue under test.
#[derive(Debug)]
pub enum Queue {
    /// Receive queue.
    Rx(RxQueue),
    /// Transmit queue.
    Tx(TxQueue),
}

/// Memory for a ring of one queue, and its kick thread: made once for many queues, one after the
/// other, since making them takes longer than most of a fuzzer's tries.
#[derive(Debug)]
pub struct Side {
    region: SharedRegion,
    spec: RingSpec,
    own: OwnBuffers,
    zeros: Vec<u8>,
    kicker: Kicker,
}

/// A live queue, and the memory that it shares.
#[derive(Debug)]
pub struct Live {
    region: SharedRegion,
    ring: Ring,
    own: OwnBuffers,
    queue: Queue,
}

fn broken(fault: Fault) -> io::Error {
    io::Error::other(fault.to_string())
}

fn event() -> io::Result<OwnedFd> {
    Ok(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?)
}

impl Side {
    /// For rings of `1 << log2` descriptors.
    ///
    /// # Errors
    /// The system has no memory for it, or no thread.
    pub fn new(log2: u8) -> io::Result<Side> {
        let first = u32::try_from(ring_bytes(log2).next_multiple_of(4096)).unwrap_or(4096);
        let bytes = (first + (BUFFER << log2)) as usize;
        let failed = |error: sluice_mem::Error| io::Error::other(error.to_string());
        let (region, _) = SharedRegion::create_sealed("fuzz", bytes).map_err(failed)?;
        Ok(Side {
            region,
            spec: RingSpec {
                direction: Direction::ClientToServer,
                index: 0,
                region: 0,
                offset: 0,
                log2,
            },
            own: OwnBuffers {
                first,
                stride: BUFFER,
                capacity: BUFFER,
            },
            zeros: vec![0; bytes],
            kicker: Kicker::spawn("memif-kick", vec![Some(event()?)])?,
        })
    }

    /// A queue on memory that is all zero, but for the ring's cookie. One of the four kinds, by the last
    /// two bits of `kind`: server's or client's, receiving or sending. The one before is not to be used
    /// any more.
    ///
    /// # Errors
    /// The system has no more file descriptors.
    pub fn live(&self, kind: u8) -> io::Result<Live> {
        let Side {
            region, spec, own, ..
        } = self;
        region.copy_out(0, &self.zeros).map_err(io::Error::other)?;
        let ring = || Ring::new(region.clone(), spec).map_err(broken);
        ring()?.format(false).map_err(broken)?;
        let regions: Arc<[SharedRegion]> = [region.clone()].into();
        let queue = if kind & 2 == 0 {
            let buffers = match kind & 1 {
                0 => RxBuffers::Peer(regions),
                _ => RxBuffers::Own(region.clone(), *own),
            };
            RxQueue::new(ring()?, buffers, event()?, false).map(Queue::Rx)
        } else {
            let buffers = match kind & 1 {
                0 => TxBuffers::Peer(regions),
                _ => TxBuffers::Own(region.clone(), *own),
            };
            let kick = self.kicker.kick(0);
            let kick = kick.ok_or_else(|| io::Error::other("no kick"))?;
            TxQueue::new(ring()?, buffers, kick).map(Queue::Tx)
        };
        Ok(Live {
            ring: ring()?,
            queue: queue.map_err(broken)?,
            region: region.clone(),
            own: *own,
        })
    }
}

impl Live {
    /// Queue under test.
    pub fn queue(&mut self) -> &mut Queue {
        &mut self.queue
    }

    /// Writes the head.
    ///
    /// # Errors
    /// The memory is gone.
    pub fn head(&self, value: u16) -> Result<(), Fault> {
        self.store(HEAD_AT, value)
    }

    /// Writes the tail.
    ///
    /// # Errors
    /// The memory is gone.
    pub fn tail(&self, value: u16) -> Result<(), Fault> {
        self.store(TAIL_AT, value)
    }

    /// Writes any descriptor.
    pub fn descriptor(&self, slot: u16, flags: u16, region: u16, length: u32, offset: u32) {
        let descriptor = Descriptor {
            flags,
            region,
            length,
            offset,
        };
        self.ring.write(slot, descriptor);
    }

    /// Writes a descriptor that lies in its own buffer, as an honest peer's does.
    pub fn good(&self, slot: u16, flags: u16, length: u32) {
        let slot = slot & self.ring.mask();
        self.descriptor(slot, flags & 1, 0, length, self.own.offset(slot));
    }

    /// Writes bytes anywhere in the memory; past its end, nowhere.
    ///
    /// # Errors
    /// None: where it cannot be written, it is not.
    pub fn poke(&self, at: usize, bytes: &[u8]) -> Result<(), Fault> {
        let _ = self.region.copy_out(at, bytes);
        Ok(())
    }

    fn store(&self, at: usize, value: u16) -> Result<(), Fault> {
        let stored = self.region.store_u16(at, value, Ordering::Release);
        stored.map_err(|_| Fault::MemoryGone)
    }
}
