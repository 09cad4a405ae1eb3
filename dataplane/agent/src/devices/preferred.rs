// SPDX-License-Identifier: Apache-2.0
//! GetPreferredAllocation: which of the free devices a container is best given.
//!
//! One container's VFs come from one NUMA node, then from one PF. Containers are spread: the PF with the most free VFs
//! comes first. Ids that somebody still has come last, and those that were given out longest ago first, so that a new
//! pod hardly meets what an old one left.

use std::collections::BTreeMap;

use super::messages::{
    ContainerPreferredRequest, Ids, PreferredAllocationRequest, PreferredAllocationResponse,
};
use super::pool::{DeviceState, Pool};

impl Pool {
    /// Chooses devices for containers.
    pub(super) fn preferred(
        &self,
        request: &PreferredAllocationRequest,
    ) -> PreferredAllocationResponse {
        let (devices, given) = (self.devices(), self.given());
        let choose = |one: &ContainerPreferredRequest| Ids {
            ids: choose(one, &devices, &given),
        };
        PreferredAllocationResponse {
            containers: request.containers.iter().map(choose).collect(),
        }
    }
}

fn choose(
    request: &ContainerPreferredRequest,
    devices: &BTreeMap<String, DeviceState>,
    given: &BTreeMap<String, u64>,
) -> Vec<String> {
    let size = usize::try_from(request.size).unwrap_or(0);
    let place = |id: &String| devices.get(id).map(|one| (one.numa, one.group.as_str()));
    let mut chosen = request.must_include.clone();
    let mut free: Vec<&String> = request
        .available
        .iter()
        .filter(|id| !chosen.contains(id))
        .collect();
    while chosen.len() < size && !free.is_empty() {
        let count = |same: &dyn Fn(&String) -> bool, ids: &[&String]| {
            ids.iter().filter(|id| same(id)).count()
        };
        let best = free.iter().enumerate().min_by_key(|(_, id)| {
            let (numa, group) = place(id).unwrap_or_default();
            let near = |other: &String| place(other).unwrap_or_default().0 == numa;
            let beside = |other: &String| place(other).unwrap_or_default() == (numa, group);
            let chosen: Vec<&String> = chosen.iter().collect();
            let left = size - chosen.len();
            (
                devices.get(id.as_str()).is_none_or(|one| one.taken),
                usize::MAX - count(&near, &chosen),
                usize::MAX - count(&beside, &chosen),
                count(&near, &free) < left,
                count(&beside, &free) < left,
                usize::MAX - count(&beside, &free),
                given.get(id.as_str()).copied().unwrap_or(0),
                natural(id),
            )
        });
        let Some((at, _)) = best else { break };
        chosen.push(free.remove(at).clone());
    }
    chosen
}

/// Order of ids in which `att-2` comes before `att-10`.
fn natural(id: &str) -> (usize, &str) {
    (id.len(), id)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn devices(all: &[(&str, u32, &str)]) -> BTreeMap<String, DeviceState> {
        let state = |numa, group: &str| DeviceState {
            numa: Some(numa),
            group: group.to_owned(),
            ..DeviceState::default()
        };
        all.iter()
            .map(|(id, numa, group)| ((*id).to_owned(), state(*numa, group)))
            .collect()
    }

    fn ask(devices: &BTreeMap<String, DeviceState>, must: &[&str], size: i32) -> Vec<String> {
        let request = ContainerPreferredRequest {
            available: devices.keys().cloned().collect(),
            must_include: must.iter().map(|id| (*id).to_owned()).collect(),
            size,
        };
        choose(&request, devices, &BTreeMap::new())
    }

    #[test]
    fn one_container_has_one_node_and_one_pf_and_containers_are_spread() {
        let all = devices(&[
            ("a0", 0, "pf0"),
            ("a1", 0, "pf0"),
            ("b0", 0, "pf1"),
            ("b1", 0, "pf1"),
            ("b2", 0, "pf1"),
            ("c0", 1, "pf2"),
            ("c1", 1, "pf2"),
        ]);
        assert_eq!(ask(&all, &[], 1), ["b0"], "PF with the most free VFs");
        assert_eq!(ask(&all, &[], 3), ["b0", "b1", "b2"]);
        assert_eq!(ask(&all, &["c0"], 2), ["c0", "c1"]);
        assert_eq!(
            ask(&all, &["a0"], 3),
            ["a0", "a1", "b0"],
            "same node when the PF has no more"
        );
        let five = ask(&all, &[], 5);
        assert!(five.iter().all(|id| !id.starts_with('c')), "{five:?}");
        assert_eq!(ask(&all, &[], 9).len(), 7, "no more than there are");
    }

    #[test]
    fn ids_that_somebody_has_come_last() {
        let ids: Vec<String> = (0..11).map(|number| format!("att-{number}")).collect();
        let mut all: BTreeMap<String, DeviceState> = ids
            .iter()
            .map(|id| (id.clone(), DeviceState::default()))
            .collect();
        assert_eq!(ask(&all, &[], 3), ["att-0", "att-1", "att-2"]);
        if let Some(one) = all.get_mut("att-0") {
            one.taken = true;
        }
        assert_eq!(ask(&all, &[], 1), ["att-1"]);
        let request = ContainerPreferredRequest {
            available: vec!["att-1".into(), "att-2".into()],
            must_include: Vec::new(),
            size: 1,
        };
        let given = BTreeMap::from([("att-1".to_owned(), 7)]);
        assert_eq!(
            choose(&request, &all, &given),
            ["att-2"],
            "longest unused first"
        );
    }
}
