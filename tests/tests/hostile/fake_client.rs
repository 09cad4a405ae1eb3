// SPDX-License-Identifier: Apache-2.0
//! Fake memif client driven step by step: it can send and write anything.

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use sluice_mem::SharedRegion;
use sluice_memif::layout::{COOKIE, Direction, ring_bytes};
use sluice_memif::msg::{AddRing, Init, MODE_ETHERNET, Message, VERSION};
use sluice_memif::{Address, Channel, Text, connect};
use sluice_tests::{Netns, wait_for};

/// Binary logarithm of the ring size: more descriptors than the engine takes at once.
pub(crate) const LOG2: u8 = 10;
pub(crate) const SLOTS: u16 = 1 << LOG2;
/// Offset of the ring to the engine.
pub(crate) const TO_ENGINE: usize = 0;
pub(crate) const FROM_ENGINE: usize = 20_480;
/// Offset of the buffers, those to the engine first. Descriptors share buffers: there are fewer.
const BUFFERS: usize = 40_960;
const SHARED: u16 = 16;
pub(crate) const BUFFER: usize = 2048;
/// Size of the client's memory, in bytes.
pub(crate) const BYTES: usize = BUFFERS + 2 * BUFFER * SHARED as usize;
/// Offset of the head index in a ring.
pub(crate) const HEAD: usize = 6;
pub(crate) const TAIL: usize = 64;
const FLAGS: usize = 4;
const DESCRIPTORS: usize = 128;
/// Limit for an engine under attack to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Attachment under attack: its pod and the name of its interface.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) pod: Arc<Netns>,
    pub(crate) ifname: &'static str,
}

impl Target {
    pub(crate) fn address(&self) -> Address {
        Address::Abstract(format!("sluicegate/{}", self.ifname))
    }

    /// Connects to the engine and sends nothing.
    pub(crate) fn channel(&self) -> Result<Channel> {
        let address = self.address();
        self.pod
            .enter(move || wait_for("the engine's socket", PATIENCE, || connect(&address).ok()))
    }
}

/// Descriptor as it lies in a ring.
#[derive(Clone, Copy, Default)]
pub(crate) struct Descriptor {
    pub(crate) flags: u16,
    pub(crate) region: u16,
    pub(crate) length: u32,
    pub(crate) offset: u32,
}

/// Fake client with its memory and eventfds.
pub(crate) struct FakeClient {
    pub(crate) channel: Channel,
    pub(crate) memory: SharedRegion,
    fd: OwnedFd,
    events: Vec<OwnedFd>,
}

/// Creates a memory file with these flags, to be passed as a region.
pub(crate) fn memfd(flags: MemfdFlags, bytes: u64) -> Result<OwnedFd> {
    let fd = memfd_create("client", flags | MemfdFlags::CLOEXEC)?;
    ftruncate(&fd, bytes)?;
    Ok(fd)
}

pub(crate) fn init() -> Init {
    Init {
        version: VERSION,
        id: 0,
        mode: MODE_ETHERNET,
        secret: None,
        name: Text::new("client"),
    }
}

/// Makes the message by which a correct client announces the ring of a direction.
pub(crate) fn ring(direction: Direction) -> AddRing {
    let (flags, offset) = match direction {
        Direction::ClientToServer => (1, TO_ENGINE),
        Direction::ServerToClient => (0, FROM_ENGINE),
    };
    AddRing {
        flags,
        index: 0,
        region: 0,
        offset: offset as u32,
        log2: LOG2,
        private_header: 0,
    }
}

impl FakeClient {
    /// Connects and receives HELLO.
    pub(crate) fn open(target: &Target) -> Result<FakeClient> {
        assert!(TO_ENGINE + ring_bytes(LOG2) as usize <= FROM_ENGINE);
        let (memory, fd) = SharedRegion::create_sealed("client", BYTES)?;
        for ring in [TO_ENGINE, FROM_ENGINE] {
            memory.store_u32(ring, COOKIE, Ordering::Relaxed)?;
            // Polled, as a busy peer's rings are.
            memory.store_u16(ring + FLAGS, 1, Ordering::Relaxed)?;
        }
        let channel = target.channel()?;
        let client = FakeClient {
            channel,
            memory,
            fd,
            events: Vec::new(),
        };
        match client.hear()? {
            Message::Hello(_) => Ok(client),
            other => bail!("{other:?} where HELLO was due"),
        }
    }

    /// Connects and completes the handshake.
    pub(crate) fn connected(target: &Target) -> Result<FakeClient> {
        let mut client = FakeClient::open(target)?;
        client.prepare()?;
        client.join()?;
        Ok(client)
    }

    /// Sends INIT, one region and two rings.
    pub(crate) fn prepare(&mut self) -> Result<()> {
        self.say(&Message::Init(init()))?;
        self.region()?;
        self.ring(&ring(Direction::ClientToServer))?;
        self.ring(&ring(Direction::ServerToClient))
    }

    /// Announces the client's own region.
    pub(crate) fn region(&mut self) -> Result<()> {
        let size = BYTES as u64;
        let fd = self.fd.try_clone()?;
        self.give(&Message::AddRegion { index: 0, size }, &[fd.as_fd()])
    }

    /// Announces a ring with an eventfd of its own.
    pub(crate) fn ring(&mut self, ring: &AddRing) -> Result<()> {
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        self.events.push(event.try_clone()?);
        self.give(&Message::AddRing(ring.clone()), &[event.as_fd()])
    }

    /// Sends CONNECT.
    pub(crate) fn join(&self) -> Result<()> {
        let name = Text::new("client");
        self.say(&Message::Connect { name })
    }

    /// Sends a message without a file descriptor, which the engine must acknowledge.
    pub(crate) fn say(&self, message: &Message) -> Result<()> {
        self.give(message, &[])
    }

    /// Sends a message with file descriptors, which the engine must acknowledge.
    pub(crate) fn give(&self, message: &Message, fds: &[BorrowedFd<'_>]) -> Result<()> {
        self.raw(&message.encode(), fds)?;
        match self.hear()? {
            Message::Ack | Message::Connected { .. } => Ok(()),
            other => bail!("{other:?}"),
        }
    }

    /// Sends any bytes, with any file descriptors.
    pub(crate) fn raw(&self, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> Result<()> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !fds.is_empty() {
            anyhow::ensure!(control.push(SendAncillaryMessage::ScmRights(fds)), "fds");
        }
        let parts = [std::io::IoSlice::new(bytes)];
        sendmsg(
            self.channel.as_fd(),
            &parts,
            &mut control,
            SendFlags::NOSIGNAL,
        )?;
        Ok(())
    }

    /// Receives the engine's next message.
    pub(crate) fn hear(&self) -> Result<Message> {
        let limit = Instant::now() + PATIENCE;
        while Instant::now() < limit {
            if let Some(received) = self.channel.receive()? {
                return Ok(received.message);
            }
            let mut ready = [PollFd::new(&self.channel, PollFlags::IN)];
            let a_while = Timespec {
                tv_sec: 0,
                tv_nsec: 50_000_000,
            };
            poll(&mut ready, Some(&a_while))?;
        }
        bail!("the engine does not answer")
    }

    /// Writes a descriptor.
    pub(crate) fn describe(&self, ring: usize, slot: u16, descriptor: Descriptor) -> Result<()> {
        let at = ring + DESCRIPTORS + 16 * usize::from(slot % SLOTS);
        let word = u128::from(descriptor.flags)
            | u128::from(descriptor.region) << 16
            | u128::from(descriptor.length) << 32
            | u128::from(descriptor.offset) << 64;
        self.memory.write16(at, word.to_le_bytes())?;
        Ok(())
    }

    /// Writes an index of a ring.
    pub(crate) fn index(&self, ring: usize, field: usize, value: u16) -> Result<()> {
        self.memory
            .store_u16(ring + field, value, Ordering::Release)?;
        Ok(())
    }

    pub(crate) fn read_index(&self, ring: usize, field: usize) -> Result<u16> {
        Ok(self.memory.load_u16(ring + field, Ordering::Acquire)?)
    }

    /// Returns the offset of the buffer of a descriptor to the engine.
    pub(crate) fn buffer(slot: u16) -> usize {
        BUFFERS + BUFFER * usize::from(slot % SHARED)
    }

    /// Posts every buffer of the ring from the engine.
    pub(crate) fn post_all(&self) -> Result<()> {
        for slot in 0..SLOTS {
            let offset = FakeClient::buffer(slot) + BUFFER * usize::from(SHARED);
            let empty = Descriptor {
                length: BUFFER as u32,
                offset: offset as u32,
                ..Descriptor::default()
            };
            self.describe(FROM_ENGINE, slot, empty)?;
        }
        self.index(FROM_ENGINE, HEAD, SLOTS)
    }

    /// Sends `frame` on slot after slot, as fast as the engine takes it, until `enough` says so.
    pub(crate) fn flood(&self, frame: &[u8], mut enough: impl FnMut() -> bool) -> Result<u64> {
        for slot in 0..SLOTS {
            self.memory.copy_out(FakeClient::buffer(slot), frame)?;
            let descriptor = Descriptor {
                length: frame.len() as u32,
                offset: FakeClient::buffer(slot) as u32,
                ..Descriptor::default()
            };
            self.describe(TO_ENGINE, slot, descriptor)?;
        }
        let mut sent = 0;
        while !enough() {
            let tail = self.read_index(TO_ENGINE, TAIL)?;
            let head = tail.wrapping_add(SLOTS);
            let old = self.read_index(TO_ENGINE, HEAD)?;
            sent += u64::from(head.wrapping_sub(old));
            self.index(TO_ENGINE, HEAD, head)?;
            std::hint::spin_loop();
        }
        Ok(sent)
    }

    /// Returns the eventfds that the engine writes to, that of the ring to the engine first.
    pub(crate) fn events(&self) -> &[OwnedFd] {
        &self.events
    }

    /// Returns the memory file of the client.
    pub(crate) fn memory_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Has the engine write its eventfd whenever it sends.
    pub(crate) fn ask_for_wakeups(&self) -> Result<()> {
        self.memory
            .store_u16(FROM_ENGINE + FLAGS, 0, Ordering::Relaxed)?;
        Ok(())
    }
}
