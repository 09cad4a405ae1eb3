// SPDX-License-Identifier: Apache-2.0
//! VFs of the pools: which pool each is in, and how it is.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use sluice_sriov::claim::{Entry, Journal};
use sluice_sriov::sysfs::Sysfs;
use sluice_sriov::view::VfView;

use super::damping::Damper;
use super::pool::DeviceState;
use super::selectors::Selector;
use super::spec::{PoolKind, PoolSpec, VfMode};

/// VF as it was seen.
#[derive(Debug, Clone)]
pub(super) struct SeenVf {
    view: VfView,
    /// Driver that it has, or had before it was taken for a pod.
    driver: Option<String>,
    /// Whether it is taken for a pod, or for an operator's purpose that is on record.
    claimed: bool,
    /// Driver of its PF.
    pf_driver: Option<String>,
    /// Carrier of each netdev of its PF.
    carriers: Vec<(String, bool)>,
    link_type: Option<u32>,
}

/// Looks at all VFs. What cannot be read is not there.
///
/// # Errors
/// sysfs or the journal of VFs cannot be read.
pub(super) fn look(sysfs: &Sysfs, state_dir: &Path) -> Result<Vec<SeenVf>, sluice_sriov::Error> {
    let journal = Journal::below(state_dir);
    let mut seen = Vec::new();
    for view in sysfs.vf_views()? {
        let (mut driver, mut claimed) = (view.vf.driver.clone(), false);
        match journal.read(view.vf.addr)? {
            Entry::Whole(record) => (driver, claimed) = (record.driver, true),
            Entry::Torn(_) => claimed = true,
            Entry::Absent => {}
        }
        let netdevs = view.pf_netdevs.iter();
        let carriers = netdevs
            .filter_map(|name| Some((name.clone(), sysfs.carrier(name)?)))
            .collect();
        let link_type = view
            .pf_netdevs
            .first()
            .and_then(|name| sysfs.link_type(name));
        let pf_driver = sysfs.function(view.pf).ok().and_then(|pf| pf.driver);
        seen.push(SeenVf {
            driver,
            claimed,
            pf_driver,
            carriers,
            link_type,
            view,
        });
    }
    Ok(seen)
}

impl SeenVf {
    /// Selector of the list that admits it.
    fn admitted<'a>(&self, selectors: &'a [Selector]) -> Option<&'a Selector> {
        let driver = self.driver.as_deref();
        let mut selectors = selectors.iter();
        selectors.find(|one| one.admits(&self.view, driver, self.link_type))
    }

    /// Returns why it is not to be given out.
    fn problem(&self, mode: VfMode) -> Option<String> {
        if self.pf_driver.is_none() {
            return Some(format!("its PF {} has no driver", self.view.pf));
        }
        // Where the PF has no netdev here, as with a driver in user space, its link cannot be told.
        if !self.carriers.is_empty() && self.carriers.iter().all(|(_, up)| !up) {
            let name = &self.carriers[0].0;
            return Some(format!("its PF {name} has no link: `ip link show {name}`"));
        }
        let needs_driver = matches!(mode, VfMode::Kernel | VfMode::Auto);
        if needs_driver && !self.claimed && self.view.vf.driver.is_none() {
            return Some("it has no driver".to_owned());
        }
        None
    }
}

/// VFs of the pools between two looks.
#[derive(Debug, Default)]
pub(super) struct VfPools {
    /// Damped health by id.
    dampers: BTreeMap<String, Damper>,
    /// Ids of each pool, with what was seen of them last.
    members: BTreeMap<String, BTreeMap<String, DeviceState>>,
}

impl VfPools {
    /// Sorts VFs into pools: each into the first that admits it. A VF that a pool had once stays in it, and is ill when
    /// it is gone or meant no more: the kubelet counts on ids that last. Returns the devices by resource.
    pub(super) fn sort(
        &mut self,
        specs: &[&PoolSpec],
        seen: &[SeenVf],
        now: Duration,
    ) -> BTreeMap<String, BTreeMap<String, DeviceState>> {
        let mut found: BTreeMap<&str, BTreeMap<String, DeviceState>> = BTreeMap::new();
        for vf in seen {
            let pool = specs.iter().find_map(|spec| match &spec.kind {
                PoolKind::Vfs {
                    mode, selectors, ..
                } => Some((&spec.resource, *mode, vf.admitted(selectors)?)),
                PoolKind::Engine { .. } => None,
            });
            let Some((resource, mode, selector)) = pool else {
                continue;
            };
            let id = vf.view.vf.addr.to_string();
            let problem = vf.problem(mode);
            let damper = self.dampers.entry(id.clone());
            let damper =
                damper.or_insert_with(|| Damper::new(problem.clone(), Duration::ZERO, now));
            let state = DeviceState {
                problem: damper.see(problem, now).map(str::to_owned),
                numa: vf.view.vf.numa_node,
                group: vf.view.pf.to_string(),
                vhost_net: selector.need_vhost_net,
                taken: vf.claimed,
            };
            found.entry(resource).or_default().insert(id, state);
        }
        for spec in specs {
            let mut devices = found.remove(&*spec.resource).unwrap_or_default();
            for (id, last) in self.members.remove(&spec.resource).unwrap_or_default() {
                devices.entry(id.clone()).or_insert_with(|| {
                    let there = seen.iter().any(|vf| vf.view.vf.addr.to_string() == id);
                    let why = if there {
                        "the pool's selectors admit it no more"
                    } else {
                        "it is not there: its PF, or the PF's VFs, went"
                    };
                    // One that is there may be well in another pool.
                    if let Some(damper) = self.dampers.get_mut(&id).filter(|_| !there) {
                        damper.see(Some(why.to_owned()), now);
                    }
                    DeviceState {
                        problem: Some(why.to_owned()),
                        ..last
                    }
                });
            }
            self.members.insert(spec.resource.clone(), devices);
        }
        self.members.clone()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::devices::PoolSpec;
    use sluice_sriov::sysfs::Function;

    fn vf(index: u32, driver: Option<&str>, up: bool) -> SeenVf {
        let addr = format!("0000:01:10.{}", index * 2).parse().unwrap();
        let view = VfView {
            vf: Function {
                addr,
                vendor: 0x8086,
                device: 0x10ca,
                driver: driver.map(str::to_owned),
                driver_override: None,
                iommu_group: None,
                numa_node: Some(0),
                netdevs: Vec::new(),
                physfn: None,
                sriov: None,
            },
            pf: "0000:01:00.0".parse().unwrap(),
            index,
            pf_netdevs: vec!["enp1s0".into()],
            acpi_index: None,
        };
        SeenVf {
            driver: view.vf.driver.clone(),
            claimed: false,
            pf_driver: Some("igb".into()),
            carriers: vec![("enp1s0".into(), up)],
            link_type: Some(1),
            view,
        }
    }

    fn spec(resource: &str, driver: &str) -> PoolSpec {
        let selector = Selector {
            drivers: vec![driver.to_owned()],
            ..Selector::default()
        };
        PoolSpec {
            resource: resource.to_owned(),
            topology: true,
            kind: PoolKind::Vfs {
                mode: VfMode::Auto,
                selectors: vec![selector],
                additional_info: BTreeMap::new(),
            },
        }
    }

    /// Resource, id and problem of all devices.
    fn told(all: BTreeMap<String, BTreeMap<String, DeviceState>>) -> Vec<String> {
        let mut lines = Vec::new();
        for (resource, devices) in all {
            for (id, state) in devices {
                let problem = state.problem.unwrap_or_default();
                lines.push(format!("{resource} {id} {problem}").trim().to_owned());
            }
        }
        lines
    }

    #[test]
    fn vfs_keep_their_ids_whatever_becomes_of_them() {
        let (kernel, user) = (spec("a/kernel", "igbvf"), spec("a/user", "vfio-pci"));
        let specs = [&kernel, &user];
        let at = Duration::from_secs;
        let mut pools = VfPools::default();
        let both = [vf(0, Some("igbvf"), true), vf(1, Some("vfio-pci"), true)];
        let first = told(pools.sort(&specs, &both, at(0)));
        assert_eq!(first, ["a/kernel 0000:01:10.0", "a/user 0000:01:10.2"]);
        // Taken for a pod: it has another driver, and stays in its pool.
        let mut taken = vf(0, Some("vfio-pci"), true);
        (taken.driver, taken.claimed) = (Some("igbvf".into()), true);
        let seen = [taken, vf(1, Some("vfio-pci"), true)];
        assert_eq!(told(pools.sort(&specs, &seen, at(1))), first);
        // Without a link, then gone, then back.
        let down = [vf(0, Some("igbvf"), false)];
        let lines = told(pools.sort(&specs, &down, at(2)));
        assert!(lines[0].contains("enp1s0 has no link"), "{lines:?}");
        assert!(lines[1].contains("it is not there"), "{lines:?}");
        let lines = told(pools.sort(&specs, &both, at(3)));
        assert!(
            lines.iter().all(|line| line.contains(" it")),
            "not well at once: {lines:?}"
        );
        pools.sort(&specs, &both, at(60));
        assert_eq!(told(pools.sort(&specs, &both, at(61))), first);
        // Bound to another driver by hand: the other pool's now, and ill in the first.
        let moved = [vf(0, Some("vfio-pci"), true), vf(1, Some("vfio-pci"), true)];
        let lines = told(pools.sort(&specs, &moved, at(62)));
        assert!(
            lines[0].starts_with("a/kernel 0000:01:10.0 the pool's selectors"),
            "{lines:?}"
        );
        assert_eq!(lines[1..], ["a/user 0000:01:10.0", "a/user 0000:01:10.2"]);
        assert_eq!(
            told(pools.sort(&specs, &moved, at(63))),
            lines,
            "and so it stays"
        );
    }

    #[test]
    fn what_keeps_a_vf_from_pods_is_said() {
        let fine = vf(0, Some("igbvf"), true);
        assert_eq!(fine.problem(VfMode::Kernel), None);
        let no_driver = vf(0, None, true);
        assert!(
            no_driver
                .problem(VfMode::Auto)
                .unwrap()
                .contains("no driver")
        );
        assert_eq!(no_driver.problem(VfMode::Vfio), None, "it is bound at ADD");
        let mut no_pf = fine.clone();
        no_pf.pf_driver = None;
        assert!(no_pf.problem(VfMode::Vfio).unwrap().contains("PF"));
        let mut hidden = vf(0, Some("igbvf"), false);
        hidden.carriers.clear();
        assert_eq!(
            hidden.problem(VfMode::Kernel),
            None,
            "a link that cannot be told"
        );
    }
}
