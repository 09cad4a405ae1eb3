// SPDX-License-Identifier: Apache-2.0
//! Samples of attachments, in number bounded by the configuration.

use sluice_api::{AttachmentStatus, LinkState, VlanRequest};

use super::{Samples, f};
use crate::node::{EngineState, names};

/// Drop reasons of frames whose sender addresses are not the pod's.
const SPOOFED: [&str; 6] = [
    "spoofed_mac",
    "spoofed_ip",
    "spoofed_arp",
    "spoofed_nd",
    "address_taken",
    "link_local_taken",
];

/// Labels of an attachment.
#[derive(Debug, Default)]
struct Labels<'a> {
    namespace: &'a str,
    pod: &'a str,
    interface: &'a str,
    network: &'a str,
    vlan: String,
}

pub(super) fn collect(samples: &mut Samples, state: &EngineState, most: usize) {
    let all = &state.attachments;
    let (own, rest) = all.split_at(most.min(all.len()));
    let count = |of: &[AttachmentStatus]| u64::try_from(of.len()).unwrap_or(u64::MAX);
    samples.add(&f::ATTACHMENTS, &[], count(all));
    samples.add(&f::SERIES_LEFT_OUT, &[], count(rest));
    for attachment in own {
        let (namespace, pod, interface) = names(attachment);
        let labels = Labels {
            namespace,
            pod,
            interface,
            network: &attachment.request.uplink,
            vlan: vlan(&attachment.request.vlan),
        };
        one(samples, &labels, attachment);
    }
    for attachment in rest {
        one(samples, &Labels::default(), attachment);
    }
}

/// VID of an access attachment, `trunk` for the others: a label has one value.
fn vlan(vlan: &VlanRequest) -> String {
    match vlan {
        VlanRequest::Access { vid, .. } => vid.to_string(),
        VlanRequest::Trunk { .. } => "trunk".to_owned(),
    }
}

fn one(samples: &mut Samples, labels: &Labels<'_>, attachment: &AttachmentStatus) {
    let (namespace, pod, interface) = (labels.namespace, labels.pod, labels.interface);
    let full = [namespace, pod, interface, labels.network, &labels.vlan];
    let short = [namespace, pod, interface];
    let counters = &attachment.counters;
    let port = counters.port;
    let is_up = u64::from(attachment.link == LinkState::Up);
    samples.add(&f::ATTACHMENT_UP, &full, is_up);
    // What the engine sends is what the pod receives.
    samples.add(&f::ATTACHMENT_RX_PACKETS, &full, port.tx_frames);
    samples.add(&f::ATTACHMENT_RX_BYTES, &full, port.tx_bytes);
    samples.add(&f::ATTACHMENT_TX_PACKETS, &full, port.rx_frames);
    samples.add(&f::ATTACHMENT_TX_BYTES, &full, port.rx_bytes);
    let mut spoofed = 0;
    let directions = [
        ("ingress", &counters.ingress_drops),
        ("egress", &counters.egress_drops),
    ];
    for (direction, drops) in directions {
        for (reason, frames) in drops.iter().filter(|(_, frames)| **frames != 0) {
            let labels = [namespace, pod, interface, direction, reason.as_str()];
            samples.add(&f::ATTACHMENT_DROPS, &labels, *frames);
            if direction == "egress" && SPOOFED.contains(&reason.as_str()) {
                spoofed += *frames;
            }
        }
    }
    samples.add(&f::ATTACHMENT_SPOOFED, &short, spoofed);
    samples.add(&f::ATTACHMENT_HELD_BACK, &short, counters.held_back);
    samples.add(&f::ATTACHMENT_LATE_VISITS, &short, counters.late_visits);
    samples.add(&f::ATTACHMENT_MAC_MOVES, &short, counters.mac_moves);
    samples.add(
        &f::ATTACHMENT_REFUSED_GROUPS,
        &short,
        counters.refused_groups,
    );
    if let Some(connections) = &attachment.connections {
        let results = [
            ("made", connections.made),
            ("broken", connections.broken),
            ("refused", connections.refused),
        ];
        for (result, number) in results {
            let labels = [namespace, pod, interface, result];
            samples.add(&f::ATTACHMENT_CONNECTIONS, &labels, number);
        }
    }
}
