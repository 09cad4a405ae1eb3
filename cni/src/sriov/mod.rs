// SPDX-License-Identifier: Apache-2.0
//! `sluicegate-vf`: the interface plugin. It gives a pod one interface, by one of three modes:
//!
//! - *kernel*: the netdev of a VF moves into the pod and gets ipam's addresses;
//! - *vfio*: a VF is bound to vfio-pci for a program of the pod itself;
//! - *engine*: a VF goes to the engine, or an uplink is there already, and the pod gets a memif.
//!
//! ADD writes its record, claims the VF, asks ipam, and then asks the engine or sets the link up. DEL
//! takes the same steps back, from the record alone: it needs neither engine nor network namespace, and
//! it ends: see `teardown`.

mod add;
mod avoid;
mod check;
mod claim;
mod conf;
mod engine;
mod files;
mod gc;
mod interface;
mod ipam;
mod memif;
mod old_cache;
mod paths;
mod pod;
mod record;
mod request;
mod routes;
mod teardown;
mod vhost_user;

pub use avoid::{CHECKPOINT as KUBELET_CHECKPOINT, given_out};
pub use conf::{PickConf, UplinkChoice, VfChoice, VfConf};
pub use memif::MemifConf;
pub use paths::PluginPaths;
pub use record::InterfaceRecord;
pub use vhost_user::VhostUserConf;

use std::path::PathBuf;

use interface::Invocation;
use serde_json::{Map, Value};

use crate::Error;
use crate::spec::budget;
use crate::spec::conf::NetConf;
use crate::spec::protocol::{Context, Plugin};
use crate::state::lock::ContainerLock;

/// The interface plugin.
#[derive(Debug)]
pub struct SluicegateVf;

impl Plugin for SluicegateVf {
    const NAME: &'static str = "sluicegate-vf";
    const ABOUT: &'static str = "sluicegate-vf: CNI plugin that gives a pod an SR-IOV VF, or an attachment on the node's packet engine";

    fn run_dir(&self, conf: &NetConf) -> PathBuf {
        PluginPaths::read(conf).run_dir
    }

    fn add(&self, context: &Context) -> Result<Map<String, Value>, Error> {
        add::run(context)
    }

    fn del(&self, context: &Context) -> Result<(), Error> {
        let Context { call, log, .. } = context;
        let paths = PluginPaths::read(&context.conf);
        let lock = match lock(&paths, context) {
            Ok(lock) => Some(lock),
            // Without a lock rather than not at all.
            Err(error @ Error::File(_)) => {
                log.error(format_args!(
                    "going on without the interface's lock: {error}"
                ));
                None
            }
            Err(error) => return Err(error),
        };
        let loaded = InterfaceRecord::load(&paths.records, &call.container_id, &call.ifname, log);
        let record = loaded.unwrap_or_else(|error| {
            log.error(format_args!("{error}: the record counts as absent"));
            None
        });
        let net = &context.conf;
        let invocation = Invocation { call, net };
        let ended = teardown::run(&paths, record.as_ref(), invocation, log, context.budget);
        if let Some(lock) = lock.filter(|_| ended.is_ok() || record.is_none()) {
            lock.remove();
        }
        ended
    }

    fn check(&self, context: &Context) -> Result<(), Error> {
        check::run(context)
    }

    fn gc(&self, context: &Context) -> Result<(), Error> {
        gc::run(context)
    }

    fn status(&self, context: &Context) -> Result<(), Error> {
        gc::status(context)
    }
}

/// Takes the lock of this container's interface. It is another than the meta plugin's, which may
/// be the one that runs this.
fn lock(paths: &PluginPaths, context: &Context) -> Result<ContainerLock, Error> {
    let call = &context.call;
    let wait = context.budget.share(2).at_most(budget::LOCK);
    let name = format!("{}@{}", call.container_id, call.ifname);
    ContainerLock::take(&paths.records.join("locks"), &name, wait, &context.log)
}
