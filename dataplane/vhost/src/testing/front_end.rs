// SPDX-License-Identifier: Apache-2.0
//! Front end over a socket: it sets a device up, and sends and receives frames.

use std::collections::VecDeque;
use std::io::{IoSlice, Read};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use rustix::event::{EventfdFlags, eventfd};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};

use super::driver_ring::DriverRing;
use super::guest_memory::{GUEST, GuestMemory};
use crate::features;
use crate::msg::RingAddresses;
use crate::queue::WRITE;
use crate::region::RegionSpec;

/// Sizes of a front end's device.
#[derive(Debug, Clone, Copy)]
pub struct Setup {
    /// Queue pairs.
    pub pairs: u16,
    /// Descriptors of each ring, a power of two.
    pub ring_size: u16,
    /// Bytes of each buffer, the header before a frame included.
    pub buffer: usize,
    /// Features that it chooses.
    pub features: u64,
}

impl Default for Setup {
    fn default() -> Setup {
        Setup {
            pairs: 1,
            ring_size: 256,
            buffer: 2048,
            features: features::OFFERED,
        }
    }
}

/// Front end: its socket, its memory and its rings. Ring 2n is where pair n receives, ring 2n + 1 where
/// it sends.
#[derive(Debug)]
pub struct FrontEnd {
    socket: UnixStream,
    setup: Setup,
    /// Memory with the rings and, behind them, a buffer for each descriptor.
    pub memory: GuestMemory,
    /// Rings by their number.
    pub rings: Vec<DriverRing>,
    /// Eventfds by which it kicks.
    pub kicks: Vec<OwnedFd>,
    /// Eventfds by which it is interrupted.
    pub calls: Vec<OwnedFd>,
    /// Buffers of each sending ring that are free.
    free: Vec<VecDeque<u16>>,
}

impl FrontEnd {
    /// Front end over a connected socket; nothing is sent yet.
    pub fn new(socket: UnixStream, setup: Setup) -> FrontEnd {
        let count = 2 * usize::from(setup.pairs);
        let size = usize::from(setup.ring_size);
        let rings_bytes = count * DriverRing::bytes(setup.ring_size);
        let memory =
            GuestMemory::new((rings_bytes + count * size * setup.buffer).next_multiple_of(2 << 20));
        let event = |_| eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC).unwrap();
        let ring = |n| {
            let at = n * DriverRing::bytes(setup.ring_size);
            DriverRing::new(memory.region().clone(), at, setup.ring_size)
        };
        socket
            .set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        FrontEnd {
            rings: (0..count).map(ring).collect(),
            kicks: (0..count).map(event).collect(),
            calls: (0..count).map(event).collect(),
            free: (0..setup.pairs)
                .map(|_| (0..setup.ring_size).collect())
                .collect(),
            memory,
            socket,
            setup,
        }
    }

    /// Offset in the memory of the buffer of descriptor `number` of ring `ring`.
    pub fn buffer(&self, ring: usize, number: u16) -> usize {
        let rings = self.rings.len() * DriverRing::bytes(self.setup.ring_size);
        let size = usize::from(self.setup.ring_size);
        rings + (ring * size + usize::from(number % self.setup.ring_size)) * self.setup.buffer
    }

    /// Guest's physical address of that buffer.
    pub fn buffer_address(&self, ring: usize, number: u16) -> u64 {
        GUEST + self.buffer(ring, number) as u64
    }

    /// Sends bytes as they are, with file descriptors.
    pub fn send_raw(&self, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> rustix::io::Result<()> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(64))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !fds.is_empty() {
            assert!(control.push(SendAncillaryMessage::ScmRights(fds)));
        }
        let slice = [IoSlice::new(bytes)];
        rustix::net::sendmsg(&self.socket, &slice, &mut control, SendFlags::NOSIGNAL).map(|_| ())
    }

    /// Bytes of a request.
    pub fn message(request: u32, flags: u32, payload: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for word in [request, flags, payload.len() as u32] {
            bytes.extend(word.to_ne_bytes());
        }
        bytes.extend(payload);
        bytes
    }

    /// Sends a request that wants no answer of its own.
    pub fn tell(&self, request: u32, payload: &[u8], fds: &[BorrowedFd<'_>]) {
        // The device may have closed the connection already.
        let _ = self.send_raw(&FrontEnd::message(request, 1, payload), fds);
    }

    /// Sends a request and returns its answer; `None`: the device closed the connection.
    pub fn ask(&self, request: u32, payload: &[u8], fds: &[BorrowedFd<'_>]) -> Option<u64> {
        let bytes = FrontEnd::message(request, 9, payload);
        self.send_raw(&bytes, fds).ok()?;
        self.answer(request)
    }

    /// Waits for the answer to a request; `None`: the device closed the connection.
    pub fn answer(&self, request: u32) -> Option<u64> {
        let mut bytes = [0; 20];
        (&self.socket).read_exact(&mut bytes).ok()?;
        let (header, payload) = bytes.split_at(12);
        let words: Vec<u32> = header
            .chunks_exact(4)
            .map(|word| u32::from_ne_bytes(word.try_into().unwrap()))
            .collect();
        assert_eq!(words, [request, 5, 8], "an answer to something else");
        Some(u64::from_ne_bytes(payload.try_into().unwrap()))
    }

    /// Whether the device closed the connection, as it does with whom it refuses.
    pub fn closed(&self) -> bool {
        match (&self.socket).read(&mut [0]) {
            Ok(read) => read == 0,
            Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
        }
    }

    /// Payload of a memory table.
    pub fn table(regions: &[RegionSpec]) -> Vec<u8> {
        let mut bytes = (regions.len() as u64).to_ne_bytes().to_vec();
        bytes.extend(regions.iter().flat_map(FrontEnd::region));
        bytes
    }

    /// Bytes of a region.
    pub fn region(spec: &RegionSpec) -> Vec<u8> {
        [
            spec.guest_address,
            spec.bytes,
            spec.user_address,
            spec.file_offset,
        ]
        .iter()
        .flat_map(|word| word.to_ne_bytes())
        .collect()
    }

    /// Payload of a ring and a number.
    pub fn ring_state(index: u32, num: u32) -> Vec<u8> {
        [index.to_ne_bytes(), num.to_ne_bytes()].concat()
    }

    /// Payload of a ring's addresses.
    pub fn ring_addresses(addresses: &RingAddresses) -> Vec<u8> {
        let mut bytes = FrontEnd::ring_state(addresses.index, addresses.flags);
        for word in [
            addresses.descriptors,
            addresses.used,
            addresses.available,
            0,
        ] {
            bytes.extend(word.to_ne_bytes());
        }
        bytes
    }

    /// Begins as QEMU and DPDK do: features are asked for, rings switched on before features are chosen.
    pub fn begin(&self) -> Option<()> {
        self.tell(1, &[], &[]);
        self.answer(1)?;
        self.tell(15, &[], &[]);
        let protocol = self.answer(15)?;
        self.tell(16, &protocol.to_ne_bytes(), &[]);
        self.tell(3, &[], &[]);
        for ring in 0..self.rings.len() as u32 {
            self.set_call(ring)?;
            self.ask(18, &FrontEnd::ring_state(ring, 1), &[])?;
        }
        self.ask(2, &self.setup.features.to_ne_bytes(), &[])
            .map(|_| ())
    }

    /// Passes the eventfd by which ring `ring` interrupts.
    pub fn set_call(&self, ring: u32) -> Option<u64> {
        let fd = self.calls[ring as usize].as_fd();
        self.ask(13, &u64::from(ring).to_ne_bytes(), &[fd])
    }

    /// Passes all memory.
    pub fn share_memory(&self) -> Option<u64> {
        let table = FrontEnd::table(&[self.memory.spec()]);
        self.ask(5, &table, &[self.memory.as_fd()])
    }

    /// Sets ring `ring` up, all but its kick.
    pub fn set_ring(&self, ring: u32) -> Option<u64> {
        let driver = &self.rings[ring as usize];
        self.ask(8, &FrontEnd::ring_state(ring, driver.size().into()), &[])?;
        let base = driver.next_index();
        self.ask(10, &FrontEnd::ring_state(ring, base.into()), &[])?;
        let addresses = FrontEnd::ring_addresses(&driver.addresses(ring));
        self.ask(9, &addresses, &[])
    }

    /// Passes the eventfd by which ring `ring` is kicked: with it, the ring is ready.
    pub fn set_kick(&self, ring: u32) -> Option<u64> {
        let fd = self.kicks[ring as usize].as_fd();
        self.ask(12, &u64::from(ring).to_ne_bytes(), &[fd])
    }

    /// Whole setup: afterwards the rings run. `None`: the device closed the connection.
    pub fn set_up(&mut self) -> Option<()> {
        self.begin()?;
        self.share_memory()?;
        for ring in 0..self.rings.len() as u32 {
            self.set_ring(ring)?;
        }
        for pair in 0..usize::from(self.setup.pairs) {
            self.post(pair, self.setup.ring_size);
        }
        for ring in 0..self.rings.len() as u32 {
            self.set_kick(ring)?;
        }
        Some(())
    }

    /// Stops ring `ring` and returns its next index.
    pub fn stop_ring(&self, ring: u32) -> Option<u16> {
        self.tell(11, &FrontEnd::ring_state(ring, 0), &[]);
        self.answer(11).map(|word| (word >> 32) as u16)
    }

    /// Makes the first `count` buffers of a receiving ring available.
    pub fn post(&mut self, pair: usize, count: u16) {
        let ring = 2 * pair;
        for number in 0..count {
            let address = self.buffer_address(ring, number);
            let len = self.setup.buffer as u32;
            let driver = &mut self.rings[ring];
            driver.describe(number, address, len, WRITE, 0);
            driver.offer(number);
        }
        self.rings[ring].publish();
    }

    /// Bytes of the header before a frame.
    pub fn header(&self) -> usize {
        features::header_bytes(self.setup.features)
    }

    /// Sends frames of one piece each on pair `pair`, as far as buffers are free. Returns how many.
    pub fn send(&mut self, pair: usize, frames: &[&[u8]]) -> usize {
        let ring = 2 * pair + 1;
        while let Some((head, _)) = self.rings[ring].used() {
            self.free[pair].push_back(head);
        }
        let mut sent = 0;
        for frame in frames {
            let Some(head) = self.free[pair].pop_front() else {
                break;
            };
            let at = self.buffer(ring, head);
            let bytes = [&vec![0; self.header()][..], frame].concat();
            self.memory.region().copy_out(at, &bytes).unwrap();
            let address = self.buffer_address(ring, head);
            let driver = &mut self.rings[ring];
            driver.describe(head, address, bytes.len() as u32, 0, 0);
            driver.offer(head);
            sent += 1;
        }
        if self.rings[ring].publish() {
            self.kick(ring);
        }
        sent
    }

    /// Kicks ring `ring`.
    pub fn kick(&self, ring: usize) {
        let _ = rustix::io::write(&self.kicks[ring], &1_u64.to_ne_bytes());
    }

    /// Receives all frames that are there on pair `pair`, and makes their buffers available again.
    pub fn receive(&mut self, pair: usize) -> Vec<Vec<u8>> {
        let ring = 2 * pair;
        let mut frames = Vec::new();
        while let Some((head, len)) = self.rings[ring].used() {
            let mut frame = self.take(ring, head, len);
            let header: Vec<u8> = frame.drain(..self.header()).collect();
            let buffers = header
                .get(10..12)
                .map_or(1, |count| u16::from_le_bytes(count.try_into().unwrap()));
            for _ in 1..buffers {
                // All buffers of a frame are published together.
                let (head, len) = self.rings[ring].used().unwrap();
                frame.extend(self.take(ring, head, len));
            }
            frames.push(frame);
        }
        self.rings[ring].publish();
        frames
    }

    /// Bytes that were written to a buffer, which is made available again.
    fn take(&mut self, ring: usize, head: u16, len: u32) -> Vec<u8> {
        let mut bytes = vec![0; len as usize];
        let at = self.buffer(ring, head);
        self.memory.region().copy_in(at, &mut bytes).unwrap();
        self.rings[ring].offer(head);
        bytes
    }

    /// Socket, for what the calls above do not offer.
    pub fn socket(&self) -> &UnixStream {
        &self.socket
    }
}
