// SPDX-License-Identifier: Apache-2.0
//! [`Plan`]: what is to be installed, and where.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

/// Programs that are installed, by the names that CNI configurations call them by.
pub const PLUGINS: [&str; 2] = ["sluicegate", "sluicegate-vf"];
/// Place of the kubeconfig below the folder of CNI configurations.
pub const KUBECONFIG: &str = "sluicegate.d/sluicegate.kubeconfig";

/// Extent of an installation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Mode {
    /// Both plugins, the kubeconfig, and the configuration that makes `sluicegate` the node's network.
    #[default]
    Full,
    /// `sluicegate-vf` alone, for a node whose Multus calls it.
    PluginsOnly,
}

/// Primary network of pods, which the configuration delegates to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Primary {
    /// First configuration of the folder that is not ours.
    #[default]
    Auto,
    /// A file: a network's configuration, or a template that calls `sluicegate` itself.
    File(PathBuf),
}

/// Folders, names and contents of an installation. Paths are as this process sees them, but for those of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Folder that has the programs of the plugins.
    pub source: PathBuf,
    /// Folder in which the container runtime looks for plugins.
    pub bin_dir: PathBuf,
    /// Folder in which the container runtime looks for configurations.
    pub conf_dir: PathBuf,
    /// Path of `conf_dir` on the host, which the plugins see.
    pub host_conf_dir: PathBuf,
    /// Folder of the record.
    pub state_dir: PathBuf,
    /// File name of the configuration; the runtime takes the lexically first of the folder.
    pub conf_name: String,
    /// Extent.
    pub mode: Mode,
    /// Primary network.
    pub primary: Primary,
    /// Kubeconfig that is there already, as the host sees it, in place of the one that is written.
    pub own_kubeconfig: Option<PathBuf>,
    /// Further keys of `sluicegate` in the configuration.
    pub extra: Map<String, Value>,
}

impl Default for Plan {
    fn default() -> Plan {
        Plan {
            source: PathBuf::from("/usr/lib/sluicegate"),
            bin_dir: PathBuf::from("/opt/cni/bin"),
            conf_dir: PathBuf::from("/etc/cni/net.d"),
            host_conf_dir: PathBuf::from("/etc/cni/net.d"),
            state_dir: PathBuf::from("/var/lib/sluicegate"),
            conf_name: "00-sluicegate.conflist".to_owned(),
            mode: Mode::Full,
            primary: Primary::Auto,
            own_kubeconfig: None,
            extra: Map::new(),
        }
    }
}

impl Plan {
    /// Names of the plugins that are installed.
    pub fn plugins(&self) -> &'static [&'static str] {
        match self.mode {
            Mode::Full => &PLUGINS,
            Mode::PluginsOnly => &PLUGINS[1..],
        }
    }

    /// Path of the configuration.
    pub fn conf(&self) -> PathBuf {
        self.conf_dir.join(&self.conf_name)
    }

    /// Path of the kubeconfig that is written.
    pub fn kubeconfig(&self) -> PathBuf {
        self.conf_dir.join(KUBECONFIG)
    }

    /// Path of the record.
    pub fn record(&self) -> PathBuf {
        self.state_dir.join("install.json")
    }

    /// Path of the kubeconfig as the configuration names it: the host's.
    pub(crate) fn host_kubeconfig(&self, written: bool) -> Option<PathBuf> {
        let own = self.own_kubeconfig.clone();
        own.or_else(|| written.then(|| self.host_conf_dir.join(KUBECONFIG)))
    }

    /// Folder of files that were there before.
    pub(crate) fn replaced(&self, path: &Path) -> PathBuf {
        let name = path.file_name().unwrap_or_default();
        self.state_dir.join("replaced").join(name)
    }
}
