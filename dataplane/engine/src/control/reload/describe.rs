// SPDX-License-Identifier: Apache-2.0
//! Settings as text, as the report of a reload has them.

use sluice_datapath::{Limits, Rate};
use sluice_firewall::connections::Timeouts;

use crate::config::{PosingConfig, PosingLimits, UplinkConfig, UplinkDriver, cores};

/// Workers as the report has them: how many, and their cores.
pub(super) fn workers(workers: &[Option<usize>]) -> String {
    let cores: Vec<usize> = workers.iter().flatten().copied().collect();
    match cores.as_slice() {
        [] => format!("{} not pinned", workers.len()),
        cores => format!("{} on cores {}", cores.len(), cores::list(cores)),
    }
}

/// Limits as the report has them, by key.
pub(super) fn describe_limits(limits: &Limits) -> [(&'static str, String); 16] {
    let rate = |rate: Rate| format!("rate {}, burst {}", rate.per_second, rate.burst);
    let (pod, wire, of) = (limits.attachment, limits.wire, &limits.connections);
    [
        ("limits.attachment.broadcast", rate(pod.broadcast)),
        ("limits.attachment.multicast", rate(pod.multicast)),
        ("limits.attachment.arp_nd", rate(pod.arp_nd)),
        ("limits.wire.broadcast", rate(wire.broadcast)),
        ("limits.wire.multicast", rate(wire.multicast)),
        ("limits.wire.arp_nd", rate(wire.arp_nd)),
        ("limits.wire.groups", rate(limits.wire_groups)),
        ("limits.groups", limits.groups.to_string()),
        ("limits.macs", limits.macs.to_string()),
        ("limits.connections.places", of.places.to_string()),
        ("limits.connections.most", of.most.to_string()),
        (
            "limits.connections.half_open_percent",
            of.half_open_percent.to_string(),
        ),
        (
            "limits.connections.one_way_percent",
            of.one_way_percent.to_string(),
        ),
        (
            "limits.connections.one_source_percent",
            of.one_source_percent.to_string(),
        ),
        ("limits.connections.grace_s", of.grace_s.to_string()),
        (
            "limits.connections.timeouts_s",
            describe_timeouts(&of.timeouts),
        ),
    ]
}

/// Timeouts as the report has them: those that are not the default.
fn describe_timeouts(timeouts: &Timeouts) -> String {
    let defaults = Timeouts::default();
    let others: Vec<String> = timeouts
        .named()
        .into_iter()
        .zip(defaults.named())
        .filter(|(is, default)| is != default)
        .map(|((name, seconds), _)| format!("{name} {seconds}"))
        .collect();
    match others.as_slice() {
        [] => "the defaults".to_owned(),
        others => others.join(", "),
    }
}

/// Section `posing` as the report has it.
pub(super) fn describe_posing(posing: &PosingConfig) -> String {
    let pfs = posing.pfs.iter();
    let pfs = pfs.map(|(name, limits)| format!("; {name}: {}", describe_poses(limits)));
    format!("{}{}", describe_poses(&posing.all), pfs.collect::<String>())
}

pub(super) fn describe_poses(limits: &PosingLimits) -> String {
    format!(
        "loosest {}, promiscuous {}",
        limits.loosest, limits.promiscuous
    )
}

/// Uplink as the report has it, without what it may pose as.
pub(super) fn describe(uplink: &UplinkConfig) -> String {
    let mut text = match &uplink.driver {
        UplinkDriver::Netdev(netdev) => {
            let (driver, frames) = (netdev.driver.name(), netdev.ring_frames);
            let tags = if netdev.tags_in_frames {
                ", tags_in_frames"
            } else {
                ""
            };
            format!("{driver} on {}, ring_frames {frames}{tags}", netdev.device)
        }
        UplinkDriver::Dpdk { device, mtu } => format!("dpdk on {device}, mtu {mtu}"),
        UplinkDriver::Pcap { read, write, mtu } => {
            let path = |path: &Option<std::path::PathBuf>| {
                let path = path.as_ref();
                path.map_or("nothing".to_owned(), |path| path.display().to_string())
            };
            format!("pcap from {} to {}, mtu {mtu}", path(read), path(write))
        }
    };
    if let Some(native) = uplink.native {
        text.push_str(&format!(", native {native}"));
    }
    let tpids = uplink.tpids.iter().map(|tpid| format!("{tpid:#06x}"));
    text.push_str(&format!(", tpids {}", tpids.collect::<Vec<_>>().join(" ")));
    if let Some(worker) = uplink.worker {
        text.push_str(&format!(", worker {worker}"));
    }
    text
}
