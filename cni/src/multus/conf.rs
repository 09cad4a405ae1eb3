// SPDX-License-Identifier: Apache-2.0
//! The meta plugin's own keys.

use std::path::PathBuf;

use serde_json::{Map, Value};

use crate::Error;
use crate::spec::conf::NetConf;
use crate::spec::fields::Fields;
use crate::state;

use super::source::KUBELET_DIR;

/// Default folder of delegates, searched after `CNI_PATH`; changed by `binDir`.
pub const DEFAULT_BIN_DIR: &str = "/opt/cni/bin";

/// Default folder of Multus's state; changed by `cniDir`.
const MULTUS_DIR: &str = "/var/lib/cni/multus";

/// The meta plugin's configuration.
#[derive(Debug, Clone)]
pub struct MetaConf {
    /// `name`.
    pub name: String,
    /// `type`: the name this program is installed under.
    pub program: String,
    /// `binDir`.
    pub bin_dir: PathBuf,
    /// Folder of this plugin's state: `sluicegate` in `cniDir`.
    pub state_dir: PathBuf,
    /// Folder of Multus's state: `cniDir`.
    pub multus_dir: PathBuf,
    /// `delegates`.
    pub delegates: Vec<Map<String, Value>>,
    /// `netIndexBase`, if given.
    pub net_index_base: Option<usize>,
    /// `runtimeConfig`.
    pub runtime_config: Map<String, Value>,
    /// `readinessindicatorfile`.
    pub readiness_file: Option<PathBuf>,
    /// `disableGC`.
    pub disable_gc: bool,
    /// `disableCheck`.
    pub disable_check: bool,
    /// `kubeconfig`, if given.
    pub kubeconfig: Option<PathBuf>,
    /// Sources of networks that the configuration only names.
    pub names: Names,
    /// `strictCapabilities`: what a pod asks of a plugin that does not declare it is refused at once.
    pub strict_capabilities: bool,
    /// `kubeletDir`.
    pub kubelet_dir: PathBuf,
}

/// Networks by name, and who may use whose.
#[derive(Debug, Clone, Default)]
pub struct Names {
    /// `confDir`.
    pub conf_dir: Option<PathBuf>,
    /// `clusterNetwork`: in place of `delegates`.
    pub cluster_network: Option<String>,
    /// `defaultNetworks`: on top of the cluster's, for pods outside of the system namespaces.
    pub default_networks: Vec<String>,
    /// `defaultDelegates` of TKE: in the syntax of an annotation.
    pub default_delegates: Option<String>,
    /// `multusNamespace`: where the objects of the three above are; `kube-system`.
    pub namespace: String,
    /// `systemNamespaces`; `kube-system`.
    pub system_namespaces: Vec<String>,
    /// `namespaceIsolation`: a pod may name networks of its own namespace and of these
    /// (`globalNamespaces`; `default`) only. Absent: of any.
    pub isolated_but: Option<Vec<String>>,
}

impl MetaConf {
    /// Reads it.
    ///
    /// # Errors
    /// [`Error::Config`]: a value is of the wrong kind, or the configuration names no network, or
    /// names networks in a way that this build does not resolve.
    pub fn read(conf: &NetConf) -> Result<MetaConf, Error> {
        let fields = conf.fields();
        let path = |key: &str| -> Result<Option<PathBuf>, Error> {
            Ok(fields
                .string(key)?
                .filter(|text| !text.is_empty())
                .map(PathBuf::from))
        };
        let read = MetaConf {
            name: conf.name.clone(),
            program: fields.string("type")?.unwrap_or_default().to_owned(),
            bin_dir: path("binDir")?.unwrap_or_else(|| PathBuf::from(DEFAULT_BIN_DIR)),
            state_dir: state::state_dir(fields.string("cniDir")?.filter(|dir| !dir.is_empty())),
            multus_dir: path("cniDir")?.unwrap_or_else(|| PathBuf::from(MULTUS_DIR)),
            disable_check: fields.switch("disableCheck")?.unwrap_or_default(),
            delegates: delegates(&fields)?,
            net_index_base: fields.integer("netIndexBase", 0, 1)?,
            runtime_config: fields
                .object("runtimeConfig")?
                .map(|runtime| runtime.map().clone())
                .unwrap_or_default(),
            readiness_file: path("readinessindicatorfile")?,
            disable_gc: fields.switch("disableGC")?.unwrap_or_default(),
            kubeconfig: path("kubeconfig")?,
            names: names(&fields)?,
            strict_capabilities: fields.boolean("strictCapabilities")?.unwrap_or_default(),
            kubelet_dir: path("kubeletDir")?.unwrap_or_else(|| PathBuf::from(KUBELET_DIR)),
        };
        read.check()?;
        Ok(read)
    }

    fn check(&self) -> Result<(), Error> {
        let Names {
            cluster_network,
            default_networks,
            default_delegates,
            ..
        } = &self.names;
        if let Some(path) = self
            .kubeconfig
            .as_deref()
            .filter(|path| !path.is_absolute())
        {
            return Err(Error::Config(format!(
                "kubeconfig must be an absolute path, not {}",
                path.display()
            )));
        }
        if cluster_network.is_some() && !self.delegates.is_empty() {
            return Err(Error::Config(
                "clusterNetwork and delegates exclude each other: both say what the default \
                 network is"
                    .into(),
            ));
        }
        let has_default =
            cluster_network.is_some() || default_delegates.is_some() || !self.delegates.is_empty();
        if !has_default && !default_networks.is_empty() {
            return Err(Error::Config(
                "defaultNetworks come on top of a default network: give clusterNetwork or \
                 delegates too"
                    .into(),
            ));
        }
        if !has_default && self.kubeconfig.is_none() {
            return Err(Error::Config(
                "the configuration names no network: give delegates, clusterNetwork or kubeconfig"
                    .into(),
            ));
        }
        Ok(())
    }

    /// Reads the part that DEL needs, whatever else is wrong: a record may be there from before
    /// the configuration was changed.
    pub fn for_del(conf: &NetConf) -> MetaConf {
        let fields = conf.fields();
        let text = |key| {
            fields
                .string(key)
                .ok()
                .flatten()
                .filter(|text| !text.is_empty())
        };
        MetaConf {
            name: conf.name.clone(),
            program: String::new(),
            bin_dir: PathBuf::from(text("binDir").unwrap_or(DEFAULT_BIN_DIR)),
            state_dir: state::state_dir(text("cniDir")),
            multus_dir: PathBuf::from(text("cniDir").unwrap_or(MULTUS_DIR)),
            disable_check: false,
            delegates: Vec::new(),
            net_index_base: None,
            runtime_config: Map::new(),
            readiness_file: None,
            disable_gc: false,
            kubeconfig: None,
            names: Names::default(),
            strict_capabilities: false,
            kubelet_dir: PathBuf::from(KUBELET_DIR),
        }
    }
}

fn names(fields: &Fields<'_>) -> Result<Names, Error> {
    let text = |key: &str| -> Result<Option<String>, Error> {
        let text = fields.string(key)?.filter(|text| !text.is_empty());
        Ok(text.map(str::to_owned))
    };
    let list = |key: &str| -> Result<Option<Vec<String>>, Error> {
        match fields.get(key) {
            None => Ok(None),
            // Multus has lists of names in one string here and there.
            Some(Value::String(names)) => Ok(Some(
                names
                    .split(',')
                    .map(|name| name.trim().to_owned())
                    .filter(|name| !name.is_empty())
                    .collect(),
            )),
            Some(Value::Array(names)) => names
                .iter()
                .map(|name| name.as_str().map(str::to_owned))
                .collect::<Option<_>>()
                .map(Some)
                .ok_or_else(|| fields.wrong(key, "a list of names")),
            Some(_) => Err(fields.wrong(key, "a list of names")),
        }
    };
    let isolated = fields.boolean("namespaceIsolation")?.unwrap_or_default();
    let global = list("globalNamespaces")?;
    Ok(Names {
        conf_dir: text("confDir")?.map(PathBuf::from),
        cluster_network: text("clusterNetwork")?,
        default_networks: list("defaultNetworks")?.unwrap_or_default(),
        default_delegates: text("defaultDelegates")?,
        namespace: text("multusNamespace")?.unwrap_or_else(|| "kube-system".to_owned()),
        system_namespaces: list("systemNamespaces")?
            .unwrap_or_else(|| vec!["kube-system".to_owned()]),
        isolated_but: isolated.then(|| global.unwrap_or_else(|| vec!["default".to_owned()])),
    })
}

/// `delegates`: a list of configurations, or a single one.
fn delegates(fields: &Fields<'_>) -> Result<Vec<Map<String, Value>>, Error> {
    match fields.get("delegates") {
        None => Ok(Vec::new()),
        Some(Value::Object(single)) => Ok(vec![single.clone()]),
        Some(Value::Array(list)) => list
            .iter()
            .map(|delegate| delegate.as_object().cloned())
            .collect::<Option<_>>()
            .ok_or_else(|| fields.wrong("delegates", "a list of objects")),
        Some(_) => Err(fields.wrong("delegates", "a list of configurations or a single one")),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(conf: &Value) -> Result<MetaConf, Error> {
        MetaConf::read(&NetConf::parse(conf.to_string().as_bytes()).unwrap())
    }

    #[test]
    fn keys_in_any_case_and_a_single_delegate() {
        let conf = read(
            &json!({"name": "n", "TYPE": "multus", "Delegates": {"type": "a"},
            "bindir": "/b", "CNIDIR": "/c", "netindexbase": 0}),
        )
        .unwrap();
        assert_eq!(conf.delegates.len(), 1);
        assert_eq!(conf.bin_dir, PathBuf::from("/b"));
        assert_eq!(conf.state_dir, PathBuf::from("/c/sluicegate"));
        assert_eq!(conf.net_index_base, Some(0));
        assert_eq!(conf.program, "multus");
    }

    #[test]
    fn no_network_and_wrong_kinds_are_7() {
        for bad in [
            json!({"name": "n"}),
            json!({"name": "n", "delegates": []}),
            json!({"name": "n", "delegates": "a"}),
            json!({"name": "n", "delegates": ["a"]}),
            json!({"name": "n", "delegates": {"type": "a"}, "netIndexBase": 2}),
            json!({"name": "n", "clusterNetwork": "flannel", "delegates": {"type": "a"}}),
            json!({"name": "n", "kubeconfig": "/k", "defaultNetworks": ["a"]}),
            json!({"name": "n", "kubeconfig": "relative"}),
            json!({"name": "n", "clusterNetwork": "a", "defaultNetworks": [7]}),
        ] {
            assert_eq!(read(&bad).unwrap_err().code(), 7, "{bad}");
        }
        assert!(read(&json!({"name": "n", "kubeconfig": "/k"})).is_ok());
    }

    #[test]
    fn names_and_isolation() {
        let conf = read(
            &json!({"name": "n", "kubeconfig": "/k", "clusterNetwork": "a",
            "defaultNetworks": ["b"], "namespaceIsolation": true, "globalNamespaces": "x, y",
            "multusNamespace": "infra"}),
        )
        .unwrap();
        assert_eq!(conf.names.isolated_but.unwrap(), ["x", "y"]);
        assert_eq!(conf.names.system_namespaces, ["kube-system"]);
        assert_eq!(
            (
                conf.names.namespace.as_str(),
                conf.names.default_networks.len()
            ),
            ("infra", 1)
        );
        let plain = read(&json!({"name": "n", "delegates": {"type": "a"}})).unwrap();
        assert_eq!(plain.names.isolated_but, None);
    }
}
