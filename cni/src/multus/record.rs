// SPDX-License-Identifier: Apache-2.0
//! [`PodRecord`]: the delegates of a container, written before the first of them
//! runs, and how far ADD came.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sluice_host::NetnsIdentity;

use crate::Error;
use crate::spec::call::Call;
use crate::spec::delegate::Delegate;
use crate::spec::log::Log;
use crate::spec::progress::Progress;
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
    /// The namespace that it named then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub netns_identity: Option<NetnsIdentity>,
    /// `CNI_PATH` at ADD.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub plugin_path: Vec<PathBuf>,
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
        let netns = call.netns.as_deref();
        PodRecord {
            network: network.to_owned(),
            container_id: call.container_id.clone(),
            ifname: call.ifname.clone(),
            netns: call.netns.clone(),
            netns_identity: netns.and_then(|path| NetnsIdentity::of(path).ok()),
            plugin_path: call.path.clone(),
            args: call.args.clone(),
            begun: 0,
            complete: false,
            delegates,
        }
    }

    /// Fills in how far each plugin came where a version that did not write it down made the record.
    pub fn infer_progress(&mut self) {
        for (index, delegate) in self.delegates.iter_mut().enumerate() {
            let progress = if self.complete || index + 1 < self.begun {
                Progress::Added
            } else if index < self.begun {
                Progress::Unknown
            } else {
                Progress::NotRun
            };
            let missing = delegate.plugins.len();
            delegate.states.resize(missing, progress.into());
        }
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
