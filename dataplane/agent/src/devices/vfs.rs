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
                    if let Some(damper) = self.dampers.get_mut(&id) {
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
