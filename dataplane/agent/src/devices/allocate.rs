// SPDX-License-Identifier: Apache-2.0
//! Allocate: what a container gets with its devices. Nothing of the host is changed but the folder of an id, which is
//! made and emptied: VFs are taken by the plugin at ADD.

use std::collections::HashMap;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Map, Value, json};
use sluice_sriov::PciAddr;
use sluice_sriov::sysfs::Sysfs;
use tokio::time::{Instant, sleep};
use tonic::Status;

use super::holders;
use super::messages::{
    AllocateRequest, AllocateResponse, CdiDevice, ContainerAllocateResponse, DeviceSpec, Ids, Mount,
};
use super::pool::{DeviceState, Pool};
use super::spec::{PoolKind, VfMode, env_name};
use super::{cdi, settings};

/// Time for which Allocate waits for the DEL of the pod that had the device before.
const PATIENCE: Duration = Duration::from_secs(5);
/// Pause between two looks at who has a device.
const PAUSE: Duration = Duration::from_millis(200);

/// Mounts and device files that come with one device.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Edits {
    /// Folders.
    pub(super) mounts: Vec<Mount>,
    /// Device files.
    pub(super) devices: Vec<DeviceSpec>,
}

impl Pool {
    /// Answers Allocate.
    ///
    /// # Errors
    /// A device is unknown, or another pod still has it; the kubelet shows the message as the pod's.
    pub(super) async fn allocate(
        &self,
        request: AllocateRequest,
    ) -> Result<AllocateResponse, Status> {
        let answer = self.try_allocate(&request).await;
        self.context.devices.change(&self.spec.resource, |status| {
            let count = request.containers.len() as u64;
            match answer {
                Ok(_) => status.allocations_total += count,
                Err(_) => status.allocation_failures_total += count,
            }
        });
        if let Err(status) = &answer {
            tracing::warn!("no device of {}: {}", self.spec.resource, status.message());
        }
        answer
    }

    async fn try_allocate(&self, request: &AllocateRequest) -> Result<AllocateResponse, Status> {
        let devices = self.devices();
        let mut answer = AllocateResponse::default();
        for container in &request.containers {
            for id in &container.ids {
                if !devices.contains_key(id) {
                    let message = format!("device {id} of {} is not there", self.spec.resource);
                    return Err(Status::not_found(message));
                }
            }
            if self.has_folders() {
                self.wait_until_free(&container.ids).await?;
                for id in &container.ids {
                    self.prepare_folder(id)?;
                }
            }
            answer.containers.push(self.answer(container, &devices));
            self.note_given(&container.ids);
            let resource = &self.spec.resource;
            tracing::info!("{} of {resource} given out", container.ids.join(", "));
        }
        Ok(answer)
    }

    /// Whether a device comes with a folder of its own, for a memif.
    fn has_folders(&self) -> bool {
        match &self.spec.kind {
            PoolKind::Vfs { mode, .. } => *mode == VfMode::Engine,
            PoolKind::Engine { .. } => true,
        }
    }

    fn folder(&self, id: &str) -> PathBuf {
        self.context.config.run_dir.join(holders::FOLDER).join(id)
    }

    async fn wait_until_free(&self, ids: &[String]) -> Result<(), Status> {
        let begun = Instant::now();
        let cni_dir = settings(&self.context).cni_dir.clone();
        loop {
            let problem = match holders::now(&self.context, &cni_dir).await {
                Ok(holders) => {
                    let Some((id, holder)) = ids.iter().find_map(|id| Some((id, holders.get(id)?)))
                    else {
                        return Ok(());
                    };
                    format!(
                        "device {id} of {}: {holder} has it still, as its DEL has not ended: delete this pod, or let \
                         its controller do so; `sluicectl records list` shows what is on record",
                        self.spec.resource
                    )
                }
                Err(error) => format!("it cannot be told whether a device is free: {error:#}"),
            };
            if begun.elapsed() > PATIENCE {
                return Err(Status::failed_precondition(problem));
            }
            sleep(PAUSE).await;
        }
    }

    /// Makes and empties the folder of an id, which nobody has. It is never made anew: a mount would keep the old one.
    fn prepare_folder(&self, id: &str) -> Result<(), Status> {
        let dir = self.folder(id);
        let writable = matches!(&self.spec.kind, PoolKind::Engine { writable: true, .. });
        prepare(&dir, if writable { 0o777 } else { 0o755 }).map_err(|error| {
            let message = format!("cannot prepare the folder {}: {error}", dir.display());
            tracing::error!("{message}");
            Status::internal(message)
        })
    }

    fn answer(
        &self,
        container: &Ids,
        devices: &std::collections::BTreeMap<String, DeviceState>,
    ) -> ContainerAllocateResponse {
        let name = env_name(&self.spec.resource);
        let mut envs = HashMap::new();
        let ids = container.ids.join(",");
        envs.insert(format!("SLUICEGATE_{name}"), ids.clone());
        if let PoolKind::Vfs { .. } = self.spec.kind {
            let mut info = Map::new();
            for id in &container.ids {
                info.insert(id.clone(), self.info(id, devices.get(id)));
            }
            envs.insert(format!("PCIDEVICE_{name}"), ids);
            envs.insert(
                format!("PCIDEVICE_{name}_INFO"),
                Value::Object(info).to_string(),
            );
        }
        if self.has_folders() {
            let sockets: Vec<String> = container
                .ids
                .iter()
                .map(|id| self.folder(id).join("memif.sock").display().to_string())
                .collect();
            envs.insert(format!("SLUICEGATE_{name}_SOCKETS"), sockets.join(","));
        }
        let mut answer = ContainerAllocateResponse {
            envs,
            ..ContainerAllocateResponse::default()
        };
        for id in &container.ids {
            let edits = self.edits(id, devices.get(id));
            if edits != Edits::default() {
                let name = cdi::device_name(&self.spec.resource, id);
                answer.cdi_devices.push(CdiDevice { name });
            }
            answer.mounts.extend(edits.mounts);
            for device in edits.devices {
                if !answer.devices.contains(&device) {
                    answer.devices.push(device);
                }
            }
        }
        answer
    }

    /// Returns the mounts and device files that come with a device.
    pub(super) fn edits(&self, id: &str, state: Option<&DeviceState>) -> Edits {
        let mut edits = Edits::default();
        if self.has_folders() {
            let path = self.folder(id).display().to_string();
            edits.mounts.push(Mount {
                container_path: path.clone(),
                host_path: path,
                read_only: !matches!(&self.spec.kind, PoolKind::Engine { writable: true, .. }),
            });
        }
        let file = |host: &str, container: &str| DeviceSpec {
            container_path: container.to_owned(),
            host_path: host.to_owned(),
            permissions: "rw".to_owned(),
        };
        if let Some(group) = self.vfio_group(id) {
            edits.devices.push(file("/dev/vfio/vfio", "/dev/vfio/vfio"));
            edits.devices.push(file(&group.host, &group.container));
        }
        if state.is_some_and(|state| state.vhost_net) {
            for path in ["/dev/vhost-net", "/dev/net/tun"] {
                edits.devices.push(file(path, path));
            }
        }
        edits
    }

    fn vfio_group(&self, id: &str) -> Option<sluice_sriov::view::VfioGroup> {
        let PoolKind::Vfs { mode, .. } = &self.spec.kind else {
            return None;
        };
        let addr: PciAddr = id.parse().ok()?;
        let sysfs = Sysfs::at(&settings(&self.context).sysfs);
        let is_vfio = match mode {
            VfMode::Vfio => true,
            VfMode::Auto => {
                let function = sysfs.function(addr).ok()?;
                function.driver.as_deref() == Some("vfio-pci")
            }
            VfMode::Kernel | VfMode::Engine => false,
        };
        is_vfio.then(|| sysfs.vfio_group(addr)).flatten()
    }

    /// Facts about a VF in the form of the SR-IOV network device plugin.
    fn info(&self, id: &str, state: Option<&DeviceState>) -> Value {
        let mut info = Map::new();
        info.insert("generic".to_owned(), json!({"deviceID": id}));
        if let Some(group) = self.vfio_group(id) {
            let vfio = json!({"mount": "/dev/vfio/vfio", "dev-mount": group.container});
            info.insert("vfio".to_owned(), vfio);
        }
        if state.is_some_and(|state| state.vhost_net) {
            let vhost = json!({"net-mount": "/dev/vhost-net", "tun-mount": "/dev/net/tun"});
            info.insert("vhost".to_owned(), vhost);
        }
        if let PoolKind::Vfs {
            additional_info, ..
        } = &self.spec.kind
        {
            let mut extra = Map::new();
            for key in ["*", id] {
                extra.extend(additional_info.get(key).cloned().unwrap_or_default());
            }
            if !extra.is_empty() {
                info.insert("extra".to_owned(), Value::Object(extra));
            }
        }
        Value::Object(info)
    }
}

/// Makes a folder with this mode, or empties it. Nothing in it is followed: a pod may have written it.
fn prepare(dir: &Path, mode: u32) -> std::io::Result<()> {
    if let Some(parent) = dir.parent() {
        // Pods see their own folder only, by a mount; nobody else on the host needs to look in.
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true).mode(0o700).create(parent)?;
    }
    match fs::DirBuilder::new().mode(mode).create(dir) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    if !fs::symlink_metadata(dir)?.is_dir() {
        return Err(std::io::Error::other("it is not a folder: remove it"));
    }
    fs::set_permissions(dir, fs::Permissions::from_mode(mode))?;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            fs::remove_dir_all(entry.path())?;
        } else {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn a_folder_is_emptied_and_stays() {
        let dir = tempfile::tempdir().unwrap();
        let inner = dir.path().join("att/att-0");
        prepare(&inner, 0o755).unwrap();
        let inode = fs::metadata(&inner).unwrap().ino();
        let precious = dir.path().join("precious");
        fs::write(&precious, "x").unwrap();
        std::os::unix::fs::symlink(&precious, inner.join("memif.sock")).unwrap();
        fs::create_dir(inner.join("sub")).unwrap();
        prepare(&inner, 0o777).unwrap();
        let after = fs::metadata(&inner).unwrap();
        assert_eq!((after.ino(), after.mode() & 0o777), (inode, 0o777));
        assert_eq!(fs::read_dir(&inner).unwrap().count(), 0);
        assert!(precious.exists());
        let parent = fs::metadata(dir.path().join("att")).unwrap();
        assert_eq!(parent.mode() & 0o777, 0o700);
    }
}
