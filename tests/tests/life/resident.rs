// SPDX-License-Identifier: Apache-2.0
//! Pod of a life, with its end of the attachment.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use sluice_api::AttachRequest;
use sluice_memif::Role;
use sluice_packet::Mac;
use sluice_packet::build::FrameBuilder;
use sluice_tests::{Netns, Wire, wait_for};

use crate::engine_rig::pod::{Place, PodMemif};
use crate::engine_rig::{Node, PATIENCE, pod};

/// MAC address of the host on the wire.
const HOST: Mac = Mac::new([2, 0, 0, 0, 0, 0xee]);

/// Pod that has one attachment.
pub(super) struct Resident {
    request: AttachRequest,
    mac: Mac,
    /// `None`: it has a tap.
    memif: Option<PodMemif>,
    netns: Arc<Netns>,
}

impl Resident {
    /// Makes a pod and attaches it: with a tap where `backend` is 0, as the memif's server where it is 1.
    pub(super) fn new(node: &Node, backend: u64) -> Resident {
        let netns = pod();
        let (with, role) = match backend {
            0 => (json!({"backend": {"type": "tap"}}), None),
            1 => (
                json!({"backend": {"type": "memif", "role": "client"}}),
                Some(Role::Server),
            ),
            _ => (json!({}), Some(Role::Client)),
        };
        // It may be there before the engine knows of it.
        let place = || Place::Abstract("sluicegate/net1".to_owned());
        let early = role
            .filter(|role| *role == Role::Server)
            .map(|role| PodMemif::open(&netns, role, place()));
        let request = node.request(&netns, "net1", with);
        let reply = node
            .client()
            .attach(&request)
            .unwrap_or_else(|error| panic!("{error}: {}", node.log()));
        let memif = early.or_else(|| role.map(|role| PodMemif::open(&netns, role, place())));
        Resident {
            request,
            mac: reply.mac.parse().unwrap(),
            memif,
            netns,
        }
    }

    pub(super) fn request(&self) -> &AttachRequest {
        &self.request
    }

    pub(super) fn mac(&self) -> Mac {
        self.mac
    }

    pub(super) fn names(&self) -> (String, String) {
        (
            self.request.container_id.clone(),
            self.request.ifname.clone(),
        )
    }

    pub(super) fn key(&self) -> String {
        format!("{}/{}", self.request.container_id, self.request.ifname)
    }

    /// Sends a frame each way, again until both have come; of a tap only that it is there is seen. Returns whether
    /// they came.
    pub(super) fn exchange(&mut self, wire: &mut Wire, number: u64) -> bool {
        let Some(memif) = &mut self.memif else {
            let there = || self.netns.ip(&["link", "show", "net1"]).ok();
            return wait_for("the tap", PATIENCE, there).is_ok();
        };
        let (mac, payload) = (self.mac, number.to_be_bytes());
        let frame = |dst, src, from: [u8; 4], to: [u8; 4]| {
            FrameBuilder::new(dst, src)
                .ipv4(from.into(), to.into())
                .udp(4000, 1500)
                .payload(&payload)
                .build()
        };
        let (host, pod) = ([10, 21, 0, 1], [10, 21, 0, 5]);
        let ours = |frame: &[u8]| frame.ends_with(&payload);
        let (mut came_in, mut came_out) = (false, false);
        wait_for("frames both ways", PATIENCE, || {
            wire.send(210, &[frame(mac, HOST, host, pod)]).ok()?;
            memif.try_send(&frame(HOST, mac, pod, host));
            let got = memif.receive(1, Duration::from_millis(100));
            came_in |= got.iter().any(|frame| ours(frame));
            let sent = wire.receive(1, Duration::from_millis(100), |vid, frame| {
                vid == 210 && ours(frame) && frame[6..12] == mac.octets()
            });
            came_out |= !sent.is_empty();
            (came_in && came_out).then_some(())
        })
        .is_ok()
    }
}
