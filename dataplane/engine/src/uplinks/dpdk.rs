// SPDX-License-Identifier: Apache-2.0
//! Uplinks on DPDK's devices, in builds with the feature `dpdk`; in others the configuration refuses them.

use sluice_api::ApiError;
use sluice_dpdk::Device;

use super::UplinkHost;
use crate::config::Config;
use crate::refusal;

/// Whether this build has DPDK.
pub const BUILT_IN: bool = cfg!(feature = "dpdk");

/// Starts DPDK's EAL if the configuration has an uplink that needs it, before any pod is attached: EAL takes all
/// its memory now, as it replaces the process's SIGBUS action while it takes some.
///
/// # Errors
/// EAL does not start; the message is for an operator.
#[cfg(feature = "dpdk")]
pub fn start(config: &Config) -> Result<(), ApiError> {
    use crate::config::{UplinkDriver, cores};
    use sluice_dpdk::{Eal, EalConfig};

    let uplinks = &config.uplinks;
    if !uplinks
        .iter()
        .any(|uplink| matches!(uplink.driver, UplinkDriver::Dpdk { .. }))
    {
        return Ok(());
    }
    let eal = EalConfig {
        memory_mib: config.dpdk.memory_mib,
        cores: match &config.dpdk.cores {
            Some(cores) => cores.clone(),
            // Those of the calling thread, which is control's.
            None => cores::allowed().map_err(|error| {
                refusal::internal(format!("the cores of this process cannot be read: {error}"))
            })?,
        },
        huge_pages: config.memory.huge_pages,
    };
    Eal::start(&eal)
        .map(drop)
        .map_err(|error| refusal::internal(error.to_string()))
}

/// Starts nothing, as this build has no DPDK.
///
/// # Errors
/// None.
#[cfg(not(feature = "dpdk"))]
pub fn start(_config: &Config) -> Result<(), ApiError> {
    Ok(())
}

/// Opens a device of DPDK's.
///
/// # Errors
/// DPDK refuses, and its own lines are in the message.
#[cfg(feature = "dpdk")]
pub(super) fn open(
    uplink: &str,
    device: &Device,
    mtu: u32,
    host: &UplinkHost,
) -> Result<Box<dyn sluice_datapath::Uplink>, ApiError> {
    use sluice_datapath::ports::dpdk::DpdkUplink;
    use sluice_dpdk::{Eal, Port, PortConfig};

    let Some(eal) = Eal::running() else {
        return Err(refusal::unavailable(format!(
            "uplink {uplink}: DPDK takes all its memory when the engine starts, and there was no uplink with \
             `driver: dpdk` then: restart the engine"
        )));
    };
    let (small, large) = host.engine.with(sluice_datapath::Engine::mempools)?;
    let config = PortConfig {
        device: device.clone(),
        mac: None,
        macs: Vec::new(),
        groups: Vec::new(),
        promiscuous: true,
        mtu,
        vlans: Vec::new(),
        small,
        large,
        rx_descriptors: DESCRIPTORS,
        tx_descriptors: DESCRIPTORS,
    };
    let port = Port::open(eal, config)
        .map_err(|error| refusal::internal(format!("uplink {uplink} cannot be opened: {error}")))?;
    for warning in port.warnings() {
        tracing::warn!("uplink {uplink}: {warning}");
    }
    tracing::info!(
        "uplink {uplink}: {device} by DPDK's driver {}, {}",
        port.driver(),
        eal.version()
    );
    Ok(Box::new(DpdkUplink::new(port)))
}

/// Descriptors of each queue: sixteen bursts.
#[cfg(feature = "dpdk")]
const DESCRIPTORS: u16 = 1024;

/// Refuses the device, as this build has no DPDK.
///
/// # Errors
/// Always.
#[cfg(not(feature = "dpdk"))]
pub(super) fn open(
    uplink: &str,
    device: &Device,
    _mtu: u32,
    _host: &UplinkHost,
) -> Result<Box<dyn sluice_datapath::Uplink>, ApiError> {
    Err(refusal::invalid(format!(
        "uplink {uplink}: {device} is a device of DPDK's, and this build of the engine is without DPDK"
    )))
}
