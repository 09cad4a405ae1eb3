// SPDX-License-Identifier: Apache-2.0
//! [`PluginPaths`]: folders and files of a call, known even if the configuration is otherwise wrong.

use std::path::{Path, PathBuf};

use crate::Error;
use crate::multus::DEFAULT_BIN_DIR;
use crate::spec::conf::NetConf;
use crate::state;

/// Longest path of a unix socket in bytes (`sun_path` of unix(7), less the NUL).
const MAX_SOCKET_PATH: usize = 107;

/// The directories and files that a call uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PluginPaths {
    /// Folder of ipam plugins, searched after `CNI_PATH`: `binDir`.
    pub bin_dir: PathBuf,
    /// Folder of this plugin's records: `sluicegate/vf` in `cniDir`.
    pub records: PathBuf,
    /// Folder of the older sriov plugins' caches: `sriov` in `cniDir`.
    pub old_sriov: PathBuf,
    /// The engine's run directory: `runDir`.
    pub run_dir: PathBuf,
    /// The engine's state directory: `stateDir`.
    pub state_dir: PathBuf,
    /// The engine's control socket: `daemonSocket`.
    pub socket: PathBuf,
    /// Checkpoint of the kubelet's device manager: `kubeletCheckpoint`.
    pub kubelet_checkpoint: PathBuf,
}

impl PluginPaths {
    /// Reads the paths; wrong ones count as absent.
    pub fn read(conf: &NetConf) -> PluginPaths {
        let fields = conf.fields();
        let text = |key| {
            fields
                .string(key)
                .ok()
                .flatten()
                .filter(|text| !text.is_empty())
        };
        let socket = PathBuf::from(text("daemonSocket").unwrap_or(sluice_api::DEFAULT_SOCKET));
        // RUN_DIR/control/sluiced.sock
        let above = socket
            .parent()
            .filter(|dir| dir.ends_with("control"))
            .and_then(Path::parent);
        let run_dir = match (text("runDir"), above) {
            (Some(dir), _) => PathBuf::from(dir),
            (None, Some(dir)) => dir.to_owned(),
            (None, None) => PathBuf::from("/run/sluicegate"),
        };
        PluginPaths {
            bin_dir: PathBuf::from(text("binDir").unwrap_or(DEFAULT_BIN_DIR)),
            records: state::state_dir(text("cniDir")).join("vf"),
            old_sriov: Path::new(text("cniDir").unwrap_or(state::DEFAULT_CNI_DIR)).join("sriov"),
            run_dir,
            kubelet_checkpoint: PathBuf::from(
                text("kubeletCheckpoint").unwrap_or(super::avoid::CHECKPOINT),
            ),
            state_dir: PathBuf::from(text("stateDir").unwrap_or(sluice_api::DEFAULT_STATE_DIR)),
            socket,
        }
    }

    /// Refuses a control socket that no program can connect to.
    ///
    /// # Errors
    /// [`Error::Config`] naming path and key.
    pub fn check_socket(&self) -> Result<(), Error> {
        let length = self.socket.as_os_str().len();
        if length <= MAX_SOCKET_PATH {
            return Ok(());
        }
        Err(Error::Config(format!(
            "daemonSocket {} has {length} bytes, and the path of a unix socket has {MAX_SOCKET_PATH} at \
             most: give the engine a shorter run_dir, and name the socket in it here",
            self.socket.display()
        )))
    }

    /// The directory that a device plugin mounts into the container that has `id`.
    pub fn attachment_dir(&self, id: &str) -> PathBuf {
        self.run_dir.join("att").join(id)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn the_run_directory_is_the_sockets() {
        let paths =
            |conf: Value| PluginPaths::read(&NetConf::parse(conf.to_string().as_bytes()).unwrap());
        let one = paths(json!({"name": "n", "daemonSocket": "/tmp/r/control/sluiced.sock"}));
        assert_eq!(one.run_dir, PathBuf::from("/tmp/r"));
        assert_eq!(one.attachment_dir("a"), PathBuf::from("/tmp/r/att/a"));
        let two = paths(json!({"name": "n", "daemonSocket": "/tmp/s", "runDir": "/tmp/q"}));
        assert_eq!(two.run_dir, PathBuf::from("/tmp/q"));
        assert_eq!(
            paths(json!({"name": "n"})).run_dir,
            PathBuf::from("/run/sluicegate")
        );
        assert!(one.check_socket().is_ok() && two.check_socket().is_ok());
        for (length, fits) in [(107, true), (108, false), (4000, false)] {
            let socket = format!("/{}", "s".repeat(length - 1));
            let checked = paths(json!({"name": "n", "daemonSocket": socket})).check_socket();
            assert_eq!(checked.is_ok(), fits, "{length}");
            if let Err(error) = checked {
                let said = error.to_string();
                assert!(
                    said.contains("daemonSocket") && said.contains(&socket),
                    "{said}"
                );
                assert_eq!(error.code(), 7);
            }
        }
    }
}
