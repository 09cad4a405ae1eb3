// SPDX-License-Identifier: Apache-2.0
//! Cores of control's threads: those of the process that no worker is pinned to.
//!
//! Linux gives a thread, and a process, the affinity of whoever makes it. So it is set once, on the first
//! thread and before there is another: the runtime's threads, those of taps and memifs, and programs that the
//! engine runs have it too. A worker pins itself when it starts.

use rustix::thread::{CpuSet, sched_setaffinity};

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
    let Some(left) = without(&allowed, workers) else {
        if workers.iter().any(Option::is_some) {
            tracing::warn!(
                "workers are pinned to every core of this process: control and the threads of taps share theirs; \
                 give the engine's cgroup one core more than there are workers"
            );
        }
        return;
    };
    let mut set = CpuSet::new();
    left.iter().for_each(|&core| set.set(core));
    match sched_setaffinity(None, &set) {
        Ok(()) => tracing::info!("control runs on cores {}", cores::list(&left)),
        Err(error) => {
            tracing::warn!("control's threads cannot be kept off the workers' cores: {error}");
        }
    }
}

/// Cores of `allowed` that no worker is pinned to; `None` if no worker is pinned, or nothing is left.
fn without(allowed: &[usize], workers: &[Option<usize>]) -> Option<Vec<usize>> {
    let is_free = |core: &usize| !workers.contains(&Some(*core));
    let left: Vec<usize> = allowed.iter().copied().filter(is_free).collect();
    (!left.is_empty() && left.len() < allowed.len()).then_some(left)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_has_the_cores_that_no_worker_is_pinned_to() {
        let allowed = [0, 1, 2, 5];
        assert_eq!(without(&allowed, &[Some(5)]), Some(vec![0, 1, 2]));
        assert_eq!(without(&allowed, &[Some(0), Some(2)]), Some(vec![1, 5]));
        // Not pinned: the kernel keeps them apart as well as it can.
        assert_eq!(without(&allowed, &[None, None]), None);
        // Cores that CMK assigned need not be in this process's set.
        assert_eq!(without(&allowed, &[Some(7)]), None);
        assert_eq!(without(&[3], &[Some(3)]), None);
    }
}
