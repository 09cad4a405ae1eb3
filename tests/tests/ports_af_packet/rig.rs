// SPDX-License-Identifier: Apache-2.0
//! Wire with the uplink at one end and a packet socket at the other.

use std::time::Duration;

use anyhow::Result;
use sluice_datapath::Uplink;
use sluice_datapath::ports::af_packet::{AfPacket, AfPacketConfig};
use sluice_mem::Burst;
use sluice_mem::packet_mmap::{Next, PacketConfig, PacketSocket};
use sluice_tests::{Netns, wait_for};

use crate::ports_worker::{Received, Worker, af_packet_config, ifindex};

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

    pub(crate) fn uplink(&self, change: fn(&mut AfPacketConfig)) -> Result<AfPacket> {
        let mut config = af_packet_config(&self.engine, "up0")?;
        change(&mut config);
        self.engine.enter(move || Ok(AfPacket::open(config)?))
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
    ethertype == Some(&[0x88, 0xb5]) || ethertype == Some(&[0x81, 0x00])
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
pub(crate) fn drain(worker: &mut Worker, uplink: &mut AfPacket) -> u64 {
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
