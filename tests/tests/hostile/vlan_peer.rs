// SPDX-License-Identifier: Apache-2.0
//! Pod in the attacker's own VLAN: it sends frames to the attacker and checks the frames that come from it.

use std::net::Ipv4Addr;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::json;
use sluice_api::client::Client;
use sluice_memif::{EndpointConfig, FrameList, Memif, Role};
use sluice_packet::Mac;
use sluice_packet::build::FrameBuilder;
use sluice_tests::{Netns, wait_for};

use crate::engine_rig::pod::{Inside, Place};
use crate::engine_rig::{Node, PATIENCE};

/// Ports that the VLAN's policy lets in.
pub(crate) const PORTS: RangeInclusive<u16> = 1000..=1999;
pub(crate) const DENIED: u16 = 2999;

/// Pod in the attacker's VLAN.
pub(crate) struct VlanPeer {
    pod: Arc<Netns>,
    memif: Memif,
    mac: Mac,
    client: Client,
}

impl VlanPeer {
    pub(crate) fn start(node: &Node) -> VlanPeer {
        let pod = crate::engine_rig::pod();
        let mac = node.attach(&pod, "net1", json!({})).mac.parse().unwrap();
        let place = Place::Abstract("sluicegate/net1".into());
        let config = EndpointConfig::new(Role::Client, "peer");
        let mut memif = Memif::open(config, Inside::new(&pod, place)).unwrap();
        wait_for("the peer's memif", PATIENCE, || {
            while memif.change().is_some() {}
            memif.is_up().then_some(())
        })
        .unwrap();
        VlanPeer {
            pod,
            memif,
            mac,
            client: node.client(),
        }
    }

    pub(crate) fn mac(&self) -> Mac {
        self.mac
    }

    /// Sends a frame to the attacker.
    pub(crate) fn provoke(&mut self, attacker: Mac) {
        let (own, other) = (Ipv4Addr::new(10, 21, 0, 2), Ipv4Addr::new(10, 21, 0, 66));
        let frame = FrameBuilder::new(attacker, self.mac)
            .ipv4(own, other)
            .udp(4000, *PORTS.start())
            .payload(&[1; 18])
            .build();
        self.memif.send(0, &[&frame]);
        self.memif.flush();
    }

    /// Receives the frames that came, and returns their number. A frame for a denied port is an error.
    pub(crate) fn take(&mut self, frames: &mut FrameList) -> Result<u64> {
        self.memif.recv(0, 64, frames);
        let mut came = 0;
        while let Some(frame) = frames.pop() {
            let port = frame.get(36..38).map_or(0, |port| {
                u16::from_be_bytes(port.try_into().unwrap_or_default())
            });
            ensure!(
                PORTS.contains(&port),
                "a frame for port {port} came through"
            );
            came += 1;
            frames.recycle(frame);
        }
        Ok(came)
    }

    /// Returns the number of frames that the firewall denied on ingress.
    pub(crate) fn denied(&self) -> u64 {
        let status = self.client.attachment(self.pod.name(), "net1");
        let drops = status.map(|status| status.counters.ingress_drops);
        drops.map_or(0, |drops| drops.get("denied").copied().unwrap_or(0))
    }

    /// Sends a frame to the attacker every millisecond while `go_on` holds.
    pub(crate) fn provoke_while(&mut self, attacker: Mac, go_on: impl Fn() -> bool) {
        let mut frames = FrameList::default();
        while go_on() {
            self.provoke(attacker);
            let _ = self.take(&mut frames);
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    pub(crate) fn end(self, node: &Node) {
        drop(self.memif);
        node.client().detach(self.pod.name(), "net1").unwrap();
    }
}
