// SPDX-License-Identifier: Apache-2.0
//! VFs that are not ours to choose: those that a device plugin of this node gives out. The kubelet
//! keeps both what plugins advertise and what it has allocated in one file.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use serde_json::Value;
use sluice_sriov::PciAddr;

use crate::Error;

/// Default path of the checkpoint.
pub const CHECKPOINT: &str = "/var/lib/kubelet/device-plugins/kubelet_internal_checkpoint";

/// The PCI addresses in the checkpoint at `path`; ids of other devices are passed over. No file: no
/// kubelet, or one without device plugins.
///
/// # Errors
/// [`Error::TryAgain`]: it is there and makes no sense, so that any VF might be somebody's. The
/// kubelet renames a new one into place whenever something changes.
pub(super) fn read(path: &Path) -> Result<Vec<PciAddr>, Error> {
    let root = checkpoint(path)?;
    let mut found = allocated(&root);
    collect(&root["Data"]["RegisteredDevices"], &mut found);
    found.sort_unstable();
    found.dedup();
    Ok(found)
}

/// The PCI addresses of devices that pods have, by the checkpoint at `path`.
///
/// # Errors
/// Those of reading a kubelet checkpoint: a file that is not readable, or not of that form.
pub fn given_out(path: &Path) -> Result<Vec<PciAddr>, Error> {
    Ok(allocated(&checkpoint(path)?))
}

fn allocated(root: &Value) -> Vec<PciAddr> {
    let mut found = Vec::new();
    for entry in root["Data"]["PodDeviceEntries"]
        .as_array()
        .into_iter()
        .flatten()
    {
        collect(&entry["DeviceIDs"], &mut found);
    }
    found
}

/// Parses the checkpoint; null where there is none.
fn checkpoint(path: &Path) -> Result<Value, Error> {
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(Value::Null);
        }
        Err(error) => return Err(Error::file("read", path)(error)),
    };
    serde_json::from_slice(&text).map_err(|error| {
        Error::TryAgain(format!(
            "cannot tell which VFs device plugins give out: {} is not valid JSON ({error}); name the \
             VF by deviceID or vf, or try again",
            path.display()
        ))
    })
}

/// Ids are in a list, or in lists by NUMA node (since Kubernetes 1.20), or by resource.
fn collect(value: &Value, found: &mut Vec<PciAddr>) {
    match value {
        Value::String(text) => found.extend(text.parse::<PciAddr>()),
        Value::Array(list) => list.iter().for_each(|value| collect(value, found)),
        Value::Object(map) => map.values().for_each(|value| collect(value, found)),
        _ => {}
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use serde_json::json;

    fn of(value: &Value) -> Vec<String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("checkpoint");
        fs::write(&path, value.to_string()).unwrap();
        let found = read(&path).unwrap();
        found.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn lists_of_every_generation_are_read() {
        let older = json!({"Data": {
            "PodDeviceEntries": [{"PodUID": "u", "ContainerName": "c", "ResourceName": "intel.com/sriov",
                "DeviceIDs": ["0000:01:10.2"], "AllocResp": ""}],
            "RegisteredDevices": {"intel.com/sriov": ["0000:01:10.4", "0000:01:10.2"], "x/gpu": ["GPU-17"]}},
            "Checksum": 1});
        assert_eq!(of(&older), ["0000:01:10.2", "0000:01:10.4"]);
        let newer = json!({"Data": {
            "PodDeviceEntries": [{"DeviceIDs": {"-1": ["0000:01:10.0"], "1": ["0000:01:11.0"]}}],
            "RegisteredDevices": null}});
        assert_eq!(of(&newer), ["0000:01:10.0", "0000:01:11.0"]);
        // What is advertised is nobody's yet.
        let given: Vec<String> = allocated(&older).iter().map(ToString::to_string).collect();
        assert_eq!(given, ["0000:01:10.2"]);
        assert_eq!(allocated(&newer).len(), 2);
        assert_eq!(of(&json!({})), Vec::<String>::new());
    }

    #[test]
    fn no_file_is_no_plugin_and_a_torn_one_is_a_reason_to_wait() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("checkpoint");
        assert!(read(&path).unwrap().is_empty());
        fs::write(&path, "{\"Data\": {").unwrap();
        assert_eq!(read(&path).unwrap_err().code(), 11);
    }
}
