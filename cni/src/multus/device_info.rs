// SPDX-License-Identifier: Apache-2.0
//! Device-info files (NPWG 1.3): what a device plugin or an interface plugin tells of the device behind an
//! interface, for network-status and for the pod.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::requirements::Requirements;
use crate::spec::call::Call;
use crate::spec::conf;
use crate::spec::delegate::Delegate;
use crate::spec::log::Log;
use crate::state;

/// The capability, and the member of runtimeConfig, by which a plugin learns where to write.
const CAPABILITY: &str = "CNIDeviceInfoFile";
/// Folder of device-info files (NPWG device-info specification 1.1.0).
const FOLDER: &str = "/var/run/k8s.cni.cncf.io/devinfo";

/// Says where a delegate's file is to be, if it can have one.
pub(super) fn prepare(call: &Call, delegate: &mut Delegate, requirements: &Requirements) {
    let from_runtime = delegate
        .runtime_config
        .get(CAPABILITY)
        .and_then(Value::as_str);
    if let Some(path) = from_runtime {
        // Its owner removes it.
        delegate.device_info = Some(PathBuf::from(path));
        return;
    }
    if !delegate.declares(CAPABILITY) && requirements.device.is_none() {
        return;
    }
    let name = format!("{}-{}-device.json", call.container_id, delegate.ifname);
    let path = Path::new(FOLDER).join("cni").join(name);
    delegate
        .runtime_config
        .insert(CAPABILITY.to_owned(), path.display().to_string().into());
    delegate.device_info = Some(path);
}

/// Reads the device-info of a delegate. If its plugins wrote none, the device plugin's file for the
/// device is used.
pub(super) fn read(
    delegate: &Delegate,
    requirements: &Requirements,
    log: &Log,
) -> Option<Map<String, Value>> {
    let path = delegate.device_info.as_deref()?;
    if !path.exists()
        && let Some((resource, id)) = &requirements.device
    {
        let name = format!("{}-{id}-device.json", resource.replace('/', "-"));
        let theirs = Path::new(FOLDER).join("dp").join(name);
        if theirs.exists()
            && let Err(error) = copy(&theirs, path)
        {
            log.warning(format_args!("device-info of {}: {error}", delegate.ifname));
        }
    }
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return None,
        Err(error) => {
            log.warning(format_args!("{}: {error}", path.display()));
            return None;
        }
    };
    match conf::object(&text, &path.display().to_string()) {
        Ok(info) => Some(info),
        Err(error) => {
            log.warning(format_args!("{error}"));
            None
        }
    }
}

fn copy(from: &Path, to: &Path) -> Result<(), crate::Error> {
    let text = fs::read(from).map_err(crate::Error::file("read", from))?;
    if let Some(folder) = to.parent() {
        fs::create_dir_all(folder).map_err(crate::Error::file("create directory", folder))?;
    }
    state::write_bytes(to, &text)
}

/// Makes the folder that plugins write to.
pub(super) fn make_folder(delegate: &Delegate, log: &Log) {
    if let Some(folder) = delegate.device_info.as_deref().and_then(Path::parent)
        && let Err(error) = fs::create_dir_all(folder)
    {
        log.warning(format_args!("{}: {error}", folder.display()));
    }
}

/// Removes a delegate's file, if it is one of ours.
pub(super) fn remove(delegate: &Delegate) {
    let ours = Path::new(FOLDER).join("cni");
    if let Some(path) = delegate
        .device_info
        .as_deref()
        .filter(|path| path.starts_with(&ours))
    {
        let _ = state::remove(path);
    }
}
