// SPDX-License-Identifier: Apache-2.0
//! Samples of uplinks, segments and VFs.

use sluice_api::{LinkState, NicCounters, Traffic, UplinkStatus};

use super::{Samples, Vf, f};
use crate::node::{EngineState, names};

/// Names of the states of a link, in the order of [`LinkState::ALL`].
const STATES: [&str; 4] = ["up", "down", "waiting", "gone"];

pub(super) fn collect(samples: &mut Samples, state: &EngineState) {
    for uplink in &state.status.uplinks {
        one(samples, uplink);
    }
    for segment in &state.status.segments {
        let vlan = segment.vid.to_string();
        let policy = segment.policy.as_deref().unwrap_or_default();
        let labels = [segment.uplink.as_str(), &vlan, policy];
        let attachments = u64::try_from(segment.attachments).unwrap_or(u64::MAX);
        samples.add(&f::SEGMENT_ATTACHMENTS, &labels, attachments);
    }
}

fn one(samples: &mut Samples, uplink: &UplinkStatus) {
    let name = uplink.name.as_str();
    let one = [name];
    let worker = uplink.worker.to_string();
    let facts = [
        name,
        &uplink.network,
        &uplink.driver,
        &uplink.device,
        &worker,
    ];
    samples.add(&f::UPLINK_INFO, &facts, 1);
    for (state, word) in LinkState::ALL.into_iter().zip(STATES) {
        let is_it = u64::from(uplink.link == state);
        samples.add(&f::UPLINK_LINK, &[name, word], is_it);
    }
    let counters = uplink.counters;
    samples.add(&f::UPLINK_RX_PACKETS, &one, counters.rx_frames);
    samples.add(&f::UPLINK_RX_BYTES, &one, counters.rx_bytes);
    samples.add(&f::UPLINK_TX_PACKETS, &one, counters.tx_frames);
    samples.add(&f::UPLINK_TX_BYTES, &one, counters.tx_bytes);
    for (reason, frames) in uplink.drops.iter().filter(|(_, frames)| **frames != 0) {
        samples.add(&f::UPLINK_DROPS, &[name, reason], *frames);
    }
    if let Some(nic) = uplink.nic {
        samples.add(&f::UPLINK_NIC_PACKETS, &[name, "receive"], nic.rx_frames);
        samples.add(&f::UPLINK_NIC_PACKETS, &[name, "transmit"], nic.tx_frames);
        samples.add(&f::UPLINK_NIC_BYTES, &[name, "receive"], nic.rx_bytes);
        samples.add(&f::UPLINK_NIC_BYTES, &[name, "transmit"], nic.tx_bytes);
        samples.add(&f::UPLINK_NIC_MULTICAST, &one, nic.rx_multicast);
        samples.add(&f::UPLINK_NIC_RESETS, &one, nic.resets);
    }
}

/// Adds the node's VFs, and with `alias` the pods that have one through the engine.
pub(super) fn vfs(samples: &mut Samples, vfs: &[Vf], engine: Option<&EngineState>, alias: bool) {
    let uplinks = engine.map_or(&[][..], |state| &state.status.uplinks);
    for vf in vfs {
        let (address, index) = (vf.address.to_string(), vf.index.to_string());
        let numa = vf.numa_node.map(|node| node.to_string());
        let labels = [
            &address,
            &vf.pf,
            &index,
            numa.as_deref().unwrap_or_default(),
        ];
        let [address, pf, index, numa] = labels;
        let driver = vf.driver.as_deref().unwrap_or_default();
        samples.add(&f::VF_INFO, &[address, pf, index, numa, driver], 1);
        let uplink = uplinks.iter().find(|uplink| uplink.name == *address);
        let Some(traffic) = uplink.map(traffic).or(vf.traffic) else {
            continue;
        };
        samples.add(&f::VF_RX_PACKETS, &labels, traffic.rx_frames);
        samples.add(&f::VF_RX_BYTES, &labels, traffic.rx_bytes);
        samples.add(&f::VF_TX_PACKETS, &labels, traffic.tx_frames);
        samples.add(&f::VF_TX_BYTES, &labels, traffic.tx_bytes);
    }
    let attachments = engine.map_or(&[][..], |state| &state.attachments);
    for attachment in attachments.iter().filter(|_| alias) {
        if let Some(vf) = &attachment.request.vf {
            let (namespace, pod, _) = names(attachment);
            let labels = [vf.address.as_str(), pod, namespace, "vfio-pci"];
            samples.add(&f::KUBEPODDEVICE, &labels, 1);
        }
    }
}

/// Traffic of a VF that the engine drives: the NIC's own counters where there are any.
fn traffic(uplink: &UplinkStatus) -> Traffic {
    uplink
        .nic
        .map_or(uplink.counters, |nic: NicCounters| Traffic {
            rx_frames: nic.rx_frames,
            rx_bytes: nic.rx_bytes,
            tx_frames: nic.tx_frames,
            tx_bytes: nic.tx_bytes,
        })
}
