// SPDX-License-Identifier: Apache-2.0
//! Status of the device plugins, for metrics and the page.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Status of one pool, which is one resource of the node.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct PoolStatus {
    /// Name of the resource, as in `sluicegate.io/att`.
    pub resource: String,
    /// Number of devices.
    pub devices: u64,
    /// Number of devices that the kubelet may give out, or has given out and that are well.
    pub healthy: u64,
    /// Number of devices that containers have, by the kubelet's word.
    pub allocated: u64,
    /// Whether the kubelet has the plugin on its list and reads its devices.
    pub registered: bool,
    /// Registrations that the kubelet answered.
    pub registrations_total: u64,
    /// Containers that got devices.
    pub allocations_total: u64,
    /// Containers that were refused their devices.
    pub allocation_failures_total: u64,
}

/// Status of all pools, by resource.
#[derive(Debug, Default)]
pub struct DevicesStatus(Mutex<BTreeMap<String, PoolStatus>>);

impl DevicesStatus {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, PoolStatus>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the status of all pools, in order of their resources.
    pub fn all(&self) -> Vec<PoolStatus> {
        self.lock().values().cloned().collect()
    }

    /// Changes the status of one pool.
    pub fn change(&self, resource: &str, change: impl FnOnce(&mut PoolStatus)) {
        let mut all = self.lock();
        let status = all
            .entry(resource.to_owned())
            .or_insert_with(|| PoolStatus {
                resource: resource.to_owned(),
                ..PoolStatus::default()
            });
        change(status);
    }
}
