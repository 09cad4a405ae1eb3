// SPDX-License-Identifier: Apache-2.0
//! Cores of control's threads: those of the process whose physical cores have no worker, else those that no
//! worker is pinned to.
//!
//! Linux gives a thread, and a process, the affinity of whoever makes it. So it is set once, on the first
//! thread and before there is another: the runtime's threads, those of taps and memifs, and programs that the
//! engine runs have it too. A worker pins itself when it starts.

use std::collections::BTreeSet;

use rustix::thread::{CpuSet, sched_setaffinity};
use sluice_host::topology::Topology;

use crate::config::cores;

/// Keeps the calling thread, and all that it makes from now on, off the cores of `workers`, if that leaves one.
pub(super) fn keep_off(workers: &[Option<usize>]) {
    let allowed = match cores::allowed() {
        Ok(allowed) => allowed,
        Err(error) => {
            tracing::warn!(
                "the cores of this process cannot be read ({error}): its control threads may run on a worker's"
            );
            return;
        }
    };
    let topology = Topology::default();
    let Some((left, beside)) = without(&allowed, workers, |core| topology.siblings(core)) else {
        if workers.iter().any(Option::is_some) {
            tracing::warn!(
                "workers are pinned to every core of this process: control and the threads of taps share theirs; \
                 give the engine's cgroup one core more than there are workers"
            );
        }
        return;
    };
    if beside {
        tracing::warn!(
            "control runs on a hyperthread of a worker's core, as this process has no other: give the \
             engine's cgroup one physical core more than there are workers"
        );
    }
    let mut set = CpuSet::new();
    left.iter().for_each(|&core| set.set(core));
    match sched_setaffinity(None, &set) {
        Ok(()) => tracing::info!("control runs on cores {}", cores::list(&left)),
        Err(error) => {
            tracing::warn!("control's threads cannot be kept off the workers' cores: {error}");
        }
    }
}

/// Cores of `allowed` for control, and whether these are hyperthreads beside workers'; `None` if no worker is
/// pinned, or nothing is left.
fn without(
    allowed: &[usize],
    workers: &[Option<usize>],
    siblings: impl Fn(usize) -> BTreeSet<usize>,
) -> Option<(Vec<usize>, bool)> {
    let pinned: BTreeSet<usize> = workers.iter().flatten().copied().collect();
    let physical: BTreeSet<usize> = pinned.iter().flat_map(|&core| siblings(core)).collect();
    let left = |taken: &BTreeSet<usize>| {
        let left = allowed.iter().copied().filter(|core| !taken.contains(core));
        let left: Vec<usize> = left.collect();
        (!left.is_empty() && left.len() < allowed.len()).then_some(left)
    };
    match left(&physical) {
        Some(left) => Some((left, false)),
        None => left(&pinned).map(|left| (left, true)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_has_the_cores_that_no_worker_is_pinned_to() {
        let without = |allowed: &[usize], workers: &[Option<usize>]| {
            without(allowed, workers, |core| BTreeSet::from([core]))
        };
        let allowed = [0, 1, 2, 5];
        assert_eq!(without(&allowed, &[Some(5)]), Some((vec![0, 1, 2], false)));
        assert_eq!(
            without(&allowed, &[Some(0), Some(2)]),
            Some((vec![1, 5], false))
        );
        // Not pinned: the kernel keeps them apart as well as it can.
        assert_eq!(without(&allowed, &[None, None]), None);
        assert_eq!(without(&[3], &[Some(3)]), None);
    }

    #[test]
    fn hyperthreads_beside_workers_are_the_last_choice() {
        let pairs = |core: usize| BTreeSet::from([core % 4, core % 4 + 4]);
        let found = without(&[0, 1, 4, 5], &[Some(1)], pairs);
        assert_eq!(found, Some((vec![0, 4], false)));
        let found = without(&[1, 5], &[Some(1)], pairs);
        assert_eq!(found, Some((vec![5], true)));
        assert_eq!(without(&[1, 5], &[Some(1), Some(5)], pairs), None);
    }
}
