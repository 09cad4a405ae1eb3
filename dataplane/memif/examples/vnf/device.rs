// SPDX-License-Identifier: Apache-2.0
//! A memif as smoltcp sees a network device.

use sluice_memif::{BURST, FrameList, Memif};
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::time::Instant;

/// Bytes of an Ethernet header.
const HEADER: usize = 14;

/// All queues of a memif, as one device.
#[derive(Debug)]
pub(crate) struct MemifDevice {
    pub(crate) memif: Memif,
    pub(crate) received: u64,
    pub(crate) sent: u64,
    /// Frames for which the ring had no room.
    pub(crate) dropped: u64,
    mtu: usize,
    waiting: FrameList,
    /// The next frame is made here, then gathered into the ring.
    scratch: Vec<u8>,
    /// Frames that this turn may still take: a flood must not keep signals or timers waiting.
    budget: usize,
}

impl MemifDevice {
    pub(crate) fn new(memif: Memif, mtu: usize) -> MemifDevice {
        MemifDevice {
            memif,
            received: 0,
            sent: 0,
            dropped: 0,
            mtu,
            waiting: FrameList::default(),
            scratch: Vec::new(),
            budget: 0,
        }
    }

    /// Begins a turn: takes a burst from each queue. Whether there was anything.
    pub(crate) fn fill(&mut self) -> bool {
        for queue in 0..self.memif.queues().0 {
            self.memif.recv(queue, BURST, &mut self.waiting);
        }
        self.budget = self.waiting.len();
        self.budget > 0
    }
}

impl Device for MemifDevice {
    type RxToken<'a> = Frame;
    type TxToken<'a> = Slot<'a>;

    fn receive(&mut self, _: Instant) -> Option<(Frame, Slot<'_>)> {
        self.budget = self.budget.checked_sub(1)?;
        let frame = self.waiting.pop()?;
        self.received += 1;
        Some((Frame(frame), Slot(self)))
    }

    fn transmit(&mut self, _: Instant) -> Option<Slot<'_>> {
        self.memif.is_up().then_some(Slot(self))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = self.mtu + HEADER;
        capabilities
    }
}

/// A received frame: a private copy.
pub(crate) struct Frame(Vec<u8>);

impl RxToken for Frame {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, use_it: F) -> R {
        use_it(&self.0)
    }
}

/// Leave to send one frame.
pub(crate) struct Slot<'a>(&'a mut MemifDevice);

impl TxToken for Slot<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, fill: F) -> R {
        let device = self.0;
        device.scratch.clear();
        device.scratch.resize(len, 0);
        let result = fill(&mut device.scratch);
        if device.memif.send(0, &[&device.scratch]) {
            device.sent += 1;
        } else {
            device.dropped += 1;
        }
        result
    }
}
