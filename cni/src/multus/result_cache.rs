// SPDX-License-Identifier: Apache-2.0
//! Results as libcni caches them, one file for each interface, so that whatever reads such caches (and
//! a meta plugin that takes over from us) finds what it is used to. We read them for pods made before us.

use std::fs;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use crate::spec::call::Call;
use crate::spec::conf;
use crate::spec::delegate::Delegate;
use crate::{Error, state};

/// `kind` of the files.
const KIND: &str = "cniCacheV1";

fn path(dir: &Path, network: &str, container: &str, ifname: &str) -> PathBuf {
    dir.join("results")
        .join(format!("{network}-{container}-{ifname}"))
}

/// Writes down what a delegate's ADD came to.
///
/// # Errors
/// [`Error::File`].
pub(super) fn save(dir: &Path, call: &Call, delegate: &Delegate) -> Result<(), Error> {
    let config: Value = match &delegate.plugins[..] {
        [only] => only.clone().into(),
        chain => {
            json!({"name": delegate.name, "cniVersion": delegate.cni_version, "plugins": chain})
        }
    };
    let args: Vec<[&str; 2]> = call
        .args
        .as_deref()
        .unwrap_or_default()
        .split(';')
        .chain(delegate.more_args.iter().map(String::as_str))
        .filter_map(|pair| pair.split_once('='))
        .map(|(key, value)| [key, value])
        .collect();
    let cached = json!({
        "kind": KIND,
        "containerId": call.container_id,
        "config": STANDARD.encode(config.to_string()),
        "ifName": delegate.ifname,
        "networkName": delegate.name,
        "netns": call.netns,
        "cniArgs": args,
        "capabilityArgs": delegate.runtime_config,
        "result": delegate.result,
    });
    state::make_dir(&dir.join("results"))?;
    let path = path(dir, &delegate.name, &call.container_id, &delegate.ifname);
    state::write_bytes(&path, cached.to_string().as_bytes())
}

/// The result of an interface, from a cache of libcni's below `dir`.
pub(super) fn load(
    dir: &Path,
    network: &str,
    container: &str,
    ifname: &str,
) -> Option<Map<String, Value>> {
    let path = path(dir, network, container, ifname);
    let cached = conf::object(&fs::read(&path).ok()?, "").ok()?;
    match cached.get("kind").and_then(Value::as_str) {
        Some(KIND) => cached.get("result")?.as_object().cloned(),
        // Before libcni 0.8 the file was the result itself.
        _ => Some(cached),
    }
}

/// Removes the file of an interface.
///
/// # Errors
/// [`Error::File`].
pub(super) fn remove(dir: &Path, container: &str, delegate: &Delegate) -> Result<(), Error> {
    state::remove(&path(dir, &delegate.name, container, &delegate.ifname))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn the_results_that_version_0_1_cached_are_read() {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/0.1/cni/sluicegate");
        let container = "0123456789abcdef";
        let primary = load(&dir, "flannel", container, "eth0").unwrap();
        assert_eq!(primary["cniVersion"], "0.4.0");
        assert_eq!(primary["ips"][0]["gateway"], "10.244.0.1");
        let second = load(&dir, "tenant-a", container, "net1").unwrap();
        assert_eq!(second["interfaces"], json!([{"name": "net1"}]));
    }
}
