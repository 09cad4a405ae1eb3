// SPDX-License-Identifier: Apache-2.0
//! The interface plugin's own keys.

mod choice;
mod mac;
mod pose;
mod settings;
#[cfg(test)]
mod tests;
mod vlan;

use std::net::IpAddr;
use std::path::PathBuf;

use serde_json::Value;
use sluice_api::{Pose, PriorityRequest, Role, Vid, VlanRequest};
use sluice_sriov::PciAddr;
use sluice_sriov::claim::Mode;
use sluice_sriov::settings::VfSettings;

use super::memif::MemifConf;
use super::vhost_user::VhostUserConf;
use crate::Error;
use crate::spec::call::Call;
use crate::spec::conf::NetConf;
use crate::spec::fields::Fields;

pub use choice::{PickConf, UplinkChoice, VfChoice};

/// The configuration of one interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VfConf {
    /// `mode`; without it a `dpdk` dictionary means vfio, and kernel is the rest.
    pub mode: Mode,
    /// `uplink`, or `if0` with `vf`, or `deviceID`.
    pub choice: UplinkChoice,
    /// Settings of the VF that its PF applies: `vlan` with `vlanQoS` and `vlanProto`, `spoofchk`, `trust`,
    /// `min_tx_rate`, `max_tx_rate`, `link_state`. The MAC address is in `mac`. On the engine, `spoofchk`
    /// and `trust` follow `pose`.
    pub settings: VfSettings,
    /// In engine mode: `vlan`, or `vlans` with `native`; and `qinq`.
    pub vlan: VlanRequest,
    /// In engine mode: `roles`.
    pub roles: Vec<Role>,
    /// In engine mode: `antiSpoof`, `allowedAddressPairs` and `promiscuous`.
    pub pose: Pose,
    /// In engine mode: `multicastGroups`.
    pub multicast_groups: Vec<IpAddr>,
    /// In engine mode: `priority`.
    pub priority: PriorityRequest,
    /// In engine mode: `firewall`.
    pub firewall: Option<String>,
    /// `mac`, or what the runtime asks for in its place.
    pub mac: Option<String>,
    /// `mtu`.
    pub mtu: Option<u32>,
    /// In engine mode: `tap`, a kernel interface in place of a memif.
    pub tap: bool,
    /// In engine mode: `memif`.
    pub memif: MemifConf,
    /// In engine mode: `vhostUser`, a vhost-user socket in place of a memif; or the keys of
    /// userspace-cni that name one.
    pub vhost_user: Option<VhostUserConf>,
    /// `ipam.type`; absent: no addresses. `l2enable` switches it off.
    pub ipam: Option<String>,
    /// In engine mode: `deviceID`, from the key or runtimeConfig. It names the directory of a device
    /// plugin.
    pub device_id: Option<String>,
    /// `runtimeConfig.CNIDeviceInfoFile`.
    pub device_info: Option<PathBuf>,
}

/// Keys of engine attachments.
const ENGINE_KEYS: [&str; 14] = [
    "uplink",
    "vlans",
    "native",
    "qinq",
    "roles",
    "antiSpoof",
    "allowedAddressPairs",
    "promiscuous",
    "multicastGroups",
    "priority",
    "firewall",
    "tap",
    "memif",
    "vhostUser",
];

impl VfConf {
    /// Reads and checks it.
    ///
    /// # Errors
    /// [`Error::Config`].
    pub fn read(conf: &NetConf, call: &Call) -> Result<VfConf, Error> {
        let fields = conf.fields();
        let mode = mode(&fields)?;
        let runtime = fields.object("runtimeConfig")?;
        let device_id = device_id(&fields, runtime.as_ref())?;
        let choice = choice::read(&fields, mode, device_id)?;
        if mode != Mode::Engine
            && let Some(key) = ENGINE_KEYS.into_iter().find(|key| is_set(&fields, key))
        {
            return Err(Error::Config(format!(
                "{key} is for attachments on the engine: give mode engine too, or remove the key"
            )));
        }
        let vlan = if mode == Mode::Engine {
            vlan::read(&fields)?
        } else {
            VlanRequest::Access {
                vid: Vid::UNTAGGED,
                qinq: false,
            }
        };
        let pose = match mode {
            Mode::Engine => pose::read(&fields)?,
            Mode::Kernel | Mode::Vfio => Pose::default(),
        };
        let l2enable = choice::switch(&fields, "l2enable")?.unwrap_or_default();
        let ipam = fields
            .object("ipam")?
            .map(|ipam| ipam.string("type"))
            .transpose()?
            .flatten();
        let read = VfConf {
            mode,
            settings: settings::read(&fields, mode, &choice, &vlan, &pose)?,
            choice,
            vlan,
            roles: roles(&fields)?,
            pose,
            multicast_groups: pose::multicast_groups(&fields)?,
            priority: priority(&fields)?,
            firewall: firewall(&fields)?,
            mac: mac::asked(&fields, runtime.as_ref(), call)?,
            mtu: fields.integer("mtu", 68, 65_535)?,
            tap: fields.boolean("tap")?.unwrap_or_default(),
            memif: fields
                .object("memif")?
                .map(|memif| MemifConf::read(&memif))
                .transpose()?
                .unwrap_or_default(),
            vhost_user: match mode {
                Mode::Engine => VhostUserConf::of(&fields)?,
                Mode::Kernel | Mode::Vfio => None,
            },
            ipam: ipam
                .filter(|program| !program.is_empty() && !l2enable)
                .map(str::to_owned),
            device_id: device_id
                .filter(|_| mode == Mode::Engine)
                .map(str::to_owned),
            device_info: device_info(runtime.as_ref())?,
        };
        read.check(&fields)?;
        Ok(read)
    }

    /// Refuses combinations of keys that contradict each other.
    fn check(&self, fields: &Fields<'_>) -> Result<(), Error> {
        let has_link = self.mode == Mode::Kernel;
        if self.ipam.as_deref() == Some("dhcp") && !has_link {
            return Err(Error::Config(
                "ipam dhcp needs a kernel link to ask on, which only mode kernel has: use \
                 host-local, static, or another that needs none"
                    .into(),
            ));
        }
        if self.tap && fields.get("memif").is_some() {
            return Err(Error::Config("tap and memif exclude each other".into()));
        }
        if let Some(vhost_user) = &self.vhost_user {
            if self.tap || fields.get("memif").is_some() {
                return Err(Error::Config(
                    "vhostUser excludes tap and memif: give one of them".into(),
                ));
            }
            let device_dir = self.device_id.as_ref().map(PathBuf::from);
            if vhost_user.path("", "", device_dir).is_none() {
                return Err(Error::Config(
                    "vhostUser needs a place for its socket, as front ends know no abstract names: \
                     give socketDir or an absolute path as socket, or a device id by a resourceName"
                        .into(),
                ));
            }
        }
        Ok(())
    }

    /// The name of the interface in the pod: `if0name` in kernel mode.
    pub fn pod_ifname<'a>(&'a self, call: &'a Call) -> &'a str {
        match &self.choice {
            UplinkChoice::Vf(vf) if self.mode == Mode::Kernel => {
                vf.pod_ifname.as_deref().unwrap_or(&call.ifname)
            }
            _ => &call.ifname,
        }
    }

    /// Returns the name of the uplink or VF, for messages.
    pub fn uplink_name(&self) -> String {
        match &self.choice {
            UplinkChoice::Uplink(name) => format!("uplink {name}"),
            UplinkChoice::Vf(VfChoice { pf, pick, .. }) => match (pf, pick) {
                (_, PickConf::Address(vf)) => format!("VF {vf}"),
                (Some(pf), PickConf::Index(index)) => format!("VF {index} of {pf}"),
                (pf, _) => format!("a VF of {}", pf.as_deref().unwrap_or_default()),
            },
        }
    }
}

fn is_set(fields: &Fields<'_>, key: &str) -> bool {
    fields
        .get(key)
        .is_some_and(|value| !matches!(value, Value::Bool(false)) && *value != "")
}

fn mode(fields: &Fields<'_>) -> Result<Mode, Error> {
    let dpdk = fields.get("dpdk").is_some();
    match fields.string("mode")? {
        None | Some("") if dpdk => Ok(Mode::Vfio),
        None | Some("") => Ok(Mode::Kernel),
        Some(mode @ ("kernel" | "engine")) if dpdk => Err(Error::Config(format!(
            "dpdk goes with mode vfio, not {mode}: remove one of them"
        ))),
        Some("kernel") => Ok(Mode::Kernel),
        Some("vfio") => Ok(Mode::Vfio),
        Some("engine") => Ok(Mode::Engine),
        Some(_) => Err(fields.wrong("mode", "kernel, vfio or engine")),
    }
}

/// Roles that the pod may have besides that of a host.
fn roles(fields: &Fields<'_>) -> Result<Vec<Role>, Error> {
    let mut roles = Vec::new();
    for value in fields.list("roles")?.unwrap_or_default() {
        let role = value.as_str().and_then(|text| text.parse::<Role>().ok());
        let role =
            role.ok_or_else(|| fields.wrong("roles", "a list of router, dhcp-server and querier"))?;
        if !roles.contains(&role) {
            roles.push(role);
        }
    }
    Ok(roles)
}

/// Treatment of the priority of the tags that the pod sends.
fn priority(fields: &Fields<'_>) -> Result<PriorityRequest, Error> {
    match fields.string("priority")? {
        None | Some("" | "clear") => Ok(PriorityRequest::Clear),
        Some("keep") => Ok(PriorityRequest::Keep),
        Some(_) => Err(fields.wrong("priority", "keep or clear")),
    }
}

/// A policy's name, or a list of at most one: an attachment has at most one of its own.
fn firewall(fields: &Fields<'_>) -> Result<Option<String>, Error> {
    let one = "one policy's name (an attachment has at most one besides its VLAN's)";
    let name = match fields.get("firewall") {
        None => return Ok(None),
        Some(Value::Array(list)) if list.is_empty() => return Ok(None),
        Some(Value::Array(list)) if list.len() == 1 => list[0].as_str(),
        Some(value) => value.as_str(),
    };
    name.filter(|name| !name.is_empty())
        .map(|name| Some(name.to_owned()))
        .ok_or_else(|| fields.wrong("firewall", one))
}

/// The device that a device plugin gave: from the runtime, or the key, or what Multus calls it.
fn device_id<'a>(
    fields: &Fields<'a>,
    runtime: Option<&Fields<'a>>,
) -> Result<Option<&'a str>, Error> {
    let from_runtime = runtime
        .map(|runtime| runtime.string("deviceID"))
        .transpose()?
        .flatten();
    let id = from_runtime
        .or(fields.string("deviceID")?)
        .or(fields.string("pciBusID")?)
        .filter(|id| !id.is_empty());
    let Some(id) = id else { return Ok(None) };
    // It may name a directory.
    let is_address = id.parse::<PciAddr>().is_ok();
    if !is_address && (!crate::spec::conf::is_identifier(id) || id.len() > 100) {
        return Err(Error::Config(format!(
            "deviceID {id:?} is neither a PCI address like 0000:01:10.0 nor the id of an attachment"
        )));
    }
    Ok(Some(id))
}

fn device_info(runtime: Option<&Fields<'_>>) -> Result<Option<PathBuf>, Error> {
    let Some(runtime) = runtime else {
        return Ok(None);
    };
    match runtime.string("CNIDeviceInfoFile")? {
        None | Some("") => Ok(None),
        Some(path) if path.starts_with('/') => Ok(Some(PathBuf::from(path))),
        Some(_) => Err(runtime.wrong("CNIDeviceInfoFile", "an absolute path")),
    }
}
