// SPDX-License-Identifier: Apache-2.0
//! Pool at run time: its devices as they were seen last, for the kubelet and for Allocate.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use super::messages::{Device, HEALTHY, NumaNode, TopologyInfo, UNHEALTHY};
use super::spec::PoolSpec;
use crate::context::Context;

/// Device as it was seen last.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct DeviceState {
    /// Reason why it is not to be given out; `None` if it may be.
    pub(super) problem: Option<String>,
    /// NUMA node, if the kernel says.
    pub(super) numa: Option<u32>,
    /// Group of devices that share a part of the machine: the PF of a VF.
    pub(super) group: String,
    /// Whether the container also gets /dev/vhost-net and /dev/net/tun.
    pub(super) vhost_net: bool,
    /// Whether somebody has it: what a pod left, or a pod that runs.
    pub(super) taken: bool,
}

/// Pool with its devices.
#[derive(Debug)]
pub(super) struct Pool {
    /// Pool as configured.
    pub(super) spec: PoolSpec,
    /// State that the parts of the agent share.
    pub(super) context: Arc<Context>,
    devices: Mutex<BTreeMap<String, DeviceState>>,
    /// Ids with the number of the Allocate that gave them out last.
    given: Mutex<(u64, BTreeMap<String, u64>)>,
    told: watch::Sender<Vec<Device>>,
}

impl Pool {
    /// Creates a pool without devices.
    pub(super) fn new(spec: PoolSpec, context: &Arc<Context>) -> Pool {
        Pool {
            spec,
            context: Arc::clone(context),
            devices: Mutex::default(),
            given: Mutex::default(),
            told: watch::channel(Vec::new()).0,
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, DeviceState>> {
        self.devices.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the devices as they were seen last.
    pub(super) fn devices(&self) -> BTreeMap<String, DeviceState> {
        self.lock().clone()
    }

    /// Watches what the kubelet is told.
    pub(super) fn watch(&self) -> watch::Receiver<Vec<Device>> {
        self.told.subscribe()
    }

    /// Takes what was seen of all devices; the kubelet is told if it differs from what it was told last.
    pub(super) fn set(&self, seen: BTreeMap<String, DeviceState>) {
        let topology = |device: &DeviceState| {
            let node = device.numa.filter(|_| self.spec.topology)?;
            let nodes = vec![NumaNode { id: node.into() }];
            Some(TopologyInfo { nodes })
        };
        let told: Vec<Device> = seen
            .iter()
            .map(|(id, device)| Device {
                id: id.clone(),
                health: match device.problem {
                    None => HEALTHY.to_owned(),
                    Some(_) => UNHEALTHY.to_owned(),
                },
                topology: topology(device),
            })
            .collect();
        let healthy = seen.values().filter(|device| device.problem.is_none());
        let counts = (seen.len() as u64, healthy.count() as u64);
        self.context.devices.change(&self.spec.resource, |status| {
            (status.devices, status.healthy) = counts;
        });
        let before = std::mem::replace(&mut *self.lock(), seen);
        for (id, device) in self.lock().iter() {
            let was = before.get(id).map(|device| &device.problem);
            let resource = &self.spec.resource;
            match (&device.problem, was) {
                (Some(problem), was) if was != Some(&device.problem) => {
                    tracing::warn!("device {id} of {resource} is not given out: {problem}");
                }
                (None, Some(Some(_))) => {
                    tracing::info!("device {id} of {resource} is given out again");
                }
                _ => {}
            }
        }
        self.told.send_if_modified(|last| {
            let differs = *last != told;
            *last = told;
            differs
        });
    }

    /// Notes that devices were given out.
    pub(super) fn note_given(&self, ids: &[String]) {
        let mut given = self.given.lock().unwrap_or_else(PoisonError::into_inner);
        given.0 += 1;
        let number = given.0;
        given.1.extend(ids.iter().map(|id| (id.clone(), number)));
    }

    /// Returns, for each id that was given out, the number of the Allocate that did so last.
    pub(super) fn given(&self) -> BTreeMap<String, u64> {
        let given = self.given.lock().unwrap_or_else(PoisonError::into_inner);
        given.1.clone()
    }
}
