// SPDX-License-Identifier: Apache-2.0
//! Configuration as written: its keys, and every value as text with its position.

use std::path::Path;

use serde::Deserialize;
use sluice_yaml::{Problem, Scalar, Spanned, unplaced};

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawConfig {
    pub(super) legs: Option<Vec<Spanned<RawLeg>>>,
    pub(super) routes: Option<Vec<Spanned<RawRoute>>>,
    pub(super) policies: Option<Scalar>,
    pub(super) log: Option<RawLog>,
    pub(super) neighbours: Option<Scalar>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawLeg {
    pub(super) name: Option<Scalar>,
    pub(super) socket: Option<Scalar>,
    pub(super) role: Option<Scalar>,
    pub(super) id: Option<Scalar>,
    pub(super) secret: Option<Scalar>,
    pub(super) queues: Option<Scalar>,
    pub(super) ring_size: Option<Scalar>,
    pub(super) buffer_size: Option<Scalar>,
    pub(super) mac: Option<Scalar>,
    pub(super) mtu: Option<Scalar>,
    pub(super) vlan: Option<Scalar>,
    pub(super) addresses: Option<Vec<Scalar>>,
    pub(super) policy: Option<Scalar>,
    pub(super) reverse_path: Option<Scalar>,
    pub(super) vlans: Option<Vec<Spanned<RawVlan>>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawVlan {
    pub(super) vlan: Option<Scalar>,
    pub(super) addresses: Option<Vec<Scalar>>,
    pub(super) policy: Option<Scalar>,
    pub(super) mtu: Option<Scalar>,
    pub(super) reverse_path: Option<Scalar>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawRoute {
    pub(super) to: Option<Scalar>,
    pub(super) via: Option<Scalar>,
    pub(super) interface: Option<Scalar>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawLog {
    pub(super) file: Option<Scalar>,
    pub(super) rate: Option<Scalar>,
}

/// Parses the structure of a file.
pub(super) fn parse(file: &Path, text: &str) -> Result<RawConfig, Problem> {
    sluice_yaml::parse(file, text, "vfirewall --help")
}

/// Builds the same from arguments.
pub(super) fn of_arguments(
    memifs: &[String],
    routes: &[String],
    policies: &Path,
    log_rate: u32,
) -> Result<RawConfig, Problem> {
    let legs = memifs.iter().map(|text| leg_of(text).map(unplaced));
    let routes = routes.iter().map(|text| route_of(text).map(unplaced));
    Ok(RawConfig {
        legs: Some(legs.collect::<Result<_, _>>()?),
        routes: Some(routes.collect::<Result<_, _>>()?),
        policies: Some(unplaced(policies.to_string_lossy().into_owned())),
        log: Some(RawLog {
            file: None,
            rate: Some(unplaced(log_rate.to_string())),
        }),
        neighbours: None,
    })
}

fn argument(key: &str, message: String) -> Problem {
    Problem {
        file: Path::new("").to_owned(),
        line: 0,
        column: 0,
        key: key.to_owned(),
        message,
    }
}

fn leg_of(text: &str) -> Result<RawLeg, Problem> {
    let mut leg = RawLeg::default();
    for pair in text.split(',').filter(|pair| !pair.is_empty()) {
        let Some((key, value)) = pair.split_once('=') else {
            return Err(argument("--memif", format!("{pair:?} is not key=value")));
        };
        let place = match key {
            "name" => &mut leg.name,
            "socket" => &mut leg.socket,
            "role" => &mut leg.role,
            "id" => &mut leg.id,
            "secret" => &mut leg.secret,
            "queues" => &mut leg.queues,
            "ring-size" => &mut leg.ring_size,
            "buffer-size" => &mut leg.buffer_size,
            "mac" => &mut leg.mac,
            "mtu" => &mut leg.mtu,
            "vlan" => &mut leg.vlan,
            "policy" => &mut leg.policy,
            "reverse-path" => &mut leg.reverse_path,
            "ip" => {
                let addresses = leg.addresses.get_or_insert_default();
                addresses.push(unplaced(value.to_owned()));
                continue;
            }
            _ => {
                let message = format!("there is no key {key}; see `vfirewall --help`");
                return Err(argument("--memif", message));
            }
        };
        if place.is_some() {
            let message = format!("{key} is here twice: keep one of them");
            return Err(argument("--memif", message));
        }
        *place = Some(unplaced(value.to_owned()));
    }
    Ok(leg)
}

fn route_of(text: &str) -> Result<RawRoute, Problem> {
    let (to, via) = text.split_once('=').ok_or_else(|| {
        let message = format!("{text:?} is not PREFIX=NEXT-HOP, as in 0.0.0.0/0=10.22.0.254");
        argument("--route", message)
    })?;
    Ok(RawRoute {
        to: Some(unplaced(to.to_owned())),
        via: Some(unplaced(via.to_owned())),
        interface: None,
    })
}
