// SPDX-License-Identifier: Apache-2.0
//! Opening a pod's control socket where the pod is: abstract names inside the pod's network
//! namespace, paths through a folder that was opened once and that no link can lead out of.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use sluice_api::{ApiError, MemifRole, MemifSocket};
use sluice_memif::{Channel, Opener, Refusal};
use sluice_peer::{Address, Listener, OpenError, PeerCred, SocketKind, connect, connect_in};

use crate::refusal;
use sluice_host::{Netns, NetnsError};

/// Control socket of a memif or of vhost-user.
#[derive(Debug)]
pub(super) struct PodSocket {
    kind: SocketKind,
    netns: Netns,
    address: SocketAddress,
    /// Bound before the endpoint's thread began, so that an attach can fail for it.
    bound: Option<Listener>,
}

#[derive(Debug)]
enum SocketAddress {
    /// A name in the pod's network namespace.
    Abstract(Address),
    /// A name in a folder.
    Path {
        folder: OwnedFd,
        name: OsString,
        path: PathBuf,
    },
}

impl PodSocket {
    /// Prepares the socket; as server, listens already.
    pub(super) fn prepare(
        kind: SocketKind,
        netns: &Netns,
        socket: &MemifSocket,
        role: MemifRole,
    ) -> Result<PodSocket, ApiError> {
        let address = match socket {
            MemifSocket::Abstract(name) => SocketAddress::Abstract(Address::Abstract(name.clone())),
            MemifSocket::Path(path) => open_folder(path)?,
        };
        let mut socket = PodSocket {
            kind,
            netns: netns.clone(),
            address,
            bound: None,
        };
        if role == MemifRole::Server {
            let listener = socket.bind().map_err(|error| match error {
                OpenError::InUse(_) | OpenError::NotASocket(_) => {
                    refusal::conflict(error.to_string())
                }
                error => refusal::internal(error.to_string()),
            })?;
            socket.bound = Some(listener);
        }
        Ok(socket)
    }

    fn bind(&self) -> Result<Listener, OpenError> {
        let kind = self.kind;
        match &self.address {
            SocketAddress::Abstract(address) => {
                self.inside(address, move || Listener::bind(kind, address))
            }
            SocketAddress::Path { folder, name, .. } => {
                Listener::bind_in(kind, folder.as_fd(), name)
            }
        }
    }

    /// Listens, or hands out what listens already.
    pub(super) fn listener(&mut self) -> Result<Listener, OpenError> {
        match self.bound.take() {
            Some(listener) => Ok(listener),
            None => self.bind(),
        }
    }

    /// Connects to the pod.
    pub(super) fn connection(&mut self) -> Result<OwnedFd, OpenError> {
        let kind = self.kind;
        match &self.address {
            SocketAddress::Abstract(address) => {
                self.inside(address, move || connect(kind, address))
            }
            SocketAddress::Path { folder, name, .. } => {
                connect_in(kind, folder.as_fd(), Path::new(name))
            }
        }
    }

    /// Checks that a peer is in the pod's network namespace. Who reaches an abstract name is; a path can be
    /// reached from anywhere it is mounted.
    ///
    /// # Errors
    /// The reason why it is not admitted.
    pub(super) fn check_peer(&self, peer: PeerCred) -> Result<(), String> {
        let SocketAddress::Path { path, .. } = &self.address else {
            return Ok(());
        };
        match namespace_of(peer.pid) {
            Ok(id) if id == self.netns.id() => Ok(()),
            Ok(_) => Err(format!(
                "pid {} at {} is not in the attachment's network namespace",
                peer.pid,
                path.display()
            )),
            Err(error) => Err(format!(
                "the network namespace of pid {} at {} cannot be seen: {error}",
                peer.pid,
                path.display()
            )),
        }
    }

    /// Runs `work` in the pod's namespace.
    fn inside<T: Send>(
        &self,
        address: &Address,
        work: impl FnOnce() -> Result<T, OpenError> + Send,
    ) -> Result<T, OpenError> {
        self.netns.run(work).unwrap_or_else(|error| {
            let errno = match error {
                NetnsError::System { source, .. } => source,
                other => io::Error::other(other.to_string()),
            };
            Err(OpenError::Failed {
                what: "enter the pod's network namespace for",
                address: address.to_string(),
                errno,
            })
        })
    }
}

impl Opener for PodSocket {
    fn listen(&mut self) -> Result<sluice_memif::Listener, OpenError> {
        self.listener().map(sluice_memif::Listener::from)
    }

    fn connect(&mut self) -> Result<Channel, OpenError> {
        self.connection().map(Channel::new)
    }

    fn admit(&mut self, peer: PeerCred) -> Result<(), Refusal> {
        self.check_peer(peer).map_err(Refusal::NotAdmitted)
    }
}

/// Device and inode of a process's network namespace.
fn namespace_of(pid: u32) -> io::Result<(u64, u64)> {
    let metadata = std::fs::metadata(format!("/proc/{pid}/ns/net"))?;
    Ok((metadata.dev(), metadata.ino()))
}

/// Pins the folder of a path. Only its last part must be no link: those above it are the host's.
fn open_folder(path: &Path) -> Result<SocketAddress, ApiError> {
    let refused = |why: &dyn std::fmt::Display| {
        refusal::invalid(format!(
            "the socket's folder in {} cannot be opened: {why}; it must be a folder that is there, \
             and not a link",
            path.display()
        ))
    };
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(refused(&"a file in a folder must be named"));
    };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let folder = rustix::fs::open(parent, flags, Mode::empty()).map_err(|errno| refused(&errno))?;
    Ok(SocketAddress::Path {
        folder,
        name: name.to_owned(),
        path: path.to_owned(),
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    const KIND: SocketKind = SocketKind::SeqPacket;

    fn own_netns() -> Netns {
        Netns::open_path(Path::new("/proc/self/ns/net")).unwrap()
    }

    #[test]
    fn links_as_folders_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("folder");
        std::fs::create_dir(&folder).unwrap();
        symlink(&folder, dir.path().join("link")).unwrap();
        assert!(open_folder(&folder.join("s")).is_ok());
        for path in ["link/s", "none/s"] {
            let error = open_folder(&dir.path().join(path)).unwrap_err();
            assert_eq!(error.code, sluice_api::ErrorCode::Invalid, "{error}");
        }
    }

    #[test]
    fn a_path_is_bound_at_once_and_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("memif.sock");
        let socket = MemifSocket::Path(path.clone());
        let mut first = PodSocket::prepare(KIND, &own_netns(), &socket, MemifRole::Server).unwrap();
        assert!(path.exists());
        let taken = PodSocket::prepare(KIND, &own_netns(), &socket, MemifRole::Server).unwrap_err();
        assert_eq!(taken.code, sluice_api::ErrorCode::Conflict, "{taken}");
        let listener = first.listen().unwrap();
        let mut client =
            PodSocket::prepare(KIND, &own_netns(), &socket, MemifRole::Client).unwrap();
        let channel = client.connect().unwrap();
        client.admit(channel.peer().unwrap()).unwrap();
        let accepted = listener.accept().unwrap().unwrap();
        first.admit(accepted.peer().unwrap()).unwrap();
    }

    #[test]
    fn peers_of_other_namespaces_are_not_admitted() {
        let dir = tempfile::tempdir().unwrap();
        let socket = MemifSocket::Path(dir.path().join("s"));
        // Any namespace but that of this process's network will do.
        let other = Netns::open_path(Path::new("/proc/self/ns/mnt")).unwrap();
        let mut socket = PodSocket::prepare(KIND, &other, &socket, MemifRole::Client).unwrap();
        let own = PeerCred {
            pid: std::process::id(),
            uid: 0,
            gid: 0,
        };
        assert!(
            socket
                .admit(own)
                .unwrap_err()
                .to_string()
                .contains("not in the attachment's")
        );
        let hidden = PeerCred { pid: 0, ..own };
        assert!(
            socket
                .admit(hidden)
                .unwrap_err()
                .to_string()
                .contains("cannot be seen")
        );
    }
}
