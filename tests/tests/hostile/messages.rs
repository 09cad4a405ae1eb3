// SPDX-License-Identifier: Apache-2.0
//! Attacks by messages on the memif control socket.

use std::os::fd::AsFd;

use anyhow::Result;
use rustix::fs::MemfdFlags;
use sluice_memif::Text;
use sluice_memif::layout::Direction;
use sluice_memif::msg::{AddRing, Init, Message};

use super::fake_client::{FakeClient, Target, init, memfd, ring};
use super::{Attack, attack};

pub(crate) const ATTACKS: &[Attack] = &[
    attack("short-message", "", "1 bytes", |target| {
        FakeClient::open(target)?.raw(&[3], &[])
    }),
    attack("long-message", "", "129 bytes", |target| {
        FakeClient::open(target)?.raw(&[3; 129], &[])
    }),
    attack("unknown-type", "", "type", |target| {
        FakeClient::open(target)?.raw(&[0xee; 128], &[])
    }),
    attack("ring-before-init", "", "breaks the order", |target| {
        FakeClient::open(target)?.ring(&ring(Direction::ClientToServer))
    }),
    attack("connect-before-rings", "", "breaks the order", |target| {
        let client = FakeClient::open(target)?;
        client.say(&Message::Init(init()))?;
        client.join()
    }),
    attack("init-twice", "", "breaks the order", |target| {
        let client = FakeClient::open(target)?;
        client.say(&Message::Init(init()))?;
        client.say(&Message::Init(init()))
    }),
    attack("region-after-ring", "", "breaks the order", |target| {
        let mut client = FakeClient::open(target)?;
        client.prepare()?;
        client.region()
    }),
    attack("connect-twice", "", "breaks the order", |target| {
        let client = FakeClient::connected(target)?;
        client.join()
    }),
    attack("a-servers-message", "", "breaks the order", |target| {
        FakeClient::open(target)?.say(&Message::Ack)
    }),
    attack(
        "version",
        "version",
        "incompatible memif version",
        |target| with_init(target, |init| init.version = 0x0300),
    ),
    attack("mode", "mode", "interface mode 2", |target| {
        with_init(target, |init| init.mode = 2)
    }),
    attack("id", "id", "ID 7 not found", |target| {
        with_init(target, |init| init.id = 7)
    }),
    attack("no-fd", "", "without a file descriptor", |target| {
        let client = FakeClient::open(target)?;
        client.say(&Message::Init(init()))?;
        client.say(&Message::AddRegion {
            index: 0,
            size: 4096,
        })
    }),
    attack(
        "an-fd-too-many",
        "extra-fds",
        "a file descriptor too many",
        |target| {
            let client = FakeClient::open(target)?;
            client.say(&Message::Init(init()))?;
            let fd = memfd(MemfdFlags::ALLOW_SEALING, 4096)?;
            let region = Message::AddRegion {
                index: 0,
                size: 4096,
            };
            client.give(&region, &[fd.as_fd(), fd.as_fd()])
        },
    ),
    attack(
        "seven-fds",
        "",
        "more file descriptors than memif knows",
        |target| {
            let client = FakeClient::open(target)?;
            client.say(&Message::Init(init()))?;
            let fd = memfd(MemfdFlags::ALLOW_SEALING, 4096)?;
            let region = Message::AddRegion {
                index: 0,
                size: 4096,
            };
            client.give(&region, &[fd.as_fd(); 7])
        },
    ),
    attack(
        "an-fd-for-nothing",
        "unwanted-fd",
        "a file descriptor too many",
        |target| {
            let client = FakeClient::open(target)?;
            let fd = memfd(MemfdFlags::ALLOW_SEALING, 4096)?;
            client.give(&Message::Init(init()), &[fd.as_fd()])
        },
    ),
    attack(
        "one-direction",
        "no-ring",
        "no server-to-client ring",
        |target| {
            let mut client = FakeClient::open(target)?;
            client.say(&Message::Init(init()))?;
            client.region()?;
            client.ring(&ring(Direction::ClientToServer))?;
            client.join()
        },
    ),
    attack("hangs-up", "", "closed the control socket", |target| {
        drop(FakeClient::connected(target)?);
        Ok(())
    }),
    attack("says-goodbye", "", "peer disconnected", |target| {
        let reason = Text::new("had enough");
        FakeClient::connected(target)?.say(&Message::Disconnect { code: 9, reason })
    }),
    attack(
        "ring-flags",
        "ring-flags",
        "undefined ring flags",
        |target| with_ring(target, |ring| ring.flags |= 0x80),
    ),
    attack(
        "private-header",
        "private-header",
        "private header of 8 bytes",
        |target| with_ring(target, |ring| ring.private_header = 8),
    ),
    attack(
        "ring-index",
        "ring-index",
        "ring index 1 where 0",
        |target| with_ring(target, |ring| ring.index = 1),
    ),
    attack(
        "rings-without-end",
        "ring-count",
        "more than 1 ",
        |target| {
            let mut client = FakeClient::open(target)?;
            client.prepare()?;
            let mut more = ring(Direction::ClientToServer);
            more.index = 1;
            more.offset = 16_384;
            client.ring(&more)
        },
    ),
    attack("ring-of-one", "ring-size", "ring size 2^0", |target| {
        with_ring(target, |ring| ring.log2 = 0)
    }),
    attack("ring-of-65536", "ring-size", "ring size 2^16", |target| {
        with_ring(target, |ring| ring.log2 = 16)
    }),
    attack("ring-nowhere", "", "ring in unknown region 3", |target| {
        with_ring(target, |ring| ring.region = 3)
    }),
    attack(
        "ring-askew",
        "ring-alignment",
        "not a multiple of 16",
        |target| with_ring(target, |ring| ring.offset = 24),
    ),
    attack(
        "ring-past-the-end",
        "ring-range",
        "ring ends at byte",
        |target| with_ring(target, |ring| ring.offset = 0xffff_ffc0),
    ),
    attack(
        "rings-on-each-other",
        "ring-overlap",
        "rings overlap",
        |target| {
            let mut client = FakeClient::open(target)?;
            client.say(&Message::Init(init()))?;
            client.region()?;
            client.ring(&ring(Direction::ClientToServer))?;
            let mut other = ring(Direction::ServerToClient);
            other.offset = 64;
            client.ring(&other)
        },
    ),
];

fn with_init(target: &Target, change: impl FnOnce(&mut Init)) -> Result<()> {
    let client = FakeClient::open(target)?;
    let mut init = init();
    change(&mut init);
    client.say(&Message::Init(init))
}

fn with_ring(target: &Target, change: impl FnOnce(&mut AddRing)) -> Result<()> {
    let mut client = FakeClient::open(target)?;
    client.say(&Message::Init(init()))?;
    client.region()?;
    let mut ring = ring(Direction::ClientToServer);
    change(&mut ring);
    client.ring(&ring)
}
