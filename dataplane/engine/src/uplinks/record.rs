// SPDX-License-Identifier: Apache-2.0
//! Records of what uplinks took from the host: on disk before it is taken.

use std::collections::BTreeMap;
use std::net::Ipv6Addr;

use serde::{Deserialize, Serialize};

use super::host_stack::HostStackRecord;
use crate::records::Records;

/// Record on disk of what an uplink took from the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UplinkRecord {
    /// Name of the netdev.
    pub device: String,
    /// Whether it was administratively up.
    pub was_up: bool,
    /// Whether IPv6 was disabled on it; absent on a kernel without IPv6.
    pub ipv6_disabled: Option<bool>,
    /// Permanent IPv6 addresses with their prefix lengths.
    pub ipv6_addresses: Vec<(Ipv6Addr, u8)>,
    /// Offloads that take VLAN tags out of received frames and were on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub vlan_offloads: Vec<String>,
    /// Boot in which it was taken: netdevs' settings do not outlive it.
    pub boot_id: String,
}

impl UplinkRecord {
    pub(super) fn of(record: &HostStackRecord, boot_id: &str) -> UplinkRecord {
        UplinkRecord {
            device: record.device.clone(),
            was_up: record.was_up,
            ipv6_disabled: record.ipv6_disabled,
            ipv6_addresses: record.ipv6_addresses.clone(),
            vlan_offloads: record.vlan_offloads.clone(),
            boot_id: boot_id.to_owned(),
        }
    }

    pub(super) fn to_host_stack(&self) -> HostStackRecord {
        HostStackRecord {
            device: self.device.clone(),
            was_up: self.was_up,
            ipv6_disabled: self.ipv6_disabled,
            ipv6_addresses: self.ipv6_addresses.clone(),
            vlan_offloads: self.vlan_offloads.clone(),
        }
    }
}

/// Gives back the netdevs that a dead engine took. Returns problems for the operator, by the object they
/// are about; their records stay for another try.
pub fn recover(records: &Records, boot_id: &str) -> BTreeMap<String, String> {
    let all = match records.all::<UplinkRecord>() {
        Ok(all) => all,
        Err(error) => return BTreeMap::from([(about(""), error.to_string())]),
    };
    let mut problems = BTreeMap::new();
    for record in all {
        let (name, record) = match record {
            Ok(record) => record,
            Err(unreadable) => {
                problems.insert(about(&unreadable.name()), unreadable.to_string());
                continue;
            }
        };
        if record.boot_id == boot_id {
            tracing::info!(
                "giving netdev {}, which a dead engine had taken, back to the host",
                record.device
            );
            if let Err(error) = record.to_host_stack().restore() {
                let problem = format!(
                    "netdev {} could not be given back to the host: {error}",
                    record.device
                );
                problems.insert(about(&name), problem);
                continue;
            }
        }
        if let Err(error) = records.remove(&name) {
            problems.insert(about(&name), error.to_string());
        }
    }
    problems
}

/// Key of the problem of an uplink's record. No attachment's record has such a name.
fn about(name: &str) -> String {
    format!("uplinks/{name}")
}
