//! The meta plugin's own keys.

use std::path::PathBuf;

use serde_json::{Map, Value};

use crate::Error;
use crate::conf::NetConf;
use crate::fields::Fields;
use crate::store;

/// Where delegates are looked for after `CNI_PATH`, unless `binDir` says otherwise.
pub const DEFAULT_BIN_DIR: &str = "/opt/cni/bin";

/// The meta plugin's configuration.
#[derive(Debug, Clone)]
pub struct MetaConf {
    /// `name`.
    pub name: String,
    /// `type`: the name this program is installed under.
    pub program: String,
    /// `binDir`.
    pub bin_dir: PathBuf,
    /// Where our state lies: `sluicegate` in `cniDir`.
    pub state_dir: PathBuf,
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
    /// Whether networks may come from the API server: `kubeconfig` is given.
    pub has_kubeconfig: bool,
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
        for key in ["clusterNetwork", "defaultNetworks", "defaultDelegates"] {
            if fields.get(key).is_some_and(|value| !is_empty(value)) {
                return Err(Error::Config(format!(
                    "{key} names networks by objects or files, which this build does not resolve: \
                     put their configurations into delegates"
                )));
            }
        }
        let read = MetaConf {
            name: conf.name.clone(),
            program: fields.string("type")?.unwrap_or_default().to_owned(),
            bin_dir: path("binDir")?.unwrap_or_else(|| PathBuf::from(DEFAULT_BIN_DIR)),
            state_dir: store::state_dir(fields.string("cniDir")?.filter(|dir| !dir.is_empty())),
            delegates: delegates(&fields)?,
            net_index_base: fields.integer("netIndexBase", 0, 1)?,
            runtime_config: fields
                .object("runtimeConfig")?
                .map(|runtime| runtime.map().clone())
                .unwrap_or_default(),
            readiness_file: path("readinessindicatorfile")?,
            disable_gc: fields.boolean("disableGC")?.unwrap_or_default(),
            has_kubeconfig: fields
                .string("kubeconfig")?
                .is_some_and(|path| !path.is_empty()),
        };
        if read.delegates.is_empty() && !read.has_kubeconfig {
            return Err(Error::Config(
                "the configuration names no network: give delegates, clusterNetwork or kubeconfig"
                    .into(),
            ));
        }
        Ok(read)
    }

    /// What DEL needs of it, whatever else is wrong with it: a record may be there from before
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
            state_dir: store::state_dir(text("cniDir")),
            delegates: Vec::new(),
            net_index_base: None,
            runtime_config: Map::new(),
            readiness_file: None,
            disable_gc: false,
            has_kubeconfig: false,
        }
    }
}

fn is_empty(value: &Value) -> bool {
    matches!(value, Value::String(text) if text.is_empty())
        || matches!(value, Value::Array(list) if list.is_empty())
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
            json!({"name": "n", "clusterNetwork": "flannel"}),
        ] {
            assert_eq!(read(&bad).unwrap_err().code(), 7, "{bad}");
        }
        assert!(read(&json!({"name": "n", "kubeconfig": "/k"})).is_ok());
    }
}
