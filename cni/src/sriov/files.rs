// SPDX-License-Identifier: Apache-2.0
//! Files that tell others of an attachment: device-info for the meta plugin, and the directory
//! that a device plugin mounts into the container.
//!
//! That directory may be writable for the pod. So nothing in it is followed, what is written is
//! a new file each time, and the directory itself stays: the container's mount holds its inode.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, OpenOptionsExt};
use std::path::Path;

use serde_json::{Value, json};
use sluice_api::{AttachReply, MemifRole, MemifSocket};
use sluice_sriov::PciAddr;

use super::conf::VfConf;
use crate::spec::result::CniResult;
use crate::{Error, state};

/// Version of the device-info specification that is written.
const DEVICE_INFO_VERSION: &str = "1.1.0";

/// Writes the device-info of a memif or vhost-user socket (Network Plumbing Working Group's
/// device-info specification 1.1.0, section 3.1). `role` and `mode` are the pod's, for a memif in its
/// older words.
///
/// # Errors
/// [`Error::File`].
pub(super) fn write_socket_info(
    path: &Path,
    conf: &VfConf,
    reply: &AttachReply,
) -> Result<(), Error> {
    let Some(socket) = &reply.socket else {
        return Ok(());
    };
    if conf.vhost_user.is_some() {
        let info = json!({
            "type": "vhost-user",
            "version": DEVICE_INFO_VERSION,
            "vhost-user": {"mode": reply.pod_role, "path": socket},
        });
        return write_info(path, &info);
    }
    let role = match reply.pod_role {
        Some(MemifRole::Server) => "master",
        Some(MemifRole::Client) | None => "slave",
    };
    let info = json!({
        "type": "memif",
        "version": DEVICE_INFO_VERSION,
        "memif": {"role": role, "path": socket, "mode": "ethernet"},
    });
    write_info(path, &info)
}

/// Writes the device-info of a VF that the pod has itself (section 3.1.1).
///
/// # Errors
/// [`Error::File`].
pub(super) fn write_pci_info(path: &Path, vf: PciAddr) -> Result<(), Error> {
    let info = json!({
        "type": "pci",
        "version": DEVICE_INFO_VERSION,
        "pci": {"pci-address": vf.to_string()},
    });
    write_info(path, &info)
}

fn write_info(path: &Path, info: &Value) -> Result<(), Error> {
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir).map_err(Error::file("create directory", dir))?;
    }
    state::write(path, info)
}

/// Makes an attachment's directory empty, and makes it if it is not there.
///
/// # Errors
/// [`Error::File`].
pub(super) fn prepare_dir(dir: &Path) -> Result<(), Error> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(dir)
        .map_err(Error::file("create directory", dir))?;
    empty_dir(dir)
}

/// Removes everything in a directory and leaves it. That it is not there is fine.
///
/// # Errors
/// [`Error::File`].
pub(super) fn empty_dir(dir: &Path) -> Result<(), Error> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(Error::file("list", dir)(error)),
    };
    for entry in entries.flatten() {
        let path = entry.path();
        let removed = if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            fs::remove_dir_all(&path)
        } else {
            fs::remove_file(&path)
        };
        match removed {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(Error::file("remove", path)(error));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Writes `interface.json` into an attachment's directory: what a pod needs to open its memif and
/// to set up a stack on it.
///
/// # Errors
/// [`Error::File`].
pub(super) fn write_interface(
    dir: &Path,
    ifname: &str,
    conf: &VfConf,
    reply: &AttachReply,
    addresses: &CniResult,
) -> Result<(), Error> {
    let interface = json!({
        "interface": ifname,
        "socket": reply.socket,
        "role": reply.pod_role,
        "id": conf.memif.id,
        "rings": conf.memif.rings,
        "ringSize": conf.memif.ring_size,
        "bufferSize": conf.memif.buffer_size,
        "mac": reply.mac,
        "mtu": reply.mtu,
        "addresses": addresses.ips,
        "routes": addresses.routes,
        "vlan": conf.vlan,
    });
    let path = dir.join("interface.json");
    let beside = dir.join(".interface.json.new");
    let _ = fs::remove_file(&beside);
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o644)
        .open(&beside)
        .and_then(|mut file| file.write_all(format!("{}\n", pretty(&interface)).as_bytes()))
        .and_then(|()| fs::rename(&beside, &path))
        .map_err(Error::file("write", path))
}

fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).unwrap_or_else(|_| value.to_string())
}

/// Removes the socket that a dead engine left, if it is one.
///
/// # Errors
/// [`Error::File`].
pub(super) fn remove_socket(socket: Option<&MemifSocket>) -> Result<(), Error> {
    let Some(MemifSocket::Path(path)) = socket else {
        return Ok(());
    };
    match fs::symlink_metadata(path) {
        Ok(meta) if meta.file_type().is_socket() => state::remove(path),
        _ => Ok(()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    fn reply(role: MemifRole) -> AttachReply {
        AttachReply {
            id: 1,
            mac: "02:00:00:00:00:01".into(),
            mtu: 1500,
            socket: Some("@sluicegate/net1".into()),
            pod_role: Some(role),
            warnings: Vec::new(),
        }
    }

    fn conf_of(mut conf: Value) -> VfConf {
        for (key, value) in [("name", "n"), ("mode", "engine"), ("uplink", "wire0")] {
            conf[key] = value.into();
        }
        let net = crate::spec::conf::NetConf::parse(conf.to_string().as_bytes()).unwrap();
        let call = crate::spec::call::Call::read(|name| {
            (name == "CNI_COMMAND").then(|| "STATUS".to_owned())
        });
        VfConf::read(&net, &call.unwrap().unwrap()).unwrap()
    }

    #[test]
    fn device_info_is_as_specified() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("devinfo/cni/x.json");
        let write = |conf: Value, role| write_socket_info(&path, &conf_of(conf), &reply(role));
        write(json!({}), MemifRole::Client).unwrap();
        let info: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        assert_eq!(
            info,
            json!({"type": "memif", "version": "1.1.0",
                "memif": {"role": "slave", "path": "@sluicegate/net1", "mode": "ethernet"}})
        );
        write(json!({}), MemifRole::Server).unwrap();
        assert!(fs::read_to_string(&path).unwrap().contains("master"));
        write(json!({"vhostUser": {"socket": "/x"}}), MemifRole::Client).unwrap();
        let info: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        assert_eq!(
            info,
            json!({"type": "vhost-user", "version": "1.1.0",
                "vhost-user": {"mode": "client", "path": "@sluicegate/net1"}})
        );
    }

    #[test]
    fn a_directory_is_emptied_and_stays_and_links_are_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let inner = dir.path().join("att/a");
        prepare_dir(&inner).unwrap();
        let inode = fs::metadata(&inner).unwrap().ino();
        let outside = dir.path().join("outside");
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("precious"), "x").unwrap();
        fs::write(inner.join("old"), "x").unwrap();
        fs::create_dir_all(inner.join("sub/sub")).unwrap();
        std::os::unix::fs::symlink(&outside, inner.join("link")).unwrap();
        prepare_dir(&inner).unwrap();
        assert_eq!(fs::read_dir(&inner).unwrap().count(), 0);
        assert_eq!(fs::metadata(&inner).unwrap().ino(), inode);
        assert!(outside.join("precious").exists());
    }

    #[test]
    fn only_sockets_are_removed() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "x").unwrap();
        remove_socket(Some(&MemifSocket::Path(file.clone()))).unwrap();
        assert!(file.exists());
        let socket = dir.path().join("socket");
        drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
        remove_socket(Some(&MemifSocket::Path(socket.clone()))).unwrap();
        assert!(!socket.exists());
        remove_socket(None).unwrap();
    }
}
