// SPDX-License-Identifier: Apache-2.0
//! Container Device Interface: one specification a pool, which tells container runtimes the mounts and device files of
//! its devices by name (CDI 0.6.0). It stays when the agent ends, as containers of running pods may be started anew
//! meanwhile; what is of no pool any more goes at the next start.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use sluice_host::store::{self, Durability};

use super::allocate::Edits;
use super::pool::Pool;
use super::spec::file_name;

/// Version of the specification.
const VERSION: &str = "0.6.0";
/// First part of the files' names.
const PREFIX: &str = "sluicegate-";

/// Returns the CDI name of a device.
pub(super) fn device_name(resource: &str, id: &str) -> String {
    format!("{resource}={id}")
}

fn path(folder: &Path, resource: &str) -> PathBuf {
    folder.join(format!("{}.json", file_name(resource)))
}

/// Writes the specification of a pool, whole or not at all, if it differs from the one that is there. Devices that come
/// with nothing are not in it; a pool of such devices has none.
///
/// # Errors
/// It cannot be written.
pub(super) fn write(folder: &Path, pool: &Pool) -> anyhow::Result<()> {
    let devices: Vec<Value> = pool
        .devices()
        .iter()
        .map(|(id, state)| (id, pool.edits(id, Some(state))))
        .filter(|(_, edits)| *edits != Edits::default())
        .map(|(id, edits)| device(id, &edits))
        .collect();
    let path = path(folder, &pool.spec.resource);
    if devices.is_empty() {
        store::remove(&path, Durability::Renamed)?;
        return Ok(());
    }
    let spec = json!({"cdiVersion": VERSION, "kind": pool.spec.resource, "devices": devices});
    let text = format!("{spec:#}\n");
    if fs::read_to_string(&path).is_ok_and(|there| there == text) {
        return Ok(());
    }
    store::make_dir(folder, 0o755)?;
    store::write(&path, text.as_bytes(), 0o644, Durability::Renamed)?;
    Ok(())
}

fn device(id: &str, edits: &Edits) -> Value {
    let nodes: Vec<Value> = edits
        .devices
        .iter()
        .map(|one| json!({"path": one.container_path, "hostPath": one.host_path, "permissions": one.permissions}))
        .collect();
    let mounts: Vec<Value> = edits
        .mounts
        .iter()
        .map(|one| {
            let access = if one.read_only { "ro" } else { "rw" };
            json!({"hostPath": one.host_path, "containerPath": one.container_path,
                "options": ["rbind", "nosuid", "nodev", access]})
        })
        .collect();
    let mut changes = json!({});
    if !nodes.is_empty() {
        changes["deviceNodes"] = nodes.into();
    }
    if !mounts.is_empty() {
        changes["mounts"] = mounts.into();
    }
    json!({"name": id, "containerEdits": changes})
}

/// Removes the specifications that are of none of these resources, and returns their files.
///
/// # Errors
/// The folder is there and cannot be read, or a file cannot be removed.
pub(super) fn remove_others(folder: &Path, resources: &[&str]) -> std::io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let keep: Vec<PathBuf> = resources.iter().map(|one| path(folder, one)).collect();
    let mut removed = Vec::new();
    for entry in entries.flatten() {
        let name = entry.file_name();
        let ours = name.to_string_lossy().starts_with(PREFIX);
        let file = entry.path();
        if ours && file.extension().is_some_and(|end| end == "json") && !keep.contains(&file) {
            fs::remove_file(&file)?;
            removed.push(file);
        }
    }
    Ok(removed)
}
