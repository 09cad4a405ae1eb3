// SPDX-License-Identifier: Apache-2.0
//! Holders of devices: attachments of the engine in its folder, and records of the plugins that name it. A new pod
//! must not get an id before the old pod's DEL has ended, as that DEL empties the folder of the id.

use std::collections::BTreeMap;
use std::path::Path;

use sluice_api::client::ClientError;
use sluice_api::{AttachmentStatus, Backend, MemifSocket};
use sluicegate::sriov::InterfaceRecord;

use super::messages::ListPodResourcesResponse;

/// Holders by device id: for each, who has it, for people.
pub(super) type Holders = BTreeMap<String, String>;

/// Folder below the engine's run folder with one folder for each device id.
pub(super) const FOLDER: &str = "att";

/// Device id in whose folder an attachment has its socket.
pub(super) fn device_of(attachment: &AttachmentStatus, run_dir: &Path) -> Option<String> {
    let path = match attachment.backend() {
        Backend::Memif(memif) => match &memif.socket {
            Some(MemifSocket::Path(path)) => path,
            _ => return None,
        },
        Backend::VhostUser(vhost_user) => &vhost_user.socket,
        Backend::Tap {} => return None,
    };
    let inside = path.strip_prefix(run_dir.join(FOLDER)).ok()?;
    let id = inside.components().next()?.as_os_str().to_str()?;
    Some(id.to_owned())
}

/// Returns the holders that the plugins have on record below `cni_dir`.
///
/// # Errors
/// A folder is there and cannot be read.
pub(super) fn on_record(cni_dir: &Path) -> std::io::Result<Holders> {
    let mut holders = Holders::new();
    let vf = cni_dir.join("sluicegate/vf");
    for folder in [vf.clone(), vf.join("released")] {
        let entries = match std::fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        for entry in entries.flatten() {
            let path = entry.path();
            if path.extension().is_none_or(|extension| extension != "json") {
                continue;
            }
            // One that is torn, or gone since, names no device.
            let Some(record) = std::fs::read(&path)
                .ok()
                .and_then(|text| serde_json::from_slice::<InterfaceRecord>(&text).ok())
            else {
                continue;
            };
            if let Some(id) = record.conf.get("deviceID").and_then(|id| id.as_str()) {
                let short: String = record.container_id.chars().take(12).collect();
                let holder = format!("{} of container {short} (on record)", record.ifname);
                holders.insert(id.to_owned(), holder);
            }
        }
    }
    Ok(holders)
}

/// Adds the holders that the engine has attachments of.
pub(super) fn add_attached(
    holders: &mut Holders,
    attachments: &[AttachmentStatus],
    run_dir: &Path,
) {
    for attachment in attachments {
        let Some(id) = device_of(attachment, run_dir) else {
            continue;
        };
        let request = &attachment.request;
        let holder = match &request.pod {
            Some(pod) => format!("{} of pod {}/{}", request.ifname, pod.namespace, pod.name),
            None => {
                let short: String = request.container_id.chars().take(12).collect();
                format!("{} of container {short}", request.ifname)
            }
        };
        holders.insert(id, format!("{holder} (attached)"));
    }
}

/// Returns all holders, on record or on the engine, as they are now. An engine that is not there holds nothing.
///
/// # Errors
/// It cannot be told who has what.
pub(super) async fn now(
    context: &crate::context::Context,
    cni_dir: &Path,
) -> anyhow::Result<Holders> {
    let dir = cni_dir.to_owned();
    let mut holders = tokio::task::spawn_blocking(move || on_record(&dir))
        .await?
        .map_err(|error| anyhow::anyhow!("records below {}: {error}", cni_dir.display()))?;
    match context.engine.ask(|client| client.attachments()).await {
        Ok(attachments) => add_attached(&mut holders, &attachments, &context.config.run_dir),
        Err(ClientError::Down { .. }) => {}
        Err(error) => return Err(error.into()),
    }
    Ok(holders)
}

/// Device ids that containers have, by resource, in the kubelet's words.
pub(super) fn owned(list: &ListPodResourcesResponse) -> BTreeMap<String, Vec<String>> {
    let mut owned: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let containers = list.pods.iter().flat_map(|pod| &pod.containers);
    for devices in containers.flat_map(|container| &container.devices) {
        let ids = owned.entry(devices.resource_name.clone()).or_default();
        ids.extend(devices.device_ids.iter().cloned());
    }
    owned
}
