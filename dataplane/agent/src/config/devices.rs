// SPDX-License-Identifier: Apache-2.0
//! Section `devices`: the pools that the kubelet is told of.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::Deserialize;
use sluice_yaml::{Checker, Scalar};

use crate::devices::{PoolKind, PoolSpec, Selector, VfMode, check_resource, pci_id};

/// Most ids of an engine pool.
const MOST_IDS: u32 = 4096;
/// Ids of an engine pool that says no number.
const DEFAULT_IDS: u32 = 64;

/// Section `devices` as written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Raw {
    kubelet_dir: Option<Scalar>,
    cni_dir: Option<Scalar>,
    state_dir: Option<Scalar>,
    cdi_dir: Option<Scalar>,
    sysfs: Option<Scalar>,
    #[serde(alias = "configFile")]
    config_file: Option<Scalar>,
    pools: Option<Vec<RawPool>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPool {
    resource: Option<Scalar>,
    kind: Option<Scalar>,
    mode: Option<Scalar>,
    topology: Option<Scalar>,
    selectors: Option<Vec<RawSelector>>,
    count: Option<Scalar>,
    prefix: Option<Scalar>,
    uplinks: Option<Vec<Scalar>>,
    writable: Option<Scalar>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawSelector {
    vendors: Vec<Scalar>,
    devices: Vec<Scalar>,
    drivers: Vec<Scalar>,
    #[serde(alias = "pciAddresses")]
    pci_addresses: Vec<Scalar>,
    #[serde(alias = "acpiIndexes")]
    acpi_indexes: Vec<Scalar>,
    #[serde(alias = "pfNames")]
    pfs: Vec<Scalar>,
    #[serde(alias = "rootDevices")]
    root_devices: Vec<Scalar>,
    #[serde(alias = "linkTypes")]
    link_types: Vec<Scalar>,
    #[serde(alias = "needVhostNet")]
    need_vhost_net: Option<Scalar>,
}

/// Section `devices`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DevicesConfig {
    /// The kubelet's folder, with `device-plugins` and `pod-resources`.
    pub kubelet_dir: PathBuf,
    /// Folder of CNI state, in which the plugins keep their records.
    pub cni_dir: PathBuf,
    /// The engine's state folder, in which claimed VFs are written down.
    pub state_dir: PathBuf,
    /// Folder of CDI specifications.
    pub cdi_dir: PathBuf,
    /// Root of the host's sysfs.
    pub sysfs: PathBuf,
    /// Configuration of the SR-IOV network device plugin, served as it is.
    pub config_file: Option<PathBuf>,
    /// Pools.
    pub pools: Vec<PoolSpec>,
}

impl Default for DevicesConfig {
    fn default() -> DevicesConfig {
        DevicesConfig {
            kubelet_dir: PathBuf::from("/var/lib/kubelet"),
            cni_dir: PathBuf::from("/var/lib/cni"),
            state_dir: PathBuf::from(sluice_api::DEFAULT_STATE_DIR),
            cdi_dir: PathBuf::from("/var/run/cdi"),
            sysfs: PathBuf::from("/sys"),
            config_file: None,
            pools: Vec::new(),
        }
    }
}

/// Checks the section.
pub(super) fn check(checker: &mut Checker<'_>, raw: &Raw) -> DevicesConfig {
    let default = DevicesConfig::default();
    let mut path = |key: &str, raw: &Option<Scalar>, default: &Path| {
        checker.path(
            &format!("devices.{key}"),
            raw.as_ref(),
            &default.to_string_lossy(),
        )
    };
    let mut config = DevicesConfig {
        kubelet_dir: path("kubelet_dir", &raw.kubelet_dir, &default.kubelet_dir),
        cni_dir: path("cni_dir", &raw.cni_dir, &default.cni_dir),
        state_dir: path("state_dir", &raw.state_dir, &default.state_dir),
        cdi_dir: path("cdi_dir", &raw.cdi_dir, &default.cdi_dir),
        sysfs: path("sysfs", &raw.sysfs, &default.sysfs),
        config_file: None,
        pools: Vec::new(),
    };
    config.config_file = raw
        .config_file
        .as_ref()
        .map(|raw| checker.path("devices.config_file", Some(raw), "none"));
    match &raw.pools {
        Some(pools) => check_pools(checker, pools, &mut config.pools),
        None if config.config_file.is_none() => config.pools.push(default_pool()),
        None => {}
    }
    config
}

fn default_pool() -> PoolSpec {
    PoolSpec {
        resource: "sluicegate.io/att".to_owned(),
        topology: true,
        kind: PoolKind::Engine {
            count: DEFAULT_IDS,
            prefix: "att".to_owned(),
            uplinks: Vec::new(),
            writable: false,
        },
    }
}

fn check_pools(checker: &mut Checker<'_>, raws: &[RawPool], pools: &mut Vec<PoolSpec>) {
    let mut resources = BTreeSet::new();
    let mut prefixes = BTreeSet::new();
    for (index, raw) in raws.iter().enumerate() {
        let key = format!("devices.pools[{index}]");
        let Some(resource) = &raw.resource else {
            let message = "a pool has a name, as in sluicegate.io/voice";
            checker.problem(None, format!("{key}.resource"), message);
            continue;
        };
        let at = Some(resource.referenced);
        if let Err(message) = check_resource(&resource.value) {
            checker.problem(at, format!("{key}.resource"), message);
        }
        if !resources.insert(resource.value.clone()) {
            let message = format!("{} is there twice: keep one of them", resource.value);
            checker.problem(at, format!("{key}.resource"), message);
        }
        let kinds = [("vfs", false), ("engine", true)];
        let Some(engine) = checker.word(&format!("{key}.kind"), raw.kind.as_ref(), &kinds) else {
            if raw.kind.is_none() {
                checker.problem(
                    at,
                    format!("{key}.kind"),
                    "it is missing: use vfs or engine",
                );
            }
            continue;
        };
        let kind = if engine {
            let kind = check_engine(checker, &key, raw);
            if let PoolKind::Engine { prefix, .. } = &kind
                && !prefixes.insert(prefix.clone())
            {
                let message = format!(
                    "two engine pools have ids {prefix}-0, {prefix}-1, ...: give each a `prefix` of its own"
                );
                checker.problem(at, format!("{key}.prefix"), message);
            }
            kind
        } else {
            check_vfs(checker, &key, raw)
        };
        pools.push(PoolSpec {
            resource: resource.value.clone(),
            topology: checker.flag(&format!("{key}.topology"), raw.topology.as_ref(), true),
            kind,
        });
    }
}

fn check_engine(checker: &mut Checker<'_>, key: &str, raw: &RawPool) -> PoolKind {
    foreign(
        checker,
        key,
        "vfs",
        &[
            ("mode", raw.mode.is_some()),
            ("selectors", raw.selectors.is_some()),
        ],
    );
    let prefix = raw.prefix.as_ref().map_or("att", |prefix| &*prefix.value);
    let fine = |text: &str| {
        let inner = |one: char| one.is_ascii_alphanumeric() || one == '-' || one == '_';
        text.len() <= 32
            && text.starts_with(|one: char| one.is_ascii_alphabetic())
            && text.chars().all(inner)
    };
    if !fine(prefix) {
        let at = raw.prefix.as_ref().map(|raw| raw.referenced);
        let message = "use letters, digits, - and _, a letter first, 32 at most";
        checker.problem(at, format!("{key}.prefix"), message);
    }
    let count = raw.count.as_ref();
    PoolKind::Engine {
        count: checker.number(&format!("{key}.count"), count, DEFAULT_IDS, (1, MOST_IDS)),
        prefix: prefix.to_owned(),
        uplinks: texts(raw.uplinks.as_deref().unwrap_or_default()),
        writable: checker.flag(&format!("{key}.writable"), raw.writable.as_ref(), false),
    }
}

fn check_vfs(checker: &mut Checker<'_>, key: &str, raw: &RawPool) -> PoolKind {
    let others = [
        ("count", raw.count.is_some()),
        ("prefix", raw.prefix.is_some()),
        ("uplinks", raw.uplinks.is_some()),
        ("writable", raw.writable.is_some()),
    ];
    foreign(checker, key, "engine", &others);
    let modes = [
        ("auto", VfMode::Auto),
        ("kernel", VfMode::Kernel),
        ("vfio", VfMode::Vfio),
        ("engine", VfMode::Engine),
    ];
    let mode = checker.word(&format!("{key}.mode"), raw.mode.as_ref(), &modes);
    let raws = raw.selectors.as_deref().unwrap_or_default();
    let mut selectors = Vec::new();
    for (index, raw) in raws.iter().enumerate() {
        selectors.push(check_selector(
            checker,
            &format!("{key}.selectors[{index}]"),
            raw,
        ));
    }
    if selectors.is_empty() {
        let at = raw.resource.as_ref().map(|raw| raw.referenced);
        let message = "a pool of VFs says which: `selectors: [{pfs: [ens1f0]}]`";
        checker.problem(at, format!("{key}.selectors"), message);
    }
    PoolKind::Vfs {
        mode: mode.unwrap_or_default(),
        selectors,
        additional_info: BTreeMap::new(),
    }
}

/// Refuses keys of the other kind of pool.
fn foreign(checker: &mut Checker<'_>, key: &str, other: &str, keys: &[(&str, bool)]) {
    for (name, _) in keys.iter().filter(|(_, given)| *given) {
        let message = format!("only pools of kind {other} have it: take it out");
        checker.problem(None, format!("{key}.{name}"), message);
    }
}

fn check_selector(checker: &mut Checker<'_>, key: &str, raw: &RawSelector) -> Selector {
    let mut ids = |name: &str, raws: &[Scalar]| {
        let mut ids = Vec::new();
        for raw in raws {
            match pci_id(&raw.value) {
                Some(id) => ids.push(id),
                None => {
                    let message = format!(
                        "\"{}\" is not a PCI id of four hexadecimal digits",
                        raw.value
                    );
                    checker.problem(Some(raw.referenced), format!("{key}.{name}"), message);
                }
            }
        }
        ids
    };
    let vendors = ids("vendors", &raw.vendors);
    let devices = ids("devices", &raw.devices);
    Selector {
        vendors,
        devices,
        drivers: texts(&raw.drivers),
        pci_addresses: parsed(checker, &format!("{key}.pci_addresses"), &raw.pci_addresses),
        acpi_indexes: texts(&raw.acpi_indexes),
        pfs: parsed(checker, &format!("{key}.pfs"), &raw.pfs),
        root_devices: parsed(checker, &format!("{key}.root_devices"), &raw.root_devices),
        link_types: texts(&raw.link_types),
        need_vhost_net: checker.flag(
            &format!("{key}.need_vhost_net"),
            raw.need_vhost_net.as_ref(),
            false,
        ),
    }
}

fn parsed<T: FromStr<Err: Display>>(
    checker: &mut Checker<'_>,
    key: &str,
    raws: &[Scalar],
) -> Vec<T> {
    raws.iter()
        .filter_map(|raw| checker.parsed(key, raw))
        .collect()
}

fn texts(raws: &[Scalar]) -> Vec<String> {
    raws.iter().map(|raw| raw.value.clone()).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::super::AgentConfig;
    use super::*;

    fn parse(text: &str) -> Result<DevicesConfig, String> {
        let config = AgentConfig::parse(Path::new("a.yaml"), text, None);
        config
            .map(|config| config.devices.unwrap())
            .map_err(|problems| problems.to_string())
    }

    #[test]
    fn pools_are_read_in_both_spellings() {
        let config = parse(
            "devices:\n  configFile: /etc/pcidp/config.json\n  pools:\n  - resource: sluicegate.io/voice\n    kind: vfs\n    \
             mode: vfio\n    selectors:\n    - pfs: ['ens1f0#0-3']\n      vendors: ['8086']\n      pciAddresses: \
             ['0000:01:10.0']\n      needVhostNet: true\n  - resource: sluicegate.io/att\n    kind: engine\n    count: \
             4\n    uplinks: [wire0]\n",
        )
        .unwrap();
        assert_eq!(
            config.config_file,
            Some(PathBuf::from("/etc/pcidp/config.json"))
        );
        let PoolKind::Vfs {
            mode, selectors, ..
        } = &config.pools[0].kind
        else {
            panic!("{config:?}");
        };
        assert_eq!(*mode, VfMode::Vfio);
        assert!(selectors[0].need_vhost_net && selectors[0].pci_addresses.len() == 1);
        let PoolKind::Engine { count, uplinks, .. } = &config.pools[1].kind else {
            panic!("{config:?}");
        };
        assert_eq!((*count, uplinks.as_slice()), (4, &["wire0".to_owned()][..]));
        assert_eq!(parse("devices: {}\n").unwrap().pools, [default_pool()]);
    }

    #[test]
    fn the_sample_is_good() {
        let sample = include_str!("../../../../deploy/devices/agent-devices.yaml");
        let pools = parse(sample).unwrap().pools;
        assert_eq!(pools.len(), 2);
    }

    #[test]
    fn every_problem_of_a_pool_is_told() {
        let said = parse(
            "devices:\n  pools:\n  - kind: vfs\n  - resource: att\n    kind: engine\n    count: 0\n    mode: vfio\n  \
             - resource: a.io/b\n    kind: vfs\n    prefix: x\n  - resource: a.io/b\n    kind: vfs\n    selectors: \
             [{vendors: [intel], pfs: ['x#']}]\n  - resource: a.io/c\n    kind: engine\n  - resource: a.io/d\n",
        )
        .unwrap_err();
        for words in [
            "pools[0].resource: a pool has a name",
            "pools[1].resource: a resource has a domain",
            "pools[1].count: \"0\"",
            "pools[1].mode: only pools of kind vfs",
            "pools[2].prefix: only pools of kind engine",
            "pools[2].selectors: a pool of VFs says which",
            "pools[3].resource: a.io/b is there twice",
            "selectors[0].vendors: \"intel\"",
            "selectors[0].pfs: \"x#\"",
            "pools[4].prefix: two engine pools",
            "pools[5].kind: it is missing",
        ] {
            assert!(said.contains(words), "{words}:\n{said}");
        }
    }
}
