// SPDX-License-Identifier: Apache-2.0
//! The CNI configuration: `sluicegate` with the node's primary network as its delegate.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};
use sluice_host::FileError;

use crate::{InstallError, Plan, Primary};

/// Plugin that the configuration calls.
const OURS: &str = "sluicegate";
/// Suffixes of the files that runtimes read.
const SUFFIXES: [&str; 3] = ["conf", "conflist", "json"];
/// Plugins that do the same as ours, so that neither can delegate to the other.
const META_PLUGINS: [&str; 3] = ["multus", "multus-shim", "genie"];

/// Makes the text of the configuration. `kubeconfig` is the host's path of one.
pub(crate) fn make(plan: &Plan, kubeconfig: Option<&Path>) -> Result<String, InstallError> {
    let path = match &plan.primary {
        Primary::Auto => first(plan)?,
        Primary::File(path) => path.clone(),
    };
    let text = fs::read(&path).map_err(FileError::at("read", &path))?;
    let wrong = |why: String| InstallError::Primary {
        path: path.clone(),
        why,
    };
    let conf: Map<String, Value> =
        serde_json::from_slice(&text).map_err(|error| wrong(error.to_string()))?;
    let plugins = plugins(&conf);
    if plugins.is_empty() {
        return Err(wrong(
            "it names no plugin (`type`, or `plugins` with types)".into(),
        ));
    }
    if let Some(name) = plugins
        .iter()
        .find(|name| META_PLUGINS.contains(&name.as_str()))
    {
        return Err(wrong(format!(
            "{name} gives pods several networks itself: take it off first, or install the plugins only and let it call \
             sluicegate-vf"
        )));
    }
    let mut list = if plugins.iter().any(|name| name == OURS) {
        as_list(conf)
    } else {
        wrap(conf)
    };
    let plugin = list["plugins"]
        .as_array_mut()
        .into_iter()
        .flatten()
        .find(|plugin| plugin["type"] == OURS)
        .and_then(Value::as_object_mut);
    if let Some(plugin) = plugin {
        plugin.extend(plan.extra.clone());
        if let Some(path) = kubeconfig {
            plugin.insert("kubeconfig".into(), path.to_string_lossy().into());
        }
    }
    Ok(format!("{list:#}\n"))
}

/// Finds the lexically first configuration of the folder that is not ours: the one that pods have without us.
fn first(plan: &Plan) -> Result<PathBuf, InstallError> {
    let dir = &plan.conf_dir;
    let entries = fs::read_dir(dir).map_err(FileError::at("list", dir))?;
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    let suffix = |path: &PathBuf| {
        let suffix = path.extension().and_then(|suffix| suffix.to_str());
        suffix.is_some_and(|suffix| SUFFIXES.contains(&suffix))
    };
    let found = paths.into_iter().filter(suffix).find(|path| {
        // What is no configuration, runtimes pass over; what calls us is a sample that somebody put there.
        let conf = fs::read(path)
            .ok()
            .and_then(|text| serde_json::from_slice(&text).ok());
        let plugins = conf.map_or_else(Vec::new, |conf: Map<String, Value>| plugins(&conf));
        !plugins.is_empty() && !plugins.iter().any(|name| name == OURS)
    });
    found.ok_or_else(|| InstallError::NoPrimary { dir: dir.clone() })
}

/// Names of the plugins of a configuration or a list.
fn plugins(conf: &Map<String, Value>) -> Vec<String> {
    let name = |plugin: &Value| plugin["type"].as_str().map(str::to_owned);
    match conf.get("plugins").and_then(Value::as_array) {
        Some(list) => list.iter().filter_map(name).collect(),
        None => conf
            .get("type")
            .and_then(Value::as_str)
            .map(str::to_owned)
            .into_iter()
            .collect(),
    }
}

/// A configuration as a list of one.
fn as_list(mut conf: Map<String, Value>) -> Value {
    if conf.contains_key("plugins") {
        return conf.into();
    }
    let mut list = Map::new();
    for key in ["cniVersion", "name", "disableCheck"] {
        if let Some(value) = conf.remove(key) {
            list.insert(key.into(), value);
        }
    }
    list.insert("plugins".into(), json!([conf]));
    list.into()
}

/// A list that delegates to a network. It keeps the network's name, by which runtimes file what they remember of pods,
/// and declares what the network's plugins declare, since a runtime passes nothing else on.
fn wrap(conf: Map<String, Value>) -> Value {
    let mut capabilities: BTreeMap<String, bool> = BTreeMap::new();
    let single = [Value::from(conf.clone())];
    let list = conf.get("plugins").and_then(Value::as_array);
    for plugin in list.map_or(&single[..], Vec::as_slice) {
        let declared = plugin["capabilities"].as_object().into_iter().flatten();
        for (name, value) in declared.filter(|(_, value)| **value == true) {
            capabilities.insert(name.clone(), *value == true);
        }
    }
    let version = conf
        .get("cniVersion")
        .cloned()
        .unwrap_or_else(|| json!("0.3.1"));
    let name = conf
        .get("name")
        .cloned()
        .unwrap_or_else(|| json!("node-network"));
    let mut plugin = json!({"type": OURS, "delegates": [conf]});
    if !capabilities.is_empty() {
        plugin["capabilities"] = json!(capabilities);
    }
    json!({"cniVersion": version, "name": name, "plugins": [plugin]})
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn plan(dir: &Path) -> Plan {
        Plan {
            conf_dir: dir.to_owned(),
            ..Plan::default()
        }
    }

    fn made(plan: &Plan, kubeconfig: Option<&str>) -> Result<Value, InstallError> {
        let text = make(plan, kubeconfig.map(Path::new))?;
        Ok(serde_json::from_str(&text).unwrap())
    }

    #[test]
    fn the_first_network_of_the_folder_becomes_the_delegate() {
        let dir = tempfile::tempdir().unwrap();
        let mut plan = plan(dir.path());
        let write =
            |name: &str, conf: &Value| fs::write(dir.path().join(name), conf.to_string()).unwrap();
        write(
            "00-sluicegate.conflist",
            &json!({"name": "n", "plugins": [{"type": "sluicegate"}]}),
        );
        write("05-notes.txt", &json!({"type": "x"}));
        write("06-empty.conf", &json!({}));
        assert!(matches!(
            made(&plan, None),
            Err(InstallError::NoPrimary { .. })
        ));
        write("20-other.conf", &json!({"type": "ptp"}));
        let calico = json!({"cniVersion": "0.3.1", "name": "k8s-pod-network", "plugins": [
            {"type": "calico"}, {"type": "portmap", "snat": true, "capabilities": {"portMappings": true}}]});
        write("10-calico.conflist", &calico);
        plan.extra.insert("LogLevel".into(), json!("info"));
        let list = made(&plan, Some("/host/k")).unwrap();
        assert_eq!(list["name"], "k8s-pod-network");
        assert_eq!(list["cniVersion"], "0.3.1");
        let plugin = &list["plugins"][0];
        assert_eq!(plugin["delegates"], json!([calico]));
        assert_eq!(plugin["capabilities"], json!({"portMappings": true}));
        assert_eq!(plugin["kubeconfig"], "/host/k");
        assert_eq!(plugin["LogLevel"], "info");
        write("01-multus.conf", &json!({"type": "multus-shim"}));
        let error = made(&plan, None).unwrap_err().to_string();
        assert!(
            error.contains("01-multus.conf") && error.contains("take it off"),
            "{error}"
        );
    }

    #[test]
    fn a_template_keeps_its_own_words() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("template");
        let conf = json!({"cniVersion": "0.4.0", "name": "n", "type": "sluicegate", "delegates": [{"type": "bridge"}]});
        fs::write(&path, conf.to_string()).unwrap();
        let mut plan = plan(dir.path());
        plan.primary = Primary::File(path);
        let list = made(&plan, Some("/k")).unwrap();
        let plugin =
            json!({"type": "sluicegate", "delegates": [{"type": "bridge"}], "kubeconfig": "/k"});
        assert_eq!(
            list,
            json!({"cniVersion": "0.4.0", "name": "n", "plugins": [plugin]})
        );
    }
}
