// SPDX-License-Identifier: Apache-2.0
//! Fake memif client that keeps to the protocol until it is connected and then corrupts its ring.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rustix::event::{EventfdFlags, eventfd};
use sluice_mem::SharedRegion;
use sluice_memif::layout::{COOKIE, ring_bytes};
use sluice_memif::msg::{AddRing, Init, MODE_ETHERNET, Message, VERSION};
use sluice_memif::{Address, Channel, Text, connect};
use sluice_tests::{Netns, wait_for};

const LOG2: u8 = 4;
/// Offset of the head index in a ring.
const HEAD: usize = 6;

/// Connected fake client.
pub(crate) struct FakeClient {
    region: SharedRegion,
    channel: Channel,
    _events: Vec<OwnedFd>,
}

impl FakeClient {
    /// Connects to the default socket of `ifname`.
    pub(crate) fn connect(netns: &Arc<Netns>, ifname: &str) -> FakeClient {
        let address = Address::Abstract(format!("sluicegate/{ifname}"));
        let channel = netns.enter(move || Ok(connect(&address)?)).unwrap();
        let ring = usize::try_from(ring_bytes(LOG2)).unwrap();
        let size = 2 * ring.next_multiple_of(64);
        let (region, fd) = SharedRegion::create_sealed("client", size).unwrap();
        let mut client = FakeClient {
            region,
            channel,
            _events: Vec::new(),
        };
        client.handshake(fd, size, size / 2);
        client
    }

    fn handshake(&mut self, fd: OwnedFd, size: usize, second: usize) {
        for ring in [0, second] {
            self.region
                .store_u32(ring, COOKIE, Ordering::Relaxed)
                .unwrap();
        }
        assert!(matches!(self.receive(), Message::Hello(_)));
        let name = Text::new("client");
        let init = Init {
            version: VERSION,
            id: 0,
            mode: MODE_ETHERNET,
            secret: None,
            name,
        };
        self.ask(&Message::Init(init), None);
        let region = Message::AddRegion {
            index: 0,
            size: size as u64,
        };
        self.ask(&region, Some(fd));
        for (flags, offset) in [(1, 0), (0, second)] {
            let event = eventfd(0, EventfdFlags::CLOEXEC).unwrap();
            let ring = AddRing {
                flags,
                index: 0,
                region: 0,
                offset: u32::try_from(offset).unwrap(),
                log2: LOG2,
                private_header: 0,
            };
            let theirs = event.try_clone().unwrap();
            self.ask(&Message::AddRing(ring), Some(theirs));
            self._events.push(event);
        }
        self.channel
            .send(
                &Message::Connect {
                    name: Text::new("client"),
                },
                None,
            )
            .unwrap();
        assert!(matches!(self.receive(), Message::Connected { .. }));
    }

    fn ask(&self, message: &Message, fd: Option<OwnedFd>) {
        self.channel
            .send(message, fd.as_ref().map(AsFd::as_fd))
            .unwrap();
        assert_eq!(self.receive(), Message::Ack);
    }

    fn receive(&self) -> Message {
        wait_for("a message of the engine", super::PATIENCE, || {
            Some(self.channel.receive().unwrap()?.message)
        })
        .unwrap()
    }

    /// Moves the head index so that more descriptors are filled than the ring has.
    pub(crate) fn corrupt_ring(&self) {
        self.region
            .store_u16(HEAD, 1000, Ordering::Release)
            .unwrap();
    }

    /// Returns the reason that the engine gives when it ends the connection.
    pub(crate) fn disconnect_reason(&self) -> String {
        match self.receive() {
            Message::Disconnect { reason, .. } => reason.to_string(),
            other => panic!("{other:?}"),
        }
    }
}
