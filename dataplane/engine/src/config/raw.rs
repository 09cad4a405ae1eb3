// SPDX-License-Identifier: Apache-2.0
//! Configuration file as written: its keys, and every value as text with its position, so that
//! [`super::check`] can say where each wrong one is and go on to the next.

use std::path::Path;

use serde::Deserialize;
use sluice_yaml::{Problem, Scalar, Spanned};

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawConfig {
    pub(super) uplinks: Option<Vec<Spanned<RawUplink>>>,
    pub(super) workers: Option<RawWorkers>,
    pub(super) memory: Option<RawMemory>,
    pub(super) dpdk: Option<RawDpdk>,
    pub(super) idle: Option<RawIdle>,
    pub(super) limits: Option<RawLimits>,
    pub(super) posing: Option<RawPosing>,
    pub(super) policies: Option<Scalar>,
    pub(super) state_dir: Option<Scalar>,
    pub(super) run_dir: Option<Scalar>,
    pub(super) socket: Option<Scalar>,
    pub(super) log: Option<Scalar>,
    pub(super) log_format: Option<Scalar>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawUplink {
    pub(super) name: Option<Scalar>,
    pub(super) driver: Option<Scalar>,
    pub(super) device: Option<Scalar>,
    pub(super) vdev: Option<Scalar>,
    pub(super) read: Option<Scalar>,
    pub(super) write: Option<Scalar>,
    pub(super) mtu: Option<Scalar>,
    pub(super) ring_frames: Option<Scalar>,
    pub(super) tags_in_frames: Option<Scalar>,
    pub(super) native: Option<Scalar>,
    pub(super) tpids: Option<Spanned<Vec<Scalar>>>,
    pub(super) worker: Option<Scalar>,
    pub(super) posing: Option<RawPosingLimits>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawWorkers {
    pub(super) count: Option<Scalar>,
    pub(super) cores: Option<Spanned<Vec<Scalar>>>,
    pub(super) pin: Option<Scalar>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawMemory {
    pub(super) small_mbufs: Option<Scalar>,
    pub(super) large_mbufs: Option<Scalar>,
    pub(super) flow_cache: Option<Scalar>,
    pub(super) huge_pages: Option<Scalar>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawDpdk {
    pub(super) memory_mib: Option<Scalar>,
    pub(super) cores: Option<Spanned<Vec<Scalar>>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawIdle {
    pub(super) pause_after: Option<Scalar>,
    pub(super) sleep_after: Option<Scalar>,
    pub(super) sleep_cap_us: Option<Scalar>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawLimits {
    pub(super) attachment: Option<RawFloodLimits>,
    pub(super) wire: Option<RawWireLimits>,
    pub(super) groups: Option<Scalar>,
    pub(super) macs: Option<Scalar>,
    pub(super) connections: Option<RawConnections>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawConnections {
    pub(super) places: Option<Scalar>,
    pub(super) most: Option<Scalar>,
    pub(super) half_open_percent: Option<Scalar>,
    pub(super) one_way_percent: Option<Scalar>,
    pub(super) one_source_percent: Option<Scalar>,
    pub(super) grace_s: Option<Scalar>,
    pub(super) timeouts_s: Option<RawTimeouts>,
}

/// Timeouts by the names of [`Timeouts`](sluice_firewall::connections::Timeouts)' fields.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawTimeouts {
    pub(super) syn_sent: Option<Scalar>,
    pub(super) syn_received: Option<Scalar>,
    pub(super) established: Option<Scalar>,
    pub(super) unanswered: Option<Scalar>,
    pub(super) half_closed: Option<Scalar>,
    pub(super) last_ack: Option<Scalar>,
    pub(super) time_wait: Option<Scalar>,
    pub(super) reset: Option<Scalar>,
    pub(super) picked_up: Option<Scalar>,
    pub(super) udp_one_way: Option<Scalar>,
    pub(super) udp_answered: Option<Scalar>,
    pub(super) udp_stream: Option<Scalar>,
    pub(super) dns: Option<Scalar>,
    pub(super) icmp: Option<Scalar>,
    pub(super) sctp_opening: Option<Scalar>,
    pub(super) sctp_up: Option<Scalar>,
    pub(super) other: Option<Scalar>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawFloodLimits {
    pub(super) broadcast: Option<RawRate>,
    pub(super) multicast: Option<RawRate>,
    pub(super) arp_nd: Option<RawRate>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawWireLimits {
    pub(super) broadcast: Option<RawRate>,
    pub(super) multicast: Option<RawRate>,
    pub(super) arp_nd: Option<RawRate>,
    pub(super) groups: Option<RawRate>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawRate {
    pub(super) rate: Option<Scalar>,
    pub(super) burst: Option<Scalar>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawPosing {
    pub(super) loosest: Option<Scalar>,
    pub(super) promiscuous: Option<Scalar>,
    pub(super) pfs: Option<Vec<Spanned<RawPf>>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawPosingLimits {
    pub(super) loosest: Option<Scalar>,
    pub(super) promiscuous: Option<Scalar>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawPf {
    pub(super) name: Option<Scalar>,
    pub(super) loosest: Option<Scalar>,
    pub(super) promiscuous: Option<Scalar>,
}

/// Parses the structure of the file.
pub(super) fn parse(file: &Path, text: &str) -> Result<RawConfig, Problem> {
    sluice_yaml::parse(file, text, "sluiced --help")
}
