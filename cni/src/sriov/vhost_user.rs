// SPDX-License-Identifier: Apache-2.0
//! The `vhostUser` member of the configuration, and the keys of userspace-cni that say the same.

use std::path::PathBuf;

use sluice_api::MemifRole;

use crate::Error;
use crate::spec::fields::Fields;

/// Members of `vhostUser`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VhostUserConf {
    /// The engine's role on the socket.
    pub role: MemifRole,
    /// Queue pairs.
    pub queues: Option<u16>,
    /// Most memory in MiB that the pod may share.
    pub max_memory_mib: Option<u32>,
    /// An absolute path, or a file name in `socket_dir`.
    pub socket: Option<String>,
    /// A directory that the pod mounts.
    pub socket_dir: Option<PathBuf>,
}

impl VhostUserConf {
    /// Reads and checks the configuration; `None`: it asks for no vhost-user socket.
    ///
    /// # Errors
    /// [`Error::Config`].
    pub(super) fn of(conf: &Fields<'_>) -> Result<Option<VhostUserConf>, Error> {
        if let Some(fields) = conf.object("vhostUser")? {
            return VhostUserConf::read(&fields).map(Some);
        }
        VhostUserConf::read_userspace(conf)
    }

    fn read(fields: &Fields<'_>) -> Result<VhostUserConf, Error> {
        fields.only(&["role", "queues", "maxMemory", "socket", "socketDir"])?;
        let role = match fields.string("role")? {
            None | Some("" | "server") => MemifRole::Server,
            Some("client") => MemifRole::Client,
            Some(_) => return Err(fields.wrong("role", "the engine's role: server or client")),
        };
        let read = VhostUserConf {
            role,
            queues: fields.integer("queues", 1, 16)?,
            max_memory_mib: fields.integer("maxMemory", 1, 1 << 20)?,
            socket: text(fields, "socket")?,
            socket_dir: directory(fields, "socketDir")?,
        };
        if let Some(name) = &read.socket {
            let whole = name.len() > 1 && name.starts_with('/');
            let file_name = !name.contains('/') && name != "." && name != "..";
            let known = whole || (file_name && read.socket_dir.is_some());
            if !known {
                let want = "an absolute path, or a file name beside socketDir (front ends know no \
                            abstract names)";
                return Err(fields.wrong("socket", want));
            }
        }
        Ok(read)
    }

    /// Reads the keys of userspace-cni: `host.iftype` vhostuser with `host.vhost`, and `sharedDir`.
    fn read_userspace(conf: &Fields<'_>) -> Result<Option<VhostUserConf>, Error> {
        let Some(host) = conf.object("host")? else {
            return Ok(None);
        };
        if host.string("iftype")? != Some("vhostuser") {
            return Ok(None);
        }
        let vhost = host.object("vhost")?;
        let (mut role, mut socket) = (MemifRole::Server, None);
        if let Some(vhost) = &vhost {
            role = match vhost.string("mode")? {
                None | Some("" | "server") => MemifRole::Server,
                Some("client") => MemifRole::Client,
                Some(_) => return Err(vhost.wrong("mode", "the host's mode: server or client")),
            };
            socket = text(vhost, "socketfile")?;
            if socket.as_ref().is_some_and(|name| name.contains('/')) {
                return Err(vhost.wrong("socketfile", "a file name in sharedDir"));
            }
        }
        Ok(Some(VhostUserConf {
            role,
            socket,
            socket_dir: directory(conf, "sharedDir")?,
            ..VhostUserConf::default()
        }))
    }

    /// Path of the socket of `ifname` in the container; `device_dir` is the directory of its device id.
    /// `None`: the configuration names no place for it.
    pub(super) fn path(
        &self,
        container_id: &str,
        ifname: &str,
        device_dir: Option<PathBuf>,
    ) -> Option<PathBuf> {
        let named = self.socket.as_deref();
        if let Some(path) = named.filter(|path| path.starts_with('/')) {
            return Some(PathBuf::from(path));
        }
        if let Some(dir) = &self.socket_dir {
            let id: String = container_id.chars().take(12).collect();
            let file = named.map_or_else(|| format!("vhost-{id}-{ifname}.sock"), str::to_owned);
            return Some(dir.join(file));
        }
        device_dir.map(|dir| dir.join("vhost.sock"))
    }
}

fn text(fields: &Fields<'_>, key: &str) -> Result<Option<String>, Error> {
    let text = fields.string(key)?.filter(|text| !text.is_empty());
    Ok(text.map(str::to_owned))
}

fn directory(fields: &Fields<'_>, key: &str) -> Result<Option<PathBuf>, Error> {
    match text(fields, key)?.map(PathBuf::from) {
        Some(dir) if !dir.is_absolute() => Err(fields.wrong(key, "an absolute path")),
        dir => Ok(dir),
    }
}
