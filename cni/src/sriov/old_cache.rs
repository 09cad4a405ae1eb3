// SPDX-License-Identifier: Apache-2.0
//! Cache of the older sriov plugins, read when there is no record of ours, so that pods
//! made before the switch are deleted properly.
//!
//! One file for each interface, `<container>-<interface>`: today's plugin keeps its whole configuration
//! with the VF's state from before in it, the one of 2017 what it bound to a userspace driver.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};
use sluice_sriov::PciAddr;
use sluice_sriov::claim::{Foreign, Mode, NetdevState, NetnsRef, Owner};
use sluice_sriov::settings::{Mac, VfLink, VfSettings, VfVlan};

use super::paths::PluginPaths;
use crate::spec::budget::Budget;
use crate::spec::call::Call;
use crate::spec::conf;
use crate::spec::fields::{self, Fields};
use crate::spec::log::Log;
use crate::{Error, state};

/// Takes over what the older plugins have on record for an interface, if anything: the journal has it
/// then.
///
/// # Errors
/// The journal cannot be written. A file that cannot be understood is logged and left to people: no
/// pod must hang on it for ever.
pub(super) fn adopt(
    call: &Call,
    paths: &PluginPaths,
    log: &Log,
    budget: Budget,
) -> Result<(), Error> {
    let path = paths
        .old_sriov
        .join(format!("{}-{}", call.container_id, call.ifname));
    let Ok(text) = fs::read(&path) else {
        return Ok(());
    };
    let foreign =
        conf::object(&text, &path.display().to_string()).and_then(|cached| read(&cached, call));
    let foreign = match foreign {
        Ok(foreign) => foreign,
        Err(error) => {
            let path = path.display();
            log.error(format_args!("{path} cannot be understood: {error}"));
            return Ok(());
        }
    };
    let vf = foreign.vf;
    let adopted = super::claim::node(paths)
        .adopt(foreign, super::claim::deadline(budget))
        .map_err(super::claim::error)?;
    if adopted {
        log.info(format_args!("VF {vf} was another plugin's: taken over"));
    }
    // Its note of who has the VF.
    state::remove(&allocation(&paths.old_sriov, vf))?;
    state::remove(&path)
}

fn allocation(dir: &Path, vf: PciAddr) -> PathBuf {
    dir.join("pci").join(vf.to_string())
}

fn read(cached: &Map<String, Value>, call: &Call) -> Result<Foreign, Error> {
    let fields = Fields::new(cached);
    let text = |fields: &Fields<'_>, key: &str| -> Result<Option<String>, Error> {
        let text = fields.string(key)?.filter(|text| !text.is_empty());
        Ok(text.map(str::to_owned))
    };
    let address = |text: Option<String>| {
        let address = text
            .as_deref()
            .and_then(|text| text.parse::<PciAddr>().ok());
        address.ok_or_else(|| Error::Config("it names no VF".into()))
    };
    let owner = Owner {
        network: text(&fields, "name")?.unwrap_or_default(),
        container_id: call.container_id.clone(),
        ifname: call.ifname.clone(),
        netns: NetnsRef {
            path: call.netns.clone().unwrap_or_default(),
            dev: 0,
            ino: 0,
        },
    };
    if fields.get("pci_addr").is_some() {
        return Ok(Foreign {
            owner,
            vf: address(text(&fields, "pci_addr")?)?,
            mode: Mode::Vfio,
            driver: text(&fields, "kernel_driver")?,
            netdev: None,
            before: VfSettings::default(),
            asked: VfSettings::default(),
        });
    }
    let state = fields
        .object("OrigVfState")?
        .ok_or_else(|| Error::Config("it has no OrigVfState".into()))?;
    let host_name = text(&state, "HostIFName")?;
    let mac = |key: &str| -> Result<Option<[u8; 6]>, Error> {
        let mac = text(&state, key)?.and_then(|text| text.parse::<Mac>().ok());
        Ok(mac.map(|mac| mac.0))
    };
    let mtu = state
        .integer("MTU", 0, u64::from(u32::MAX))?
        .filter(|mtu| *mtu > 0);
    let netdev = host_name.map(|name| NetdevState {
        name,
        mac: mac("EffectiveMAC")
            .ok()
            .flatten()
            .map(|mac| Mac(mac).to_string()),
        mtu: mtu.unwrap_or(1500),
        up: false,
    });
    Ok(Foreign {
        owner,
        vf: address(text(&fields, "deviceID")?)?,
        // Without a netdev on the host it was bound to a userspace driver, and stays so.
        mode: if netdev.is_some() {
            Mode::Kernel
        } else {
            Mode::Vfio
        },
        driver: None,
        netdev,
        before: before(&state, mac("AdminMAC")?)?,
        asked: asked(cached),
    })
}

fn before(state: &Fields<'_>, mac: Option<[u8; 6]>) -> Result<VfSettings, Error> {
    let number = |key| state.integer::<u32>(key, 0, u64::from(u32::MAX));
    Ok(VfSettings {
        mac,
        vlan: Some(VfVlan {
            vid: state.integer("Vlan", 0, 4094)?.unwrap_or_default(),
            qos: state.integer("VlanQoS", 0, 7)?.unwrap_or_default(),
            is_8021ad: number("VlanProto")? == Some(0x88a8),
        }),
        spoofchk: state.boolean("SpoofChk")?,
        trust: state.boolean("Trust")?,
        min_tx_rate: number("MinTxRate")?,
        max_tx_rate: number("MaxTxRate")?,
        link_state: match number("LinkState")? {
            Some(1) => Some(VfLink::Enable),
            Some(2) => Some(VfLink::Disable),
            _ => Some(VfLink::Auto),
        },
    })
}

/// Returns the settings that the plugin changed: those that its configuration names. Only their presence counts.
fn asked(cached: &Map<String, Value>) -> VfSettings {
    let named = |key| fields::find(cached, key).is_some_and(|value| *value != "");
    VfSettings {
        mac: None,
        vlan: named("vlan").then(VfVlan::default),
        spoofchk: named("spoofchk").then_some(true),
        trust: named("trust").then_some(true),
        min_tx_rate: named("min_tx_rate").then_some(0),
        max_tx_rate: named("max_tx_rate").then_some(0),
        link_state: named("link_state").then_some(VfLink::Auto),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use serde_json::json;

    fn foreign(cached: &Value) -> Result<Foreign, Error> {
        let variables = [
            ("CNI_COMMAND", "DEL"),
            ("CNI_CONTAINERID", "c1"),
            ("CNI_IFNAME", "net1"),
        ];
        let get = |name: &str| {
            let found = variables.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        let call = Call::read(get).unwrap().unwrap();
        read(cached.as_object().unwrap(), &call)
    }

    #[test]
    fn the_form_of_today() {
        let cached = json!({"cniVersion": "0.3.1", "name": "sriov-net", "type": "sriov",
            "Master": "enp1s0", "MAC": "", "vlan": 210, "vlanQoS": 0, "deviceID": "0000:01:10.2",
            "VFID": 1, "spoofchk": "off", "OrigVfState": {"HostIFName": "enp1s0v1",
                "SpoofChk": true, "Trust": false, "AdminMAC": "00:00:00:00:00:00",
                "EffectiveMAC": "02:00:00:00:00:07", "Vlan": 0, "VlanQoS": 0, "VlanProto": 33024,
                "MinTxRate": 0, "MaxTxRate": 0, "LinkState": 0, "MTU": 1500}});
        let read = foreign(&cached).unwrap();
        assert_eq!(
            (read.vf.to_string().as_str(), read.mode),
            ("0000:01:10.2", Mode::Kernel)
        );
        let netdev = read.netdev.unwrap();
        assert_eq!(
            (netdev.name.as_str(), netdev.mac.as_deref()),
            ("enp1s0v1", Some("02:00:00:00:00:07"))
        );
        let back = read.before.restoring(&read.asked);
        assert_eq!((back.mac, back.spoofchk), (Some([0; 6]), Some(true)));
        assert_eq!((back.vlan, back.trust), (Some(VfVlan::default()), None));
        let mut bound = cached.clone();
        bound["OrigVfState"]["HostIFName"] = "".into();
        assert_eq!(foreign(&bound).unwrap().mode, Mode::Vfio);
        bound["deviceID"] = "x".into();
        assert!(foreign(&bound).is_err());
    }

    #[test]
    fn the_form_of_2017() {
        let cached = json!({"pci_addr": "0000:01:10.4", "ifname": "enp4s0v2",
            "kernel_driver": "igbvf", "dpdk_driver": "igb_uio", "vfid": 2});
        let read = foreign(&cached).unwrap();
        assert_eq!(
            (read.mode, read.driver.as_deref()),
            (Mode::Vfio, Some("igbvf"))
        );
        assert!(foreign(&json!({"name": "n"})).is_err());
    }
}
