// SPDX-License-Identifier: Apache-2.0
//! [`InterfaceRecord`]: configuration of one interface, written before anything is taken for it.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sluice_host::NetnsIdentity;

use crate::Error;
use crate::spec::call::Call;
use crate::spec::conf::NetConf;
use crate::spec::log::Log;
use crate::spec::progress::{PluginState, Progress};
use crate::state;

/// Folder of records whose pod is gone while the engine has not confirmed the detach yet.
const RELEASED: &str = "released";

/// The record of one attachment, found by container id and interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InterfaceRecord {
    /// Whether ADD came to its end.
    pub complete: bool,
    /// `name` of the configuration.
    pub network: String,
    /// `CNI_CONTAINERID`.
    pub container_id: String,
    /// `CNI_IFNAME`.
    pub ifname: String,
    /// `CNI_ARGS` at ADD.
    pub args: Option<String>,
    /// The namespace that `CNI_NETNS` named at ADD.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub netns: Option<NetnsIdentity>,
    /// `CNI_PATH` at ADD.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub plugin_path: Vec<PathBuf>,
    /// The configuration at ADD.
    pub conf: Map<String, Value>,
    /// Result of ADD in the newest version's shape: what CHECK compares with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<Map<String, Value>>,
    /// Step that ADD reached, and what became of DELs.
    #[serde(default, skip_serializing_if = "is_new")]
    pub state: PluginState,
}

fn is_new(state: &PluginState) -> bool {
    *state == PluginState::default()
}

impl InterfaceRecord {
    /// The record of an ADD that has begun nothing yet.
    pub fn new(conf: &NetConf, call: &Call) -> InterfaceRecord {
        let netns = call.netns.as_deref();
        InterfaceRecord {
            complete: false,
            network: conf.name.clone(),
            container_id: call.container_id.clone(),
            ifname: call.ifname.clone(),
            args: call.args.clone(),
            netns: netns.and_then(|path| NetnsIdentity::of(path).ok()),
            plugin_path: call.path.clone(),
            conf: conf.json.clone(),
            result: None,
            state: PluginState::default(),
        }
    }

    /// Step that ADD reached. Version 0.1 wrote down only whether it came to its end.
    pub fn progress(&self) -> Progress {
        match self.state.progress {
            Progress::Unknown if self.complete => Progress::Added,
            progress => progress,
        }
    }

    fn path(dir: &Path, container_id: &str, ifname: &str) -> PathBuf {
        dir.join(state::file_name(container_id, ifname))
    }

    /// Writes it.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn save(&self, dir: &Path) -> Result<(), Error> {
        state::make_dir(dir)?;
        state::write(
            &InterfaceRecord::path(dir, &self.container_id, &self.ifname),
            self,
        )
    }

    /// Notes that the engine must be asked again to let go of the attachment. A record that is on disk
    /// already is moved, which needs no space.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn release(&self, dir: &Path) -> Result<(), Error> {
        let released = dir.join(RELEASED);
        let from = InterfaceRecord::path(dir, &self.container_id, &self.ifname);
        let to = InterfaceRecord::path(&released, &self.container_id, &self.ifname);
        state::make_dir(&released)?;
        match std::fs::rename(&from, &to) {
            Ok(()) => Ok(()),
            Err(_) => self.save(&released),
        }
    }

    /// Whether there is one, whole or torn.
    pub fn is_there(dir: &Path, container_id: &str, ifname: &str) -> bool {
        InterfaceRecord::path(dir, container_id, ifname).exists()
    }

    /// Whether a DEL could only note that the engine must be asked again.
    pub fn is_released(dir: &Path, container_id: &str, ifname: &str) -> bool {
        InterfaceRecord::path(&dir.join(RELEASED), container_id, ifname).exists()
    }

    /// The attachments that the engine must be asked again to let go of.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn released(dir: &Path) -> Result<Vec<(String, String)>, Error> {
        state::list(&dir.join(RELEASED))
    }

    /// Notes that the engine has let go.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn forget_released(dir: &Path, container_id: &str, ifname: &str) -> Result<(), Error> {
        state::remove(&InterfaceRecord::path(
            &dir.join(RELEASED),
            container_id,
            ifname,
        ))
    }

    /// Reads it. A torn one counts as absent and is reported.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn load(
        dir: &Path,
        container_id: &str,
        ifname: &str,
        log: &Log,
    ) -> Result<Option<InterfaceRecord>, Error> {
        let path = InterfaceRecord::path(dir, container_id, ifname);
        state::load(&path, log)
    }

    /// Removes it, torn or whole.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn remove(dir: &Path, container_id: &str, ifname: &str) -> Result<(), Error> {
        state::remove(&InterfaceRecord::path(dir, container_id, ifname))
    }
}
