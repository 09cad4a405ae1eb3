// SPDX-License-Identifier: Apache-2.0
//! Uplinks of the configuration: opened at start, watched, given back at shutdown. What an uplink takes
//! from the host is on disk before it is taken, so that the next engine gives it back if this one dies.
//!
//! | file | holds |
//! |---|---|
//! | `mod.rs` | all uplinks of the configuration |
//! | `uplink.rs` | an uplink: opening, taking up again, giving back |
//! | `state.rs` | what control last saw of a link |
//! | `watch.rs` | waiting for the kernel to say that a netdev has changed |
//! | [`dpdk`] | devices of DPDK's, and the start of its EAL |
//! | [`netdev`] | netdevs, through rtnetlink |
//! | `netdev_port.rs` | which driver has a netdev, and why |
//! | [`host_stack`] | keeping the host's own stack off a netdev |
//! | `record.rs` | what was taken, on disk |
//!
//! A netdev is an uplink by its *name*. One that is deleted, renamed or moved to another namespace is gone,
//! and what next bears the name is taken up, whatever its index; attachments stay meanwhile. Messages of
//! the kernel say only *when* to look: what is so is always asked for, so that none that gets lost
//! matters.

pub mod dpdk;
pub mod host_stack;
pub mod netdev;
mod netdev_port;
mod record;
mod state;
mod uplink;
mod watch;

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use sluice_api::ApiError;
use sluice_datapath::UplinkId;

use crate::config::UplinkConfig;
use crate::engine::SharedEngine;
use crate::records::{RecordError, Records};
use crate::refusal;

pub use self::record::{UplinkRecord, recover};
pub use self::state::UplinkState;
pub use self::uplink::Uplink;
pub use self::watch::LinkWatch;

/// Parts of the engine and the host that uplinks need.
#[derive(Debug)]
pub struct UplinkHost {
    /// The datapath.
    pub engine: Arc<SharedEngine>,
    /// Records of what uplinks took.
    pub records: Records,
    /// Boot id of the machine.
    pub boot_id: String,
}

/// Facts about an uplink of the configuration that attachments need.
#[derive(Debug, Clone, Copy)]
pub struct UplinkInfo {
    /// Number of the uplink in the datapath.
    pub id: UplinkId,
    /// MTU in bytes; of a netdev that is gone, when it was last there.
    pub mtu: u32,
}

/// All uplinks of the configuration.
#[derive(Debug)]
pub struct Uplinks {
    host: UplinkHost,
    all: RwLock<BTreeMap<String, Arc<Uplink>>>,
}

impl Uplinks {
    /// Makes the set, without an uplink yet.
    pub fn new(host: UplinkHost) -> Uplinks {
        Uplinks {
            host,
            all: RwLock::default(),
        }
    }

    /// Opens an uplink and gives it to the engine; its worker polls it from now on. One whose netdev is not
    /// there is taken up when it is.
    ///
    /// # Errors
    /// A step failed; the host has everything back.
    pub fn open(&self, config: &UplinkConfig) -> Result<(), ApiError> {
        let uplink = Arc::new(Uplink::open(config.clone(), &self.host)?);
        let mut all = self.all.write().unwrap_or_else(PoisonError::into_inner);
        all.insert(config.name.clone(), uplink);
        Ok(())
    }

    /// Takes an uplink out that nothing is attached to, and gives the host back what it took.
    ///
    /// # Errors
    /// It has attachments, or there is none of that name.
    pub fn remove(&self, name: &str) -> Result<(), ApiError> {
        // Held until it is gone: nobody finds it meanwhile.
        let mut all = self.all.write().unwrap_or_else(PoisonError::into_inner);
        let Some(uplink) = all.get(name).cloned() else {
            return Err(refusal::not_found(format!("there is no uplink {name}")));
        };
        let id = uplink.info().id;
        let port = self
            .host
            .engine
            .try_with(|engine| engine.remove_uplink(id))?;
        all.remove(name);
        drop(all);
        drop(port);
        uplink.close(&self.host);
        tracing::info!("uplink {name} is removed");
        Ok(())
    }

    /// Names of the uplinks.
    pub fn names(&self) -> Vec<String> {
        self.snapshot().into_iter().map(|(name, _)| name).collect()
    }

    /// Returns the uplink of that name.
    pub fn get(&self, name: &str) -> Option<Arc<Uplink>> {
        let all = self.all.read().unwrap_or_else(PoisonError::into_inner);
        all.get(name).cloned()
    }

    /// Problems of uplinks for an operator.
    pub fn problems(&self) -> Vec<String> {
        let all = self.snapshot();
        let problems = all
            .iter()
            .filter_map(|(name, uplink)| uplink.state().problem(name));
        problems.collect()
    }

    /// Looks at every netdev: takes up what is back, and notes what has changed. `thorough` looks also at
    /// whether the host's stack is still kept off, which takes a program to run.
    pub fn look(&self, thorough: bool) {
        for (_, uplink) in self.snapshot() {
            uplink.look(&self.host, thorough);
        }
    }

    /// Writes the record of each netdev that is taken, whose file was removed.
    ///
    /// # Errors
    /// One cannot be written.
    pub fn write_records_again(&self) -> Result<(), RecordError> {
        let all = self.snapshot();
        all.iter()
            .try_for_each(|(_, uplink)| uplink.write_record_again(&self.host))
    }

    /// Gives the host back what the uplinks took. The engine must have closed the ports.
    pub fn close(&self) {
        for (_, uplink) in self.snapshot().into_iter().rev() {
            uplink.close(&self.host);
        }
    }

    fn snapshot(&self) -> Vec<(String, Arc<Uplink>)> {
        let all = self.all.read().unwrap_or_else(PoisonError::into_inner);
        let pairs = all.iter();
        pairs
            .map(|(name, uplink)| (name.clone(), Arc::clone(uplink)))
            .collect()
    }
}
