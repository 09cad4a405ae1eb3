// SPDX-License-Identifier: Apache-2.0
//! Wire with the uplink at one end and a packet socket at the other.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use sluice_datapath::Uplink;
use sluice_datapath::ports::af_packet::{AfPacket, AfPacketConfig, WatchedLink};
use sluice_datapath::ports::af_xdp::{AfXdp, AfXdpConfig};
use sluice_mem::Burst;
use sluice_mem::offloads::{Offloads, RX_VLAN, TX_VLAN};
use sluice_mem::packet_mmap::{Next, PacketConfig, PacketSocket};
use sluice_mem::xsk::XdpMode;
use sluice_tests::{Netns, wait_for};

use crate::ports_worker::{Received, Worker, af_packet_config, ifindex};

/// Driver of the uplink under test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Driver {
    AfPacket,
    AfXdp(&'static [XdpMode]),
}

impl Driver {
    pub(crate) const ALL: [Driver; 3] = [
        Driver::AfPacket,
        Driver::AfXdp(&[XdpMode::Native]),
        Driver::AfXdp(&[XdpMode::Generic]),
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Driver::AfPacket => "af_packet",
            Driver::AfXdp(_) => "af_xdp",
        }
    }
}

/// Uplink under test, and its link as control sees it.
pub(crate) struct Opened {
    port: Box<dyn Uplink>,
    link: Arc<WatchedLink>,
}

impl Opened {
    pub(crate) fn link(&self) -> Arc<WatchedLink> {
        Arc::clone(&self.link)
    }
}

impl Deref for Opened {
    type Target = dyn Uplink;

    fn deref(&self) -> &Self::Target {
        &*self.port
    }
}

impl DerefMut for Opened {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut *self.port
    }
}

/// Wire with `wire0` in one namespace and the uplink, `up0`, in the other.
pub(crate) struct Rig {
    pub(crate) wire: Netns,
    pub(crate) engine: Netns,
}

impl Rig {
    pub(crate) fn new() -> Result<Rig> {
        let (wire, engine) = (Netns::new("wire")?, Netns::new("engine")?);
        wire.veth("wire0", &engine, "up0")?;
        Ok(Rig { wire, engine })
    }

    /// Opens the uplink with rings of `ring_frames`.
    pub(crate) fn uplink(
        &self,
        driver: Driver,
        ring_frames: u32,
        worker: &mut Worker,
    ) -> Result<Opened> {
        match driver {
            Driver::AfPacket => self.af_packet(|config| {
                (config.rx_frames, config.tx_frames) = (ring_frames, ring_frames);
            }),
            Driver::AfXdp(modes) => {
                // What the engine does, or asks for, before it opens such a netdev.
                for (netns, device, names) in [
                    (&self.wire, "wire0", TX_VLAN),
                    (&self.engine, "up0", RX_VLAN),
                ] {
                    netns.enter(move || {
                        let offloads = Offloads::open(device)?;
                        for name in names {
                            ensure!(offloads.set(name, false)?, "{device}: {name} stays on");
                        }
                        Ok(())
                    })?;
                }
                let AfPacketConfig { index, mtu, .. } = af_packet_config(&self.engine, "up0")?;
                let config = AfXdpConfig {
                    device: "up0".to_owned(),
                    index,
                    mtu,
                    queues: 1,
                    ring_frames,
                    pool: worker.small(),
                    modes,
                };
                let mut port = self.engine.enter(move || Ok(AfXdp::open(config)?))?;
                // The worker that has just got the port gives the kernel its first mbufs.
                port.housekeeping(&mut worker.context(), 0);
                Ok(Opened {
                    link: port.link(),
                    port: Box::new(port),
                })
            }
        }
    }

    /// Opens the uplink through AF_PACKET, with settings that only that has.
    pub(crate) fn af_packet(&self, change: impl FnOnce(&mut AfPacketConfig)) -> Result<Opened> {
        let mut config = af_packet_config(&self.engine, "up0")?;
        change(&mut config);
        let port = self.engine.enter(move || Ok(AfPacket::open(config)?))?;
        Ok(Opened {
            link: port.link(),
            port: Box::new(port),
        })
    }

    /// Opens a packet socket at the far end, for frames with tags of the test's own.
    pub(crate) fn tagger(&self) -> Result<PacketSocket> {
        let index = ifindex(&self.wire, "wire0")?;
        let config = PacketConfig::for_mtu(1600);
        self.wire
            .enter(move || Ok(PacketSocket::open(index, config)?))
    }
}

/// Makes a frame of an experimental EtherType, which no kernel sends of its own accord.
pub(crate) fn frame(number: u8, len: usize) -> Vec<u8> {
    let mut frame = vec![number; len];
    frame[..12].copy_from_slice(&[2, 0, 0, 0, 0, 0xaa, 2, 0, 0, 0, 0, 0xbb]);
    frame[12..14].copy_from_slice(&[0x88, 0xb5]);
    frame
}

pub(crate) fn is_ours(frame: &[u8]) -> bool {
    let ethertype = frame.get(12..14);
    [[0x88, 0xb5], [0x81, 0x00], [0x88, 0xa8]]
        .iter()
        .any(|ours| ethertype == Some(ours))
}

pub(crate) fn tagged(frame: &[u8], tags: &[(u16, u16)]) -> Vec<u8> {
    let mut bytes = frame.to_vec();
    let tags = tags
        .iter()
        .flat_map(|(tpid, tci)| [tpid.to_be_bytes(), tci.to_be_bytes()]);
    bytes.splice(12..12, tags.flatten());
    bytes
}

pub(crate) fn send(tagger: &mut PacketSocket, frame: &[u8]) -> Result<()> {
    let sent = tagger.send(|space| {
        space[..frame.len()].copy_from_slice(frame);
        frame.len()
    });
    assert!(sent, "the tagger's ring is full");
    tagger.flush()?;
    Ok(())
}

/// Receives `wanted` frames at the far end.
pub(crate) fn far_end(tagger: &mut PacketSocket, wanted: usize) -> Result<Vec<Received>> {
    let mut seen = Vec::new();
    wait_for(
        &format!("{wanted} frames at the far end"),
        Duration::from_secs(5),
        || {
            tagger.recv(1000, |frame| {
                if is_ours(frame.data) {
                    seen.push(Received {
                        data: frame.data.to_vec(),
                        tag: frame.vlan,
                    });
                }
                Next::Take
            });
            (seen.len() >= wanted).then_some(())
        },
    )?;
    Ok(seen)
}

/// Has no frames but the test's own on the wire, so that counts are exact.
pub(crate) fn silence(rig: &Rig) {
    for (netns, device) in [(&rig.wire, "wire0"), (&rig.engine, "up0")] {
        for words in [&["addrgenmode", "none"][..], &["down"][..], &["up"][..]] {
            let args = [&["link", "set", device], words].concat();
            netns.ip(&args).unwrap();
        }
    }
}

/// Receives what waits in the ring and returns the number of frames.
pub(crate) fn drain(worker: &mut Worker, uplink: &mut dyn Uplink) -> u64 {
    let mut received = 0;
    loop {
        let mut burst = Burst::new();
        uplink.rx_burst(&mut worker.context(), &mut burst);
        let frames = burst.len() as u64;
        received += frames;
        worker.pools.free_burst(&mut burst);
        if frames == 0 {
            return received;
        }
    }
}
