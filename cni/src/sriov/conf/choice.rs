// SPDX-License-Identifier: Apache-2.0
//! [`UplinkChoice`]: the uplink of the engine or the VF that an interface uses.

use serde_json::Value;
use sluice_sriov::PciAddr;
use sluice_sriov::claim::Mode;

use crate::Error;
use crate::spec::call::check_ifname;
use crate::spec::fields::Fields;

/// Uplink or VF that an interface uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UplinkChoice {
    /// An uplink that the engine has, by its name.
    Uplink(String),
    /// A VF of its own.
    Vf(VfChoice),
}

/// A VF, and how it is to be given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VfChoice {
    /// `if0`: netdev of the PF.
    pub pf: Option<String>,
    /// `vf` or `deviceID`.
    pub pick: PickConf,
    /// `if0name`: the name in the pod, where it is not `CNI_IFNAME`.
    pub pod_ifname: Option<String>,
    /// `dpdk.dpdk_driver`.
    pub driver: String,
    /// `dpdk.kernel_driver`.
    pub kernel_driver: Option<String>,
    /// `allowUnsafeNoIommu`: in mode vfio, a VF without an IOMMU before it is given to the pod too.
    pub allow_unsafe_noiommu: bool,
}

/// Selector of a VF.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PickConf {
    /// `vf`.
    Index(u32),
    /// `deviceID`.
    Address(PciAddr),
    /// Neither: the first one that is free.
    FirstFree,
}

/// Keys that are about a VF alone. `spoofchk` and `trust` speak of any attachment on the engine.
const VF_KEYS: [&str; 9] = [
    "if0",
    "vf",
    "if0name",
    "vlanQoS",
    "vlanProto",
    "min_tx_rate",
    "max_tx_rate",
    "link_state",
    "l2enable",
];

pub(super) fn read(
    fields: &Fields<'_>,
    mode: Mode,
    device_id: Option<&str>,
) -> Result<UplinkChoice, Error> {
    let uplink = fields.string("uplink")?.filter(|name| !name.is_empty());
    let address = device_id.and_then(|id| id.parse::<PciAddr>().ok());
    let pf = fields.string("if0")?.or(fields.string("master")?);
    let pf = pf.filter(|name| !name.is_empty()).map(str::to_owned);
    if let Some(uplink) = uplink.filter(|_| mode == Mode::Engine) {
        let key = VF_KEYS.into_iter().find(|key| fields.get(key).is_some());
        if let Some(key) = key.or(address.map(|_| "deviceID")) {
            return Err(Error::Config(format!(
                "{key} is about a VF, and an attachment on uplink {uplink} has none: give if0 in \
                 place of uplink, or remove {key}"
            )));
        }
        return Ok(UplinkChoice::Uplink(uplink.to_owned()));
    }
    let index = index(fields)?;
    let pick = match (address, index) {
        // The device plugin has decided.
        (Some(address), _) => PickConf::Address(address),
        (None, Some(index)) => PickConf::Index(index),
        (None, None) => PickConf::FirstFree,
    };
    if pf.is_none() && address.is_none() {
        let uplink = if mode == Mode::Engine {
            "uplink (one of the engine's, `sluicectl status` lists them), "
        } else {
            ""
        };
        let device = match device_id {
            Some(id) => format!("; deviceID {id} is not a PCI address"),
            None => String::new(),
        };
        return Err(Error::Config(format!(
            "it is not said what the interface stands on: give {uplink}if0 (netdev of a PF), or \
             deviceID (PCI address of a VF){device}"
        )));
    }
    let dpdk = fields.object("dpdk")?;
    let of_dpdk = |key: &str| -> Result<Option<String>, Error> {
        let text = dpdk.as_ref().map(|dpdk| dpdk.string(key)).transpose()?;
        let text = text.flatten().filter(|text| !text.is_empty());
        match text {
            Some(text) if text.contains('/') || text.starts_with('.') => Err(Error::Config(
                format!("dpdk.{key} {text:?} is not a driver"),
            )),
            text => Ok(text.map(str::to_owned)),
        }
    };
    // Accepted and not needed: sysfs does what the tool does.
    of_dpdk_tool(dpdk.as_ref())?;
    Ok(UplinkChoice::Vf(VfChoice {
        pf,
        pick,
        pod_ifname: pod_ifname(fields)?,
        driver: of_dpdk("dpdk_driver")?.unwrap_or_else(|| "vfio-pci".to_owned()),
        kernel_driver: of_dpdk("kernel_driver")?,
        allow_unsafe_noiommu: allow_unsafe_noiommu(fields, mode)?,
    }))
}

fn allow_unsafe_noiommu(fields: &Fields<'_>, mode: Mode) -> Result<bool, Error> {
    let allow = fields.boolean("allowUnsafeNoIommu")?.unwrap_or_default();
    if allow && mode != Mode::Vfio {
        return Err(Error::Config(
            "allowUnsafeNoIommu is for mode vfio alone: the engine drives no VF without an IOMMU, and \
             a netdev needs none"
                .into(),
        ));
    }
    Ok(allow)
}

fn of_dpdk_tool(dpdk: Option<&Fields<'_>>) -> Result<(), Error> {
    dpdk.map(|dpdk| dpdk.string("dpdk_tool")).transpose()?;
    Ok(())
}

/// `vf`: 0 counts as given.
fn index(fields: &Fields<'_>) -> Result<Option<u32>, Error> {
    match fields.get("vf") {
        Some(Value::String(text)) if text.is_empty() => Ok(None),
        Some(Value::String(text)) => text
            .parse()
            .map(Some)
            .map_err(|_| fields.wrong("vf", "the index of a VF, from 0")),
        _ => fields.integer("vf", 0, 65_535),
    }
}

fn pod_ifname(fields: &Fields<'_>) -> Result<Option<String>, Error> {
    let Some(name) = fields.string("if0name")?.filter(|name| !name.is_empty()) else {
        return Ok(None);
    };
    if ["eth0", "eth1", "lo"].contains(&name) {
        return Err(fields.wrong("if0name", "a name other than eth0, eth1 and lo"));
    }
    if let Err(why) = check_ifname(name) {
        return Err(Error::Config(format!("if0name {name:?} {why}")));
    }
    Ok(Some(name.to_owned()))
}

/// A switch as the older plugins take it: a bool, or a word for it.
pub(super) fn switch(fields: &Fields<'_>, key: &str) -> Result<Option<bool>, Error> {
    match fields.get(key) {
        Some(Value::String(text)) => match text.to_ascii_lowercase().as_str() {
            "" => Ok(None),
            "on" | "true" | "yes" | "1" => Ok(Some(true)),
            "off" | "false" | "no" | "0" => Ok(Some(false)),
            _ => Err(fields.wrong(key, "on or off")),
        },
        _ => fields.boolean(key),
    }
}
