// SPDX-License-Identifier: Apache-2.0
//! Multus's cache of a pod's delegates, read when there is no record of ours, so that pods made before the
//! switch are deleted properly.
//!
//! One file for each container, named by its id: a list of delegates. Since 3.0 each holds its
//! configuration as bytes (in base64) and the interface asked for; the first is the primary one. Multus
//! 1.x and its forks wrote the configurations themselves.

use std::fs;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use super::naming::{self, Naming};
use super::network::ResolvedNetwork;
use super::result_cache;
use crate::spec::conf;
use crate::spec::delegate::Delegate;
use crate::spec::fields::{self, Fields};
use crate::{Error, state};

/// The delegates of a container that Multus ran, the primary one first; `None`: it knows of none.
///
/// # Errors
/// [`Error::Internal`]: there is a file, and it makes no sense.
pub(super) fn load(
    dir: &Path,
    container: &str,
    ifname: &str,
) -> Result<Option<Vec<Delegate>>, Error> {
    let path = dir.join(container);
    let Ok(text) = fs::read(&path) else {
        return Ok(None);
    };
    let broken = |why: String| {
        Error::Internal(format!(
            "{} is not a cache of Multus: {why}",
            path.display()
        ))
    };
    let root: Value = serde_json::from_slice(&text).map_err(|error| broken(error.to_string()))?;
    // Its thick form keeps the whole configuration, with the list in it.
    let list = match &root {
        Value::Array(list) => list,
        Value::Object(map) => fields::find(map, "delegates")
            .and_then(Value::as_array)
            .ok_or_else(|| broken("it holds no delegates".to_owned()))?,
        _ => return Err(broken("it is not a list".to_owned())),
    };
    let entries: Vec<&Map<String, Value>> = list.iter().filter_map(Value::as_object).collect();
    let mut delegates = if entries
        .iter()
        .any(|entry| fields::find(entry, "Bytes").is_some())
    {
        of_today(&entries, ifname)
    } else {
        of_old(&entries, ifname)
    }
    .map_err(|error| broken(error.to_string()))?;
    for delegate in &mut delegates {
        delegate.result = result_cache::load(dir, &delegate.name, container, &delegate.ifname);
    }
    delegates.sort_by_key(|delegate| !delegate.primary);
    Ok(Some(delegates))
}

fn of_today(entries: &[&Map<String, Value>], ifname: &str) -> Result<Vec<Delegate>, Error> {
    let delegate = |(index, entry): (usize, &&Map<String, Value>)| {
        let fields = Fields::new(entry);
        let text = fields.string("Bytes")?.unwrap_or_default();
        let bytes = STANDARD
            .decode(text)
            .map_err(|error| Error::Internal(format!("Bytes of delegate {index}: {error}")))?;
        let conf = conf::object(&bytes, &format!("delegate {index}"))?;
        let name = fields.string("Name")?.unwrap_or_default().to_owned();
        let mut delegate = Delegate::from_conf(&conf, |_| name)?;
        delegate.primary = index == 0;
        let asked = fields
            .string("ifnameRequest")?
            .filter(|name| !name.is_empty());
        delegate.ifname = match asked {
            _ if index == 0 => ifname.to_owned(),
            Some(asked) => asked.to_owned(),
            None => format!("net{index}"),
        };
        Ok(delegate)
    };
    entries.iter().enumerate().map(delegate).collect()
}

fn of_old(entries: &[&Map<String, Value>], ifname: &str) -> Result<Vec<Delegate>, Error> {
    let mut networks: Vec<ResolvedNetwork> = entries
        .iter()
        .map(|conf| ResolvedNetwork::inline(conf))
        .collect();
    let naming = Naming::Default {
        default: networks.len(),
    };
    let (names, primary_index) = naming::names(&mut networks, naming, ifname, None)?;
    let named = networks.iter().zip(names).enumerate();
    named
        .map(|(index, (network, name))| {
            let mut delegate =
                Delegate::from_conf(&network.conf, |program| format!("{program}-{index}"))?;
            delegate.ifname = name;
            delegate.primary = index == primary_index;
            Ok(delegate)
        })
        .collect()
}

/// The containers that Multus knows of.
pub(super) fn containers(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_file()))
        .filter_map(|entry| entry.file_name().into_string().ok())
        // Container ids: nothing else of a CNI state directory looks like one.
        .filter(|name| name.len() >= 12 && name.bytes().all(|byte| byte.is_ascii_hexdigit()))
        .collect()
}

/// Removes what Multus knew of a container.
///
/// # Errors
/// [`Error::File`].
pub(super) fn remove(dir: &Path, container: &str, delegates: &[Delegate]) -> Result<(), Error> {
    for delegate in delegates {
        result_cache::remove(dir, container, delegate)?;
    }
    state::remove(&dir.join(container))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use serde_json::json;

    fn cached(value: &Value) -> (tempfile::TempDir, Result<Option<Vec<Delegate>>, Error>) {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("0123456789ab"), value.to_string()).unwrap();
        let loaded = load(dir.path(), "0123456789ab", "eth0");
        (dir, loaded)
    }

    fn pairs(delegates: Vec<Delegate>) -> Vec<(String, String)> {
        delegates.into_iter().map(|d| (d.name, d.ifname)).collect()
    }

    fn expected(list: &[(&str, &str)]) -> Vec<(String, String)> {
        list.iter()
            .map(|(a, b)| ((*a).to_owned(), (*b).to_owned()))
            .collect()
    }

    #[test]
    fn the_form_of_today() {
        let bytes = |conf: Value| STANDARD.encode(conf.to_string());
        let list = json!([
            {"Conf": {"name": "flannel"}, "Name": "flannel", "IsFilterV4Gateway": false,
                "Bytes": bytes(json!({"name": "flannel", "type": "bridge", "cniVersion": "0.4.0"}))},
            {"Conf": {}, "ConfList": {}, "ifnameRequest": "north", "Name": "x",
                "Bytes": bytes(json!({"name": "x", "plugins": [{"type": "ptp"}]}))},
            {"Name": "y", "Bytes": bytes(json!({"type": "ptp"}))}]);
        let (dir, loaded) = cached(&list);
        let names = expected(&[("flannel", "eth0"), ("x", "north"), ("y", "net2")]);
        assert_eq!(pairs(loaded.unwrap().unwrap()), names);
        let results = dir.path().join("results");
        fs::create_dir(&results).unwrap();
        let result = json!({"kind": KIND, "result": {"cniVersion": "0.4.0", "ips": []}});
        fs::write(
            results.join("flannel-0123456789ab-eth0"),
            result.to_string(),
        )
        .unwrap();
        let again = load(dir.path(), "0123456789ab", "eth0").unwrap().unwrap();
        assert_eq!(again[0].result.as_ref().unwrap()["cniVersion"], "0.4.0");
        assert_eq!(containers(dir.path()), ["0123456789ab"]);
        remove(dir.path(), "0123456789ab", &again).unwrap();
        assert!(load(dir.path(), "0123456789ab", "eth0").unwrap().is_none());
        assert_eq!(fs::read_dir(&results).unwrap().count(), 0);
    }

    const KIND: &str = "cniCacheV1";

    #[test]
    fn the_form_of_1_x() {
        let list = json!([{"type": "sriov", "if0": "a"}, {"type": "ptp", "name": "p"},
            {"type": "flannel", "masterplugin": true}]);
        let (_dir, loaded) = cached(&list);
        let names = expected(&[("flannel-2", "eth0"), ("sriov-0", "net0"), ("p", "net1")]);
        assert_eq!(pairs(loaded.unwrap().unwrap()), names);
        assert!(cached(&json!("x")).1.is_err());
        assert!(cached(&json!([{"Bytes": "%"}])).1.is_err());
    }
}
