// SPDX-License-Identifier: Apache-2.0
//! [`PodRecord`]: the delegates of a container, written before the first of them
//! runs, and how far ADD came.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::Error;
use crate::spec::call::Call;
use crate::spec::delegate::Delegate;
use crate::spec::log::Log;
use crate::state;

/// The record of one ADD, found by container id and `CNI_IFNAME`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodRecord {
    /// `name` of the configuration.
    pub network: String,
    /// `CNI_CONTAINERID`.
    pub container_id: String,
    /// `CNI_IFNAME`.
    pub ifname: String,
    /// `CNI_NETNS` at ADD, for people: it may name another namespace by now.
    pub netns: Option<PathBuf>,
    /// `CNI_ARGS` at ADD.
    pub args: Option<String>,
    /// Number of delegates, from the front, whose ADD has begun.
    pub begun: usize,
    /// Whether ADD came to its end.
    pub complete: bool,
    /// The delegates in the order they are run, the primary one first.
    pub delegates: Vec<Delegate>,
}

impl PodRecord {
    /// A record of an ADD that has begun nothing yet.
    pub fn new(network: &str, call: &Call, delegates: Vec<Delegate>) -> PodRecord {
        PodRecord {
            network: network.to_owned(),
            container_id: call.container_id.clone(),
            ifname: call.ifname.clone(),
            netns: call.netns.clone(),
            args: call.args.clone(),
            begun: 0,
            complete: false,
            delegates,
        }
    }

    /// The delegates that a DEL has to undo, in the order of ADD.
    pub fn to_undo(&self) -> &[Delegate] {
        &self.delegates[..self.begun.min(self.delegates.len())]
    }

    /// Returns the path of the record of an interface.
    pub fn path(state_dir: &Path, container_id: &str, ifname: &str) -> PathBuf {
        state_dir.join(state::file_name(container_id, ifname))
    }

    /// Writes the record.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn save(&self, state_dir: &Path) -> Result<(), Error> {
        state::write(
            &PodRecord::path(state_dir, &self.container_id, &self.ifname),
            self,
        )
    }

    /// The record of an interface. A torn one counts as absent and is reported.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn load(
        state_dir: &Path,
        container_id: &str,
        ifname: &str,
        log: &Log,
    ) -> Result<Option<PodRecord>, Error> {
        let path = PodRecord::path(state_dir, container_id, ifname);
        state::load(&path, log)
    }

    /// Removes the record of an interface, torn or whole.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn remove(state_dir: &Path, container_id: &str, ifname: &str) -> Result<(), Error> {
        state::remove(&PodRecord::path(state_dir, container_id, ifname))
    }
}
