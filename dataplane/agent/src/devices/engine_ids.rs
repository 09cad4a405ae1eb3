// SPDX-License-Identifier: Apache-2.0
//! Ids of the engine's pools: well while the engine takes attachments and the uplinks have a link.

use std::collections::BTreeMap;
use std::time::Duration;

use sluice_api::client::ClientError;
use sluice_api::{LinkState, Status};
use sluice_sriov::sysfs::Sysfs;

use super::damping::Damper;
use super::holders::Holders;
use super::pool::DeviceState;

/// Time for which the engine may be silent: a restart is passed over, as a pod that is refused a device fails for good.
const ENGINE_PATIENCE: Duration = Duration::from_secs(3);

/// Health of the engine and of one pool's uplinks, damped.
#[derive(Debug)]
pub(super) struct EngineHealth {
    engine: Damper,
    uplinks: Option<Damper>,
}

impl EngineHealth {
    /// Creates the health of an engine that was not asked yet.
    pub(super) fn new(now: Duration) -> EngineHealth {
        EngineHealth {
            engine: Damper::new(None, ENGINE_PATIENCE, now),
            uplinks: None,
        }
    }

    /// Takes the engine's answer, and returns why attachments by `uplinks` would not work.
    pub(super) fn see(
        &mut self,
        status: &Result<Status, ClientError>,
        uplinks: &[String],
        now: Duration,
    ) -> Option<String> {
        let silent = status.as_ref().err().map(|error| error.to_string());
        let silent = self.engine.see(silent, now).map(str::to_owned);
        let Ok(status) = status else {
            return silent;
        };
        if !status.health.ready {
            let problems = status.health.problems.join("; ");
            return Some(format!("the engine takes no attachments: {problems}"));
        }
        let problem = problem_of_uplinks(status, uplinks);
        let damper = self
            .uplinks
            .get_or_insert_with(|| Damper::new(problem.clone(), Duration::ZERO, now));
        let problem = damper.see(problem, now).map(str::to_owned);
        silent.or(problem)
    }
}

/// Returns why uplinks are not up: each that is named must be, or any if none is named.
fn problem_of_uplinks(status: &Status, names: &[String]) -> Option<String> {
    let shared = || {
        status
            .uplinks
            .iter()
            .filter(|uplink| uplink.owner.is_none())
    };
    if names.is_empty() {
        let up = shared().count() == 0 || shared().any(|uplink| uplink.link == LinkState::Up);
        return (!up).then(|| "no uplink of the engine has a link: `sluicectl uplinks`".to_owned());
    }
    names.iter().find_map(|name| {
        let Some(uplink) = shared().find(|uplink| uplink.name == *name) else {
            return Some(format!(
                "the engine has no uplink {name}: `sluicectl uplinks`"
            ));
        };
        let reason = uplink.link_reason.as_deref().unwrap_or("it has no link");
        (uplink.link != LinkState::Up).then(|| format!("uplink {name}: {reason}"))
    })
}

/// NUMA node of a pool's uplinks, if they are all on one.
pub(super) fn numa(status: &Status, names: &[String], sysfs: &Sysfs) -> Option<u32> {
    let uplinks = status.uplinks.iter().filter(|uplink| {
        uplink.owner.is_none() && (names.is_empty() || names.contains(&uplink.name))
    });
    let mut nodes = uplinks.map(|uplink| sysfs.numa_node_of_netdev(&uplink.device));
    let first = nodes.next()??;
    nodes.all(|node| node == Some(first)).then_some(first)
}

/// Returns the devices of a pool. `owned` are the ids that containers have in the kubelet's words, if it answers: an id
/// that the kubelet thinks free and that somebody still has is not given out.
pub(super) fn devices(
    (prefix, count): (&str, u32),
    problem: Option<&str>,
    numa: Option<u32>,
    holders: &Holders,
    owned: Option<&[String]>,
) -> BTreeMap<String, DeviceState> {
    (0..count)
        .map(|number| {
            let id = format!("{prefix}-{number}");
            let holder = holders.get(&id);
            let left = holder.filter(|_| owned.is_some_and(|owned| !owned.contains(&id)));
            let left =
                left.map(|holder| format!("{holder} has it still, as its DEL has not ended"));
            let state = DeviceState {
                problem: problem.map(str::to_owned).or(left),
                numa,
                taken: holder.is_some(),
                ..DeviceState::default()
            };
            (id, state)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_that_an_old_pod_has_left_is_not_given_out() {
        let holders = Holders::from([
            ("att-0".to_owned(), "net1 of pod a/b".to_owned()),
            ("att-1".to_owned(), "net1 of pod a/c".to_owned()),
        ]);
        let owned = ["att-1".to_owned()];
        let all = devices(("att", 3), None, None, &holders, Some(&owned));
        let ill: Vec<_> = all
            .iter()
            .filter(|(_, one)| one.problem.is_some())
            .map(|(id, _)| id.as_str())
            .collect();
        assert_eq!(ill, ["att-0"], "the kubelet knows att-1's pod");
        let taken: Vec<_> = all.values().map(|one| one.taken).collect();
        assert_eq!(taken, [true, true, false]);
        // A kubelet that does not answer says nothing about anybody.
        let all = devices(("att", 3), None, None, &holders, None);
        assert!(all.values().all(|one| one.problem.is_none()));
        let all = devices(("att", 3), Some("down"), None, &holders, None);
        assert!(
            all.values()
                .all(|one| one.problem.as_deref() == Some("down"))
        );
    }
}
