// SPDX-License-Identifier: Apache-2.0
//! Attacks by a pod that is the memif server, on the engine as its client.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use sluice_mem::SharedRegion;
use sluice_memif::layout::{COOKIE, Direction};
use sluice_memif::msg::{AddRing, Hello, Message, VERSION};
use sluice_memif::{Address, Channel, Listener, Text};
use sluice_tests::{Netns, wait_for};

use super::fake_client::{HEAD, TAIL};

const PATIENCE: Duration = Duration::from_secs(10);

/// Attack on the engine as client.
pub(crate) struct ServerAttack {
    pub(crate) name: &'static str,
    pub(crate) without: &'static str,
    pub(crate) reason: &'static str,
    pub(crate) run: fn(&Server) -> Result<()>,
}

/// Listening socket in the pod.
pub(crate) struct Server {
    listener: Listener,
}

/// Connection that the engine made.
struct Caller {
    channel: Channel,
    region: Option<SharedRegion>,
    rings: Vec<AddRing>,
}

pub(crate) fn hello() -> Hello {
    Hello {
        name: Text::new("client"),
        min_version: VERSION,
        max_version: VERSION,
        max_region: 3,
        max_client_to_server: 0,
        max_server_to_client: 0,
        max_log2: 6,
    }
}

pub(crate) const ATTACKS: &[ServerAttack] = &[
    ServerAttack {
        name: "server-of-version-3",
        without: "",
        reason: "incompatible memif version",
        run: |server| {
            let hello = Hello {
                min_version: 0x0300,
                max_version: 0x0300,
                ..hello()
            };
            server.accept()?.say(&Message::Hello(hello))
        },
    },
    ServerAttack {
        name: "server-without-ring-size",
        without: "",
        reason: "no usable ring size",
        run: |server| {
            let hello = Hello {
                max_log2: 0,
                ..hello()
            };
            server.accept()?.say(&Message::Hello(hello))
        },
    },
    ServerAttack {
        name: "server-agrees-to-nothing",
        without: "",
        reason: "breaks the order",
        run: |server| server.accept()?.say(&Message::Ack),
    },
    ServerAttack {
        name: "server-speaks-noise",
        without: "",
        reason: "bytes",
        run: |server| {
            let caller = server.accept()?;
            rustix::net::send(
                caller.channel.as_fd(),
                &[5; 77],
                rustix::net::SendFlags::NOSIGNAL,
            )?;
            caller.last_message()
        },
    },
    ServerAttack {
        name: "server-says-nothing",
        without: "",
        reason: "handshake not finished",
        run: |server| server.accept()?.last_message(),
    },
    ServerAttack {
        name: "server-moves-data-out-of-its-buffer",
        without: "own-range",
        reason: "leaves its memory",
        run: |server| {
            let caller = server.connected()?;
            let (region, ring) = caller.ring(Direction::ServerToClient)?;
            // The engine posted descriptor 0; its data is said to be a page further on.
            let at = ring + 128;
            let mut word = u128::from_le_bytes(region.read16(at)?);
            word += 4096_u128 << 64;
            region.write16(at, word.to_le_bytes())?;
            region.store_u16(ring + TAIL, 1, Ordering::Release)?;
            caller.last_message()
        },
    },
    ServerAttack {
        name: "server-returns-more-than-it-had",
        without: "index-jump",
        reason: "index jumped",
        run: |server| {
            let caller = server.connected()?;
            let (region, ring) = caller.ring(Direction::ServerToClient)?;
            region.store_u16(ring + TAIL, 4000, Ordering::Release)?;
            caller.last_message()
        },
    },
    ServerAttack {
        name: "server-rewrites-the-clients-head",
        without: "",
        reason: "index jumped",
        run: |server| {
            // The head of that ring is the engine's own: what it says there is not looked at. The tail is.
            let caller = server.connected()?;
            let (region, ring) = caller.ring(Direction::ServerToClient)?;
            region.store_u16(ring + HEAD, 9000, Ordering::Release)?;
            region.store_u16(ring + TAIL, 9000, Ordering::Release)?;
            caller.last_message()
        },
    },
];

impl Server {
    /// Listens in the pod.
    pub(crate) fn listen(pod: &Arc<Netns>, ifname: &str) -> Result<Server> {
        let address = Address::Abstract(format!("sluicegate/{ifname}"));
        let listener = pod.enter(move || Ok(Listener::bind(&address)?))?;
        Ok(Server { listener })
    }

    fn accept(&self) -> Result<Caller> {
        let accept = || self.listener.accept().ok().flatten();
        let channel = wait_for("the engine to connect", PATIENCE, accept)?;
        Ok(Caller {
            channel,
            region: None,
            rings: Vec::new(),
        })
    }

    /// Accepts a connection and completes the handshake correctly.
    fn connected(&self) -> Result<Caller> {
        let mut caller = self.accept()?;
        caller.channel.send(&Message::Hello(hello()), None)?;
        loop {
            let mut received = None;
            wait_for("the engine's message", PATIENCE, || {
                received = caller.channel.receive().ok()?;
                received.as_ref().map(|_| ())
            })?;
            let Some(received) = received else {
                bail!("nothing")
            };
            let reply = match received.message {
                Message::AddRegion { size, .. } => {
                    if let Some(fd) = received.fd {
                        caller.region = Some(SharedRegion::map(fd, usize::try_from(size)?)?);
                    }
                    Message::Ack
                }
                Message::AddRing(ring) => {
                    caller.rings.push(ring);
                    Message::Ack
                }
                Message::Connect { .. } => Message::Connected {
                    name: Text::new("client"),
                },
                Message::Init(_) => Message::Ack,
                other => bail!("{other:?}"),
            };
            caller.channel.send(&reply, None)?;
            if matches!(reply, Message::Connected { .. }) {
                // The engine posts its buffers when it has heard that.
                std::thread::sleep(Duration::from_millis(50));
                return Ok(caller);
            }
        }
    }
}

impl Caller {
    fn say(&self, message: &Message) -> Result<()> {
        self.channel.send(message, None)?;
        self.last_message()
    }

    /// Reads until the engine ends the connection, for some seconds.
    fn last_message(&self) -> Result<()> {
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(6) {
            match self.channel.receive() {
                Err(_) => return Ok(()),
                Ok(Some(received)) if matches!(received.message, Message::Disconnect { .. }) => {
                    return Ok(());
                }
                Ok(_) => std::thread::sleep(Duration::from_millis(1)),
            }
        }
        bail!("the engine did not go")
    }

    /// Returns region and offset of a ring.
    fn ring(&self, direction: Direction) -> Result<(&SharedRegion, usize)> {
        let to_server = direction == Direction::ClientToServer;
        let ring = self
            .rings
            .iter()
            .find(|ring| (ring.flags & 1 == 1) == to_server);
        match (ring, &self.region) {
            (Some(ring), Some(region)) => {
                let at = ring.offset as usize;
                anyhow::ensure!(
                    region.load_u32(at, Ordering::Acquire)? == COOKIE,
                    "no cookie"
                );
                Ok((region, at))
            }
            _ => bail!("the engine announced no ring"),
        }
    }
}
