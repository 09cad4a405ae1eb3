// SPDX-License-Identifier: Apache-2.0
//! Checks of what concerns DPDK: which driver an uplink has, its device, and the section `dpdk`.

use sluice_dpdk::Device;
use sluice_yaml::{Location, Scalar};

use super::super::cores;
use super::super::raw::RawDpdk;
use super::super::{DpdkConfig, UplinkDriver};
use super::Check;
use crate::uplinks::dpdk::BUILT_IN;

/// Words of `driver`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DriverWord {
    Auto,
    AfPacket,
    AfXdp,
    Dpdk,
    IgbVf,
    Pcap,
}

impl DriverWord {
    /// Words as they are written; the first is the default.
    pub(super) const NAMES: [(&'static str, DriverWord); 6] = [
        ("auto", DriverWord::Auto),
        ("af_packet", DriverWord::AfPacket),
        ("dpdk", DriverWord::Dpdk),
        ("pcap", DriverWord::Pcap),
        ("igbvf", DriverWord::IgbVf),
        ("af_xdp", DriverWord::AfXdp),
    ];
}

/// Device of an uplink, as far as its form says which driver it is for.
#[derive(Debug)]
pub(super) enum Named {
    /// Netdev of the kernel's.
    Netdev(Scalar),
    /// Device of DPDK's.
    Dpdk(Device),
}

impl Check<'_> {
    /// Checks `device` and `vdev`, of which an uplink has one. `None`: the problem is reported.
    pub(super) fn named(
        &mut self,
        key: &str,
        place: Location,
        device: Option<Scalar>,
        vdev: Option<Scalar>,
    ) -> Option<Named> {
        let (key, raw) = match (device, vdev) {
            (Some(device), Some(vdev)) => {
                let message = format!(
                    "the uplink has a `device` already, {}: leave one of the two out",
                    device.value
                );
                self.problem(Some(vdev.referenced), format!("{key}.vdev"), message);
                return None;
            }
            (None, Some(vdev)) => (format!("{key}.vdev"), vdev),
            (device, None) => {
                let device = self.required(place, &format!("{key}.device"), device, "eth1")?;
                // A netdev's name can have neither.
                if !device.value.contains(':') && !device.value.contains(',') {
                    return Some(Named::Netdev(device));
                }
                return match Device::pci(&device.value) {
                    Ok(device) => Some(Named::Dpdk(device)),
                    Err(error) => {
                        self.problem(
                            Some(device.referenced),
                            format!("{key}.device"),
                            error.to_string(),
                        );
                        None
                    }
                };
            }
        };
        match Device::vdev(&raw.value) {
            Ok(device) => Some(Named::Dpdk(device)),
            Err(error) => {
                self.problem(Some(raw.referenced), key, error.to_string());
                None
            }
        }
    }

    /// Refuses drivers that an uplink of the configuration cannot have.
    pub(super) fn driver_is_possible(
        &mut self,
        key: &str,
        place: Location,
        word: DriverWord,
    ) -> bool {
        let message = match word {
            DriverWord::IgbVf => {
                "a VF that the engine drives by itself belongs to one pod, whose network asks for it (`\"mode\": \
                 \"engine\"`, docs/sriov.md): name a netdev, or a device of DPDK's with `driver: dpdk`"
            }
            DriverWord::Dpdk if !BUILT_IN => NOT_BUILT_IN,
            _ => return true,
        };
        self.problem(Some(place), format!("{key}.driver"), message);
        false
    }

    /// Checks an uplink on a device of DPDK's.
    pub(super) fn dpdk_uplink(
        &mut self,
        key: &str,
        place: Location,
        device: Device,
        mtu: Option<Scalar>,
    ) -> Option<UplinkDriver> {
        let mtu = self.number(&format!("{key}.mtu"), mtu, 1500, (68, 9194));
        if !BUILT_IN {
            self.problem(
                Some(place),
                key,
                format!("{device} is a device of DPDK's: {NOT_BUILT_IN}"),
            );
            return None;
        }
        Some(UplinkDriver::Dpdk { device, mtu })
    }

    /// Checks the section `dpdk`.
    pub(super) fn dpdk(&mut self, raw: RawDpdk) -> DpdkConfig {
        let memory_mib = self.number("dpdk.memory_mib", raw.memory_mib, 64, (16, 65_536));
        let cores = raw.cores.and_then(|list| {
            let text: Vec<&str> = list.value.iter().map(|core| core.value.as_str()).collect();
            match cores::parse_list(&text.join(",")) {
                Ok(cores) if !cores.is_empty() && cores.iter().all(|core| *core < 128) => {
                    Some(cores)
                }
                Ok(_) => {
                    let message = "name 1 core or more, each below 128, or leave the key out";
                    self.problem(Some(list.referenced), "dpdk.cores", message);
                    None
                }
                Err(error) => {
                    self.problem(Some(list.referenced), "dpdk.cores", error.to_string());
                    None
                }
            }
        });
        DpdkConfig { memory_mib, cores }
    }
}

/// Advice where DPDK is asked for in vain.
const NOT_BUILT_IN: &str = "this build of the engine is without DPDK, which needs libdpdk and a program that is \
                            linked dynamically: build it as docs/hardware.md says, or name a netdev";
