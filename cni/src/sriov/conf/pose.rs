// SPDX-License-Identifier: Apache-2.0
//! Keys for whom the pod may send as, and which groups it is in: `antiSpoof`, `allowedAddressPairs`,
//! `promiscuous` and `multicastGroups`, with `spoofchk` and `trust` where they say the same.
//!
//! These are keys of the network's author. None is read from `runtimeConfig`, `CNI_ARGS` or `args`, which
//! a pod's own annotation can fill.

use std::net::IpAddr;

use sluice_api::{
    AddressPair, AntiSpoof, Mac, Pose, check_address_pairs, check_multicast_groups, parse_prefix,
};

use super::choice::switch;
use crate::Error;
use crate::spec::fields::Fields;

/// Form of `allowedAddressPairs`, for messages.
const PAIRS: &str = "a list of objects with mac, ip or both";

/// Reads whom the pod of an engine attachment may send as.
///
/// # Errors
/// [`Error::Config`]: a wrong value, or two keys that contradict each other.
pub(super) fn read(fields: &Fields<'_>) -> Result<Pose, Error> {
    let pose = Pose {
        anti_spoof: anti_spoof(fields)?,
        pairs: pairs(fields)?,
        promiscuous: fields.switch("promiscuous")?.unwrap_or_default(),
    };
    if switch(fields, "spoofchk")? == Some(true) && pose.is_learned() {
        let key = match pose.anti_spoof {
            AntiSpoof::Off => "antiSpoof off",
            AntiSpoof::Strict | AntiSpoof::Mac => "allowedAddressPairs with a MAC address",
        };
        return Err(Error::Config(format!(
            "spoofchk on and {key} contradict each other: the NIC would drop what is to pass; remove one"
        )));
    }
    if pose.promiscuous && switch(fields, "trust")? != Some(true) {
        return Err(Error::Config(
            "promiscuous needs trust: on beside it, as the pod is given frames that are for others"
                .into(),
        ));
    }
    Ok(pose)
}

/// `antiSpoof`, or what the older `spoofchk` says.
fn anti_spoof(fields: &Fields<'_>) -> Result<AntiSpoof, Error> {
    let asked = match fields.string("antiSpoof")? {
        None | Some("") => None,
        Some(text) => {
            let read = text.parse::<AntiSpoof>();
            Some(read.map_err(|_| fields.wrong("antiSpoof", "strict, mac or off"))?)
        }
    };
    match (asked, switch(fields, "spoofchk")?) {
        (Some(asked @ (AntiSpoof::Strict | AntiSpoof::Mac)), Some(false)) => {
            Err(Error::Config(format!(
                "antiSpoof {asked} and spoofchk off contradict each other, as spoofchk off means \
                 antiSpoof off: remove one"
            )))
        }
        (None, Some(false)) => Ok(AntiSpoof::Off),
        (asked, _) => Ok(asked.unwrap_or_default()),
    }
}

fn pairs(fields: &Fields<'_>) -> Result<Vec<AddressPair>, Error> {
    let key = "allowedAddressPairs";
    let mut pairs = Vec::new();
    for value in fields.list(key)?.unwrap_or_default() {
        let map = value.as_object().ok_or_else(|| fields.wrong(key, PAIRS))?;
        let wrong = |why: String| Error::Config(format!("{key}: {why}"));
        let pair = Fields::new(map);
        // The name of a member alone would not say whose it is.
        pair.only(&["mac", "ip"])
            .map_err(|_| fields.wrong(key, PAIRS))?;
        let text = |member: &str| -> Result<Option<&str>, Error> {
            let text = pair
                .string(member)
                .map_err(|error| wrong(error.to_string()))?;
            Ok(text.filter(|text| !text.is_empty()))
        };
        let mac = text("mac")?.map(Mac::parse_unicast).transpose();
        let ip = text("ip")?.map(parse_prefix).transpose();
        pairs.push(AddressPair {
            mac: mac.map_err(|error| wrong(format!("mac: {error}")))?,
            ip: ip.map_err(|error| wrong(format!("ip: {error}")))?,
        });
    }
    check_address_pairs(&pairs).map_err(|why| Error::Config(format!("{key}: {why}")))?;
    Ok(pairs)
}

/// Reads `multicastGroups`.
///
/// # Errors
/// [`Error::Config`].
pub(super) fn multicast_groups(fields: &Fields<'_>) -> Result<Vec<IpAddr>, Error> {
    let key = "multicastGroups";
    let mut groups = Vec::new();
    for value in fields.list(key)?.unwrap_or_default() {
        let group = value.as_str().and_then(|text| text.parse::<IpAddr>().ok());
        let want = "a list of addresses such as \"239.1.2.3\"";
        let group = group.ok_or_else(|| fields.wrong(key, want))?;
        if !groups.contains(&group) {
            groups.push(group);
        }
    }
    check_multicast_groups(&groups).map_err(|why| Error::Config(format!("{key}: {why}")))?;
    Ok(groups)
}

#[cfg(test)]
#[path = "pose_tests.rs"]
mod tests;
