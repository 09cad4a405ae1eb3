// SPDX-License-Identifier: Apache-2.0
//! Configuration of the SR-IOV network device plugin, taken as it is. Pools that need something that is not served here
//! are left out, each with its reason; a key that nobody knows is an error, as it is likely misspelt.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::selectors::{Selector, VfRange, pci_id};
use super::spec::{PoolKind, PoolSpec, VfMode, check_resource};

/// Prefix of resources that name none.
const DEFAULT_PREFIX: &str = "intel.com";

/// Pools of a configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PeerConfig {
    /// Pools that are served.
    pub pools: Vec<PoolSpec>,
    /// Pools that are not, each as a sentence with the reason.
    pub left_out: Vec<String>,
}

/// Failure to read a configuration of the SR-IOV network device plugin.
#[derive(Debug, thiserror::Error)]
pub enum PeerConfigError {
    /// The file cannot be read.
    #[error(
        "{file} cannot be read: {source}: `config_file` names the configuration of the SR-IOV network device plugin"
    )]
    Read {
        /// Path of the file.
        file: String,
        /// Failure of the system.
        source: std::io::Error,
    },
    /// The file is not JSON of the right form.
    #[error("{file}: {source}")]
    Json {
        /// Path of the file.
        file: String,
        /// Failure of the parser, with line and column.
        source: serde_json::Error,
    },
    /// A value is wrong.
    #[error("{file}: resource {resource}: {message}")]
    Value {
        /// Path of the file.
        file: String,
        /// Name of the resource.
        resource: String,
        /// Message: what is wrong, and what is allowed.
        message: String,
    },
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Root {
    resource_list: Vec<Resource>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Resource {
    resource_name: String,
    resource_prefix: Option<String>,
    device_type: Option<String>,
    #[serde(default)]
    exclude_topology: bool,
    selectors: Option<OneOrMany>,
    additional_info: Option<BTreeMap<String, Map<String, Value>>>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    Many(Vec<Map<String, Value>>),
    One(Map<String, Value>),
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct RawSelector {
    vendors: Vec<String>,
    devices: Vec<String>,
    drivers: Vec<String>,
    pci_addresses: Vec<String>,
    acpi_indexes: Vec<String>,
    pf_names: Vec<String>,
    root_devices: Vec<String>,
    link_types: Vec<String>,
    need_vhost_net: bool,
    is_rdma: bool,
    vdpa_type: String,
    ddp_profiles: Vec<String>,
    p_keys: Vec<String>,
    aux_types: Vec<String>,
}

impl PeerConfig {
    /// Reads a configuration file.
    ///
    /// # Errors
    /// It cannot be read, is not of the form, or holds a wrong value.
    pub fn load(file: &Path) -> Result<PeerConfig, PeerConfigError> {
        let name = file.display().to_string();
        let text = std::fs::read_to_string(file).map_err(|source| PeerConfigError::Read {
            file: name.clone(),
            source,
        })?;
        PeerConfig::parse(&name, &text)
    }

    /// Parses the text of a configuration; `file` is for messages.
    ///
    /// # Errors
    /// It is not of the form, or holds a wrong value.
    pub fn parse(file: &str, text: &str) -> Result<PeerConfig, PeerConfigError> {
        let json = |source| PeerConfigError::Json {
            file: file.to_owned(),
            source,
        };
        let root: Root = serde_json::from_str(text).map_err(json)?;
        let mut config = PeerConfig::default();
        for raw in root.resource_list {
            let prefix = raw.resource_prefix.as_deref().unwrap_or(DEFAULT_PREFIX);
            let resource = format!("{prefix}/{}", raw.resource_name);
            let wrong = |message: String| PeerConfigError::Value {
                file: file.to_owned(),
                resource: resource.clone(),
                message,
            };
            check_resource(&resource).map_err(wrong)?;
            if config.pools.iter().any(|pool| pool.resource == resource) {
                return Err(wrong("it is there twice: keep one of them".to_owned()));
            }
            let kind = raw.device_type.as_deref().unwrap_or("netDevice");
            if !matches!(kind, "netDevice" | "accelerator" | "auxNetDevice") {
                return Err(wrong(format!(
                    "deviceType {kind:?} is not allowed: use netDevice"
                )));
            }
            if kind != "netDevice" {
                config
                    .left_out
                    .push(format!("{resource}: deviceType {kind} is not served"));
                continue;
            }
            let selectors = match raw.selectors {
                None => vec![Map::new()],
                Some(OneOrMany::One(one)) => vec![one],
                Some(OneOrMany::Many(many)) => many,
            };
            let mut chosen = Vec::new();
            let mut unserved = None;
            for selector in selectors {
                let raw: RawSelector = serde_json::from_value(Value::Object(selector))
                    .map_err(|error| wrong(format!("selectors: {error}")))?;
                unserved = unserved.or(unserved_key(&raw));
                chosen.push(selector_of(raw).map_err(wrong)?);
            }
            if let Some(key) = unserved {
                config
                    .left_out
                    .push(format!("{resource}: selector {key} is not served"));
                continue;
            }
            config.pools.push(PoolSpec {
                resource,
                topology: !raw.exclude_topology,
                kind: PoolKind::Vfs {
                    mode: VfMode::Auto,
                    selectors: chosen,
                    additional_info: raw.additional_info.unwrap_or_default(),
                },
            });
        }
        Ok(config)
    }
}

/// Key of a selector that asks for something that is not served here.
fn unserved_key(raw: &RawSelector) -> Option<&'static str> {
    [
        ("isRdma", raw.is_rdma),
        ("vdpaType", !raw.vdpa_type.is_empty()),
        ("ddpProfiles", !raw.ddp_profiles.is_empty()),
        ("pKeys", !raw.p_keys.is_empty()),
        ("auxTypes", !raw.aux_types.is_empty()),
    ]
    .into_iter()
    .find_map(|(key, asked)| asked.then_some(key))
}

fn selector_of(raw: RawSelector) -> Result<Selector, String> {
    let id = |key: &str, text: &String| {
        pci_id(text)
            .ok_or_else(|| format!("{key}: {text:?} is not a PCI id of four hexadecimal digits"))
    };
    let ids = |key: &str, texts: &[String]| {
        texts
            .iter()
            .map(|text| id(key, text))
            .collect::<Result<Vec<_>, _>>()
    };
    let ranges = |key: &str, texts: &[String]| {
        let range = |text: &String| {
            text.parse::<VfRange>()
                .map_err(|error| format!("{key}: {text:?}: {error}"))
        };
        texts.iter().map(range).collect::<Result<Vec<_>, _>>()
    };
    let address = |text: &String| {
        text.parse()
            .map_err(|error| format!("pciAddresses: {text:?}: {error}"))
    };
    Ok(Selector {
        vendors: ids("vendors", &raw.vendors)?,
        devices: ids("devices", &raw.devices)?,
        pci_addresses: raw
            .pci_addresses
            .iter()
            .map(address)
            .collect::<Result<Vec<_>, _>>()?,
        pfs: ranges("pfNames", &raw.pf_names)?,
        root_devices: ranges("rootDevices", &raw.root_devices)?,
        drivers: raw.drivers,
        acpi_indexes: raw.acpi_indexes,
        link_types: raw.link_types,
        need_vhost_net: raw.need_vhost_net,
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_is_taken_as_it_is() {
        let text = r#"{"resourceList": [
            {"resourceName": "netdevice", "selectors": [{"vendors": ["8086"], "devices": ["154c", "10ed"],
                "drivers": ["i40evf", "iavf"]}, {"pfNames": ["enp0s0f0#0-3,5"], "needVhostNet": true}]},
            {"resourceName": "dpdk", "resourcePrefix": "example.com", "excludeTopology": true,
                "selectors": {"drivers": ["vfio-pci"], "rootDevices": ["0000:86:00.0#0-1,3,4"]},
                "additionalInfo": {"*": {"token": "x"}}},
            {"resourceName": "rdma", "selectors": [{"isRdma": true}]},
            {"resourceName": "fpga", "deviceType": "accelerator", "selectors": [{"vendors": ["8086"]}]},
            {"resourceName": "sf", "deviceType": "auxNetDevice", "selectors": [{"auxTypes": ["sf"]}]},
            {"resourceName": "ddp", "selectors": [{"ddpProfiles": ["GTPv1"]}]},
            {"resourceName": "vdpa", "selectors": [{"vdpaType": "vhost"}]}]}"#;
        let config = PeerConfig::parse("c.json", text).unwrap();
        let names: Vec<_> = config.pools.iter().map(|pool| &*pool.resource).collect();
        assert_eq!(names, ["intel.com/netdevice", "example.com/dpdk"]);
        assert!(config.pools[0].topology && !config.pools[1].topology);
        let PoolKind::Vfs { selectors, .. } = &config.pools[0].kind else {
            panic!("{config:?}");
        };
        assert_eq!(selectors[0].devices, [0x154c, 0x10ed]);
        assert_eq!(selectors[1].pfs[0].ranges, [(0, 3), (5, 5)]);
        assert!(selectors[1].need_vhost_net);
        let left_out = config.left_out.join("\n");
        for word in [
            "rdma: selector isRdma",
            "fpga: deviceType accelerator",
            "sf: deviceType auxNetDevice",
            "ddp: selector ddpProfiles",
            "vdpa: selector vdpaType",
        ] {
            assert!(left_out.contains(word), "{word}: {left_out}");
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        let said = |text: &str| PeerConfig::parse("c.json", text).unwrap_err().to_string();
        let one = |more: &str| format!(r#"{{"resourceList": [{{"resourceName": "a", {more}}}]}}"#);
        assert!(said("{").contains("c.json"));
        for (more, words) in [
            (r#""selectors": [{"pfName": []}]"#, "pfName"),
            (
                r#""selectors": [{"vendors": ["intel"]}]"#,
                "vendors: \"intel\"",
            ),
            (
                r#""selectors": [{"pfNames": ["a#3-1"]}]"#,
                "pfNames: \"a#3-1\"",
            ),
            (r#""deviceType": "gpu""#, "deviceType \"gpu\""),
            (r#""resourcePrefix": "a b""#, "domain"),
            (r#""resource": 1"#, "resource"),
        ] {
            let said = said(&one(more));
            assert!(said.contains(words), "{said}");
        }
    }
}
