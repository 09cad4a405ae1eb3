// SPDX-License-Identifier: Apache-2.0
//! Attacks by file descriptors that are passed as memory and as eventfds.

use std::os::fd::{AsFd, OwnedFd};

use anyhow::Result;
use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::{MemfdFlags, ftruncate};
use sluice_memif::layout::Direction;
use sluice_memif::msg::Message;

use super::fake_client::{FakeClient, Target, init, memfd, ring};
use super::{Attack, attack};

const SIZE: u64 = 65_536;

pub(crate) const ATTACKS: &[Attack] = &[
    attack("a-file-as-memory", "", "cannot be sealed", |target| {
        // On a tmpfs as an emptyDir of the pod's may be: such a file has seals, but takes none.
        let file = tempfile::tempfile_in("/dev/shm")?;
        file.set_len(SIZE)?;
        with_region(target, file.into(), SIZE, 0)
    }),
    attack(
        "a-file-on-a-disk-as-memory",
        "",
        "is not a memfd",
        |target| {
            let file = tempfile::tempfile_in("/var/tmp")?;
            file.set_len(SIZE)?;
            with_region(target, file.into(), SIZE, 0)
        },
    ),
    attack("a-pipe-as-memory", "", "is not a memfd", |target| {
        let (pipe, _other) = std::io::pipe()?;
        with_region(target, pipe.into(), SIZE, 0)
    }),
    attack("a-folder-as-memory", "", "is not a memfd", |target| {
        with_region(target, std::fs::File::open("/")?.into(), SIZE, 0)
    }),
    attack("an-eventfd-as-memory", "", "is not a memfd", |target| {
        with_region(target, eventfd(0, EventfdFlags::empty())?, SIZE, 0)
    }),
    attack("huge-pages", "region-huge", "is on huge pages", |target| {
        let flags = MemfdFlags::HUGETLB | MemfdFlags::ALLOW_SEALING;
        with_region(target, memfd(flags, 2 << 20)?, 2 << 20, 0)
    }),
    attack(
        "memory-that-shrinks",
        "region-sealed",
        "cannot be sealed",
        |target| with_region(target, memfd(MemfdFlags::empty(), SIZE)?, SIZE, 0),
    ),
    attack(
        "memory-too-short",
        "region-short",
        "its file has 4096",
        |target| with_region(target, memfd(MemfdFlags::ALLOW_SEALING, 4096)?, SIZE, 0),
    ),
    attack(
        "memory-without-bytes",
        "region-empty",
        "region 0 is empty",
        |target| with_region(target, memfd(MemfdFlags::ALLOW_SEALING, SIZE)?, 0, 0),
    ),
    attack(
        "memory-without-end",
        "memory-limit",
        "bytes of shared memory are more",
        |target| {
            let sparse = memfd(MemfdFlags::ALLOW_SEALING, 1 << 40)?;
            with_region(target, sparse, 1 << 40, 0)
        },
    ),
    attack(
        "the-second-region-first",
        "region-index",
        "region index 1 where 0",
        |target| with_region(target, memfd(MemfdFlags::ALLOW_SEALING, SIZE)?, SIZE, 1),
    ),
    attack(
        "regions-without-end",
        "region-count",
        "more than 16 regions",
        |target| {
            let client = FakeClient::open(target)?;
            client.say(&Message::Init(init()))?;
            for index in 0..17 {
                let fd = memfd(MemfdFlags::ALLOW_SEALING, 4096)?;
                client.give(&Message::AddRegion { index, size: 4096 }, &[fd.as_fd()])?;
            }
            Ok(())
        },
    ),
    attack(
        "no-cookie",
        "ring-cookie",
        "the memory holds no ring there",
        |target| {
            let mut client = FakeClient::open(target)?;
            client
                .memory
                .store_u32(0, 0xdead_beef, std::sync::atomic::Ordering::Relaxed)?;
            client.prepare()?;
            client.join()
        },
    ),
    attack(
        "a-pipe-as-eventfd",
        "eventfd",
        "not an eventfd but pipe",
        |target| {
            let (_reader, pipe) = std::io::pipe()?;
            with_event(target, pipe.into())
        },
    ),
    attack(
        "memory-as-eventfd",
        "eventfd",
        "not an eventfd but",
        |target| with_event(target, memfd(MemfdFlags::empty(), SIZE)?),
    ),
    attack(
        "memory-torn-away",
        "",
        "closed the control socket",
        |target| {
            // Sealed as it is by now, it stays as large as it was, whatever is tried.
            let mut client = FakeClient::open(target)?;
            client.say(&Message::Init(init()))?;
            let fd = memfd(MemfdFlags::ALLOW_SEALING, SIZE)?;
            client.give(
                &Message::AddRegion {
                    index: 0,
                    size: SIZE,
                },
                &[fd.as_fd()],
            )?;
            anyhow::ensure!(ftruncate(&fd, 0).is_err(), "the memory shrank");
            client.ring(&ring(Direction::ClientToServer))
        },
    ),
    attack(
        "memory-with-a-hole",
        "",
        "closed the control socket",
        |target| {
            use rustix::fs::FallocateFlags;
            let client = FakeClient::connected(target)?;
            let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
            // Rings and all: what the engine reads from now on is zeros.
            rustix::fs::fallocate(
                client.memory_fd(),
                hole,
                0,
                super::fake_client::BYTES as u64,
            )?;
            std::thread::sleep(std::time::Duration::from_millis(50));
            Ok(())
        },
    ),
];

fn with_region(target: &Target, fd: OwnedFd, size: u64, index: u16) -> Result<()> {
    let client = FakeClient::open(target)?;
    client.say(&Message::Init(init()))?;
    client.give(&Message::AddRegion { index, size }, &[fd.as_fd()])
}

fn with_event(target: &Target, fd: OwnedFd) -> Result<()> {
    let mut client = FakeClient::open(target)?;
    client.say(&Message::Init(init()))?;
    client.region()?;
    let ring = Message::AddRing(ring(Direction::ClientToServer));
    client.give(&ring, &[fd.as_fd()])
}
