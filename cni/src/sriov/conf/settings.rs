// SPDX-License-Identifier: Apache-2.0
//! Settings of a VF that its PF applies.

use sluice_api::{Pose, VlanRequest};
use sluice_sriov::claim::Mode;
use sluice_sriov::settings::{VfLink, VfSettings, VfVlan};

use super::choice::{UplinkChoice, switch};
use crate::Error;
use crate::spec::fields::Fields;

/// Only what is asked for; but a VF of the engine has a port VLAN or has none, whatever it had before.
pub(super) fn read(
    fields: &Fields<'_>,
    mode: Mode,
    choice: &UplinkChoice,
    vlan: &VlanRequest,
    pose: &Pose,
) -> Result<VfSettings, Error> {
    if matches!(choice, UplinkChoice::Uplink(_)) {
        return Ok(VfSettings::default());
    }
    let mut port_vlan = port_vlan(fields)?;
    if mode == Mode::Engine {
        match vlan {
            VlanRequest::Access { .. } => port_vlan = port_vlan.or(Some(VfVlan::default())),
            VlanRequest::Trunk { .. } => port_vlan = Some(VfVlan::default()),
        }
    }
    let min_tx_rate = fields.integer("min_tx_rate", 0, u64::from(u32::MAX))?;
    let max_tx_rate = fields.integer("max_tx_rate", 0, u64::from(u32::MAX))?;
    if let (Some(min), Some(max)) = (min_tx_rate, max_tx_rate)
        && max != 0
        && min > max
    {
        return Err(fields.wrong("min_tx_rate", "at most max_tx_rate"));
    }
    // The NIC's own check knows of one MAC address, and its filters take further ones of trusted VFs
    // alone. The engine drives the VF: neither gives the pod anything.
    let has_other_macs = pose.is_learned().then_some(false);
    let named_macs = pose.pairs.iter().any(|pair| pair.mac.is_some());
    Ok(VfSettings {
        mac: None,
        vlan: port_vlan,
        spoofchk: switch(fields, "spoofchk")?.or(has_other_macs),
        trust: switch(fields, "trust")?.or(named_macs.then_some(true)),
        min_tx_rate,
        max_tx_rate,
        link_state: match fields.string("link_state")? {
            None | Some("") => None,
            Some("auto") => Some(VfLink::Auto),
            Some("enable") => Some(VfLink::Enable),
            Some("disable") => Some(VfLink::Disable),
            Some(_) => return Err(fields.wrong("link_state", "auto, enable or disable")),
        },
    })
}

fn port_vlan(fields: &Fields<'_>) -> Result<Option<VfVlan>, Error> {
    let vid: Option<u16> = fields.integer("vlan", 0, 4094)?;
    let qos: Option<u8> = fields.integer("vlanQoS", 0, 7)?;
    let protocol = fields.string("vlanProto")?.filter(|text| !text.is_empty());
    let is_8021ad = match protocol.map(str::to_ascii_lowercase).as_deref() {
        None | Some("802.1q") => false,
        Some("802.1ad") => true,
        Some(_) => return Err(fields.wrong("vlanProto", "802.1q or 802.1ad")),
    };
    let vid_or_none = vid.unwrap_or(0);
    if vid_or_none == 0 && (qos.unwrap_or(0) != 0 || is_8021ad) {
        return Err(Error::Config(
            "vlanQoS and vlanProto are of a port VLAN: give vlan from 1 to 4094 too".into(),
        ));
    }
    Ok(vid.map(|vid| VfVlan {
        vid,
        qos: qos.unwrap_or(0),
        is_8021ad,
    }))
}
