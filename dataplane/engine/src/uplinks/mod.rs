// SPDX-License-Identifier: Apache-2.0
//! Uplinks of the configuration: opened at start, given back at shutdown. What an uplink takes from the host is on
//! disk before it is taken, so that the next engine gives it back if this one dies.

pub mod host_stack;
pub mod netdev;

use std::collections::BTreeMap;
use std::net::Ipv6Addr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sluice_api::ApiError;
use sluice_datapath::ports::af_packet::{AfPacket, AfPacketConfig};
use sluice_datapath::ports::pcap::{PcapConfig, PcapUplink};
use sluice_datapath::{Uplink, UplinkId, UplinkSpec};

use self::host_stack::{HostStackError, HostStackGuard, HostStackRecord};
use crate::config::{UplinkConfig, UplinkDriver};
use crate::engine::SharedEngine;
use crate::records::Records;
use crate::refusal;

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
    /// Boot in which it was taken: netdevs' settings do not outlive it.
    pub boot_id: String,
}

impl UplinkRecord {
    fn of(record: &HostStackRecord, boot_id: &str) -> UplinkRecord {
        UplinkRecord {
            device: record.device.clone(),
            was_up: record.was_up,
            ipv6_disabled: record.ipv6_disabled,
            ipv6_addresses: record.ipv6_addresses.clone(),
            boot_id: boot_id.to_owned(),
        }
    }

    fn to_host_stack(&self) -> HostStackRecord {
        HostStackRecord {
            device: self.device.clone(),
            was_up: self.was_up,
            ipv6_disabled: self.ipv6_disabled,
            ipv6_addresses: self.ipv6_addresses.clone(),
        }
    }
}

/// Uplink that is open.
#[derive(Debug)]
pub struct OpenUplink {
    /// Name in the configuration.
    pub name: String,
    /// Number in the datapath.
    pub id: UplinkId,
    /// MTU in bytes.
    pub mtu: u32,
    /// Guard that keeps the host's stack off the netdev; `None` for capture files.
    guard: Option<HostStackGuard>,
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

/// Opens an uplink and gives it to the engine; its worker polls it from now on.
///
/// # Errors
/// A step failed; the host has everything back.
pub fn open(
    config: &UplinkConfig,
    engine: &SharedEngine,
    records: &Records,
    boot_id: &str,
) -> Result<OpenUplink, ApiError> {
    let failed = |error: &dyn std::fmt::Display| {
        refusal::internal(format!("uplink {} cannot be opened: {error}", config.name))
    };
    match &config.driver {
        UplinkDriver::Pcap { read, write, mtu } => {
            let files = PcapConfig {
                read: read.clone(),
                write: write.clone(),
            };
            let port = PcapUplink::open(files, *mtu).map_err(|error| failed(&error))?;
            add(config, Box::new(port), engine, None)
        }
        UplinkDriver::AfPacket { device } => {
            let record = what_the_host_had(config, device, records, boot_id)
                .map_err(|error| failed(&error))?;
            // Before the netdev is changed, all that may fail without having changed it.
            records.put(&config.name, &UplinkRecord::of(&record, boot_id))?;
            let guard = HostStackGuard::engage(record.clone()).map_err(|error| {
                // Again, as only this tells whether the host has everything back.
                if record.restore().is_ok() {
                    forget(records, &config.name);
                }
                failed(&error)
            })?;
            if !guard.sending_blocked() {
                tracing::warn!(
                    "uplink {}: this kernel cannot keep the host from sending by {device} (it is \
                     older than 5.16): take the host's addresses off it",
                    config.name
                );
            }
            let netdev = guard.netdev();
            let added = AfPacket::open(AfPacketConfig::new(device, netdev.index, netdev.mtu))
                .map_err(|error| failed(&error))
                .and_then(|port| add(config, Box::new(port), engine, None));
            match added {
                Ok(uplink) => Ok(OpenUplink {
                    guard: Some(guard),
                    ..uplink
                }),
                Err(error) => {
                    release(&config.name, guard, records);
                    Err(error)
                }
            }
        }
    }
}

/// Settings to give back one day: those that a dead engine noted and could not give back, else those of
/// the netdev now.
fn what_the_host_had(
    config: &UplinkConfig,
    device: &str,
    records: &Records,
    boot_id: &str,
) -> Result<HostStackRecord, HostStackError> {
    match records.get::<UplinkRecord>(&config.name) {
        Ok(Some(noted)) if noted.device == device && noted.boot_id == boot_id => {
            Ok(noted.to_host_stack())
        }
        _ => HostStackRecord::take(device),
    }
}

fn add(
    config: &UplinkConfig,
    port: Box<dyn Uplink>,
    engine: &SharedEngine,
    guard: Option<HostStackGuard>,
) -> Result<OpenUplink, ApiError> {
    let mtu = port.mtu();
    let spec = UplinkSpec {
        name: config.name.clone(),
        port,
        worker: config.worker,
        tpids: config.tpids.clone(),
        native: config.native,
        network: None,
        port_vlan: false,
    };
    let id = engine.try_with(|engine| engine.add_uplink(spec))?;
    Ok(OpenUplink {
        name: config.name.clone(),
        id,
        mtu,
        guard,
    })
}

impl OpenUplink {
    /// Gives the host back what the uplink took. The engine must have closed the port.
    pub fn close(self, records: &Records) {
        if let Some(guard) = self.guard {
            release(&self.name, guard, records);
        }
    }
}

/// Gives the netdev back, then removes its record.
fn release(name: &str, guard: HostStackGuard, records: &Records) {
    let record = guard.record().clone();
    let mut released = guard.release();
    if released.is_err() {
        // What holds a netdev's lock for a moment, such as a driver's reset, is over by then.
        std::thread::sleep(Duration::from_millis(200));
        released = record.restore();
    }
    match released {
        Ok(()) => forget(records, name),
        Err(error) => tracing::error!(
            "uplink {name}: netdev {} could not be given back to the host: {error}; {} says what \
             it had, and the next engine tries again",
            record.device,
            records.path(name).display()
        ),
    }
}

fn forget(records: &Records, name: &str) {
    if let Err(error) = records.remove(name) {
        tracing::error!("uplink {name}: {error}");
    }
}
