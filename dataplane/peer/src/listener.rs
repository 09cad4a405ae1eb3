// SPDX-License-Identifier: Apache-2.0
//! Opening control sockets: listening and connecting, by abstract name and by path.
//!
//! Paths are used through a file descriptor of their directory and `/proc/self/fd`, which lifts the
//! 108-byte limit of socket addresses and lets a caller pin the directory
//! ([`Listener::bind_in`], [`connect_in`]) so that a name cannot lead out of it.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use crate::address::Address;

/// Handshakes that may wait to be accepted.
const BACKLOG: i32 = 16;

/// Reason why a control socket could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Address on which somebody listens.
    #[error("{0} is in use: end the process that listens there, or use another name")]
    InUse(String),
    /// Address on which nobody listens (yet).
    #[error("nobody listens on {0} (yet): start the server, or check the name and the namespace")]
    Nobody(String),
    /// File that is not a socket, at the path; it is left alone.
    #[error("{0} exists and is not a socket: remove it, or use another path")]
    NotASocket(String),
    /// Failure before the socket was reached.
    #[error("{0}")]
    Other(String),
    /// Any other error.
    #[error("cannot {what} {address}: {errno}")]
    Failed {
        /// Operation that failed, as a verb.
        what: &'static str,
        /// Address of the socket.
        address: String,
        /// Error of the operating system.
        errno: std::io::Error,
    },
}

impl OpenError {
    fn new(what: &'static str, address: &dyn ToString, errno: Errno) -> OpenError {
        let address = address.to_string();
        match errno {
            Errno::ADDRINUSE => OpenError::InUse(address),
            Errno::CONNREFUSED | Errno::NOENT if what == "connect to" => OpenError::Nobody(address),
            errno => OpenError::Failed {
                what,
                address,
                errno: errno.into(),
            },
        }
    }
}

/// Kind of a control socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SocketKind {
    /// Messages whose bounds are kept (SOCK_SEQPACKET), as memif has.
    SeqPacket,
    /// Bytes (SOCK_STREAM), as vhost-user has.
    Stream,
}

/// A listening control socket. Dropping it closes it and removes its path.
#[derive(Debug)]
pub struct Listener {
    socket: OwnedFd,
    /// Removes the path when the listener goes.
    _path: Option<OwnPath>,
}

impl Listener {
    /// Listens at `address`; an abstract name belongs to the network namespace that the calling
    /// thread is in.
    ///
    /// A path is first bound under a temporary name and renamed when it listens: whoever sees it
    /// can connect, and what a crashed process left there is replaced. Anyone may connect to it as
    /// far as its directory lets them.
    ///
    /// # Errors
    /// Somebody listens there, something else is there, or the directory cannot be used.
    pub fn bind(kind: SocketKind, address: &Address) -> Result<Listener, OpenError> {
        match address {
            Address::Abstract(name) => {
                let failed = |errno| OpenError::new("listen on", address, errno);
                let socket = new_socket(kind).map_err(failed)?;
                let unix = SocketAddrUnix::new_abstract_name(name.as_bytes()).map_err(failed)?;
                rustix::net::bind(&socket, &unix).map_err(failed)?;
                rustix::net::listen(&socket, BACKLOG).map_err(failed)?;
                Ok(Listener {
                    socket,
                    _path: None,
                })
            }
            Address::Path(path) => {
                let (directory, name) = split(path)
                    .map_err(|errno| OpenError::new("open the folder of", address, errno))?;
                Listener::bind_at(kind, directory, name, &path.display())
            }
        }
    }

    /// Listens at `name` in an open directory.
    ///
    /// # Errors
    /// As [`Listener::bind`]; also if `name` is more than one path component.
    pub fn bind_in(
        kind: SocketKind,
        directory: BorrowedFd<'_>,
        name: &OsStr,
    ) -> Result<Listener, OpenError> {
        let shown = Path::new(name).display();
        let directory = single(name)
            .and_then(|()| directory.try_clone_to_owned().map_err(|_| Errno::MFILE))
            .map_err(|errno| OpenError::new("listen on", &shown, errno))?;
        Listener::bind_at(kind, directory, name.to_owned(), &shown)
    }

    fn bind_at(
        kind: SocketKind,
        directory: OwnedFd,
        name: OsString,
        shown: &dyn ToString,
    ) -> Result<Listener, OpenError> {
        let failed = |errno| OpenError::new("listen on", shown, errno);
        match rustix::fs::statat(&directory, &name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) != FileType::Socket => {
                return Err(OpenError::NotASocket(shown.to_string()));
            }
            Ok(_) => match connect_at(kind, directory.as_fd(), &name) {
                // Nobody answers: a crashed process left it, the rename replaces it.
                Err(Errno::CONNREFUSED | Errno::NOENT) => {}
                // Somebody does, or is there and speaks something else.
                Ok(_) | Err(_) => return Err(OpenError::InUse(shown.to_string())),
            },
            Err(Errno::NOENT) => {}
            Err(errno) => return Err(failed(errno)),
        }
        static SERIAL: AtomicU32 = AtomicU32::new(0);
        let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
        let temporary = format!(".sluice-{}-{serial}", std::process::id());
        let socket = new_socket(kind).map_err(failed)?;
        let unix = SocketAddrUnix::new(through(directory.as_fd(), OsStr::new(&temporary)))
            .map_err(failed)?;
        // What an earlier process of our pid left; nobody can listen under our own pid's name.
        let _ = rustix::fs::unlinkat(&directory, &temporary, AtFlags::empty());
        rustix::net::bind(&socket, &unix).map_err(failed)?;
        let made = rustix::net::listen(&socket, BACKLOG)
            .and_then(|()| open_to_all(directory.as_fd(), &temporary))
            .and_then(|stat| {
                rustix::fs::renameat(&directory, &temporary, &directory, &name)?;
                Ok(stat)
            });
        match made {
            Ok(stat) => {
                let path = OwnPath {
                    directory,
                    name,
                    device: stat.st_dev,
                    inode: stat.st_ino,
                };
                Ok(Listener {
                    socket,
                    _path: Some(path),
                })
            }
            Err(errno) => {
                let _ = rustix::fs::unlinkat(&directory, &temporary, AtFlags::empty());
                Err(failed(errno))
            }
        }
    }

    /// Accepts the next waiting connection, if there is one: a socket that does not block.
    ///
    /// # Errors
    /// No fd left, or the socket failed.
    pub fn accept(&self) -> std::io::Result<Option<OwnedFd>> {
        loop {
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            match rustix::net::accept_with(&self.socket, flags) {
                Ok(socket) => return Ok(Some(socket)),
                Err(Errno::AGAIN) => return Ok(None),
                Err(Errno::INTR | Errno::CONNABORTED) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// The path of a listener, as long as it is still the listener's.
#[derive(Debug)]
struct OwnPath {
    directory: OwnedFd,
    name: OsString,
    device: u64,
    inode: u64,
}

impl Drop for OwnPath {
    fn drop(&mut self) {
        let stat = rustix::fs::statat(&self.directory, &self.name, AtFlags::SYMLINK_NOFOLLOW);
        if stat.is_ok_and(|stat| stat.st_dev == self.device && stat.st_ino == self.inode) {
            let _ = rustix::fs::unlinkat(&self.directory, &self.name, AtFlags::empty());
        }
    }
}

/// Connects to a listening control socket; an abstract name is looked up in the network namespace
/// that the calling thread is in.
///
/// # Errors
/// [`OpenError::Nobody`] if nobody listens there, else the failure.
pub fn connect(kind: SocketKind, address: &Address) -> Result<OwnedFd, OpenError> {
    let failed = |errno| OpenError::new("connect to", address, errno);
    match address {
        Address::Abstract(name) => {
            let socket = new_socket(kind).map_err(failed)?;
            let unix = SocketAddrUnix::new_abstract_name(name.as_bytes()).map_err(failed)?;
            rustix::net::connect(&socket, &unix).map_err(failed)?;
            Ok(socket)
        }
        Address::Path(path) => {
            let (directory, name) = split(path).map_err(failed)?;
            connect_at(kind, directory.as_fd(), &name).map_err(failed)
        }
    }
}

/// Connects to the socket at `path` below an open directory. Neither `..` nor a symbolic link may
/// lead out of it or be part of the path: for folders that a pod can write to.
///
/// # Errors
/// As [`connect`]; also if the path does not stay below the directory.
pub fn connect_in(
    kind: SocketKind,
    directory: BorrowedFd<'_>,
    path: &Path,
) -> Result<OwnedFd, OpenError> {
    let failed = |errno| OpenError::new("connect to", &path.display(), errno);
    let found = rustix::fs::openat2(
        directory,
        path,
        OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::empty(),
        ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS,
    )
    .map_err(failed)?;
    connect_to_fd(kind, found.as_fd()).map_err(failed)
}

fn new_socket(kind: SocketKind) -> Result<OwnedFd, Errno> {
    rustix::net::socket_with(
        AddressFamily::UNIX,
        match kind {
            SocketKind::SeqPacket => SocketType::SEQPACKET,
            SocketKind::Stream => SocketType::STREAM,
        },
        SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
        None,
    )
}

/// Lets anyone connect to the socket just bound at `name`, as far as its folder lets them. If the
/// folder is a pod's to write, what is there by now may be something else: then this fails, and
/// follows no link.
fn open_to_all(directory: BorrowedFd<'_>, name: &str) -> Result<Stat, Errno> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let bound = rustix::fs::openat(directory, name, flags, Mode::empty())?;
    let stat = rustix::fs::fstat(&bound)?;
    let ours = FileType::from_raw_mode(stat.st_mode) == FileType::Socket
        && stat.st_uid == rustix::process::geteuid().as_raw()
        && stat.st_nlink == 1;
    if !ours {
        return Err(Errno::STALE);
    }
    let mode = Mode::RUSR | Mode::WUSR | Mode::RGRP | Mode::WGRP | Mode::ROTH | Mode::WOTH;
    rustix::fs::chmod(format!("/proc/self/fd/{}", bound.as_raw_fd()), mode)?;
    Ok(stat)
}

/// The folder of `path`, opened, and the name in it.
fn split(path: &Path) -> Result<(OwnedFd, OsString), Errno> {
    let name = path.file_name().ok_or(Errno::INVAL)?;
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = rustix::fs::open(folder, flags, Mode::empty())?;
    Ok((directory, name.to_owned()))
}

fn single(name: &OsStr) -> Result<(), Errno> {
    let mut components = Path::new(name).components();
    match (components.next(), components.next()) {
        (Some(std::path::Component::Normal(first)), None) if first == name => Ok(()),
        _ => Err(Errno::INVAL),
    }
}

fn through(directory: BorrowedFd<'_>, name: &OsStr) -> PathBuf {
    Path::new("/proc/self/fd")
        .join(directory.as_raw_fd().to_string())
        .join(name)
}

fn connect_at(kind: SocketKind, directory: BorrowedFd<'_>, name: &OsStr) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let found = rustix::fs::openat(directory, name, flags, Mode::empty())?;
    connect_to_fd(kind, found.as_fd())
}

fn connect_to_fd(kind: SocketKind, found: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    let socket = new_socket(kind)?;
    let unix = SocketAddrUnix::new(format!("/proc/self/fd/{}", found.as_raw_fd()))?;
    rustix::net::connect(&socket, &unix)?;
    Ok(socket)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::net::UnixListener;

    const KIND: SocketKind = SocketKind::SeqPacket;

    fn talk(listener: &Listener, client: &OwnedFd) {
        // An attempt to bind the same path asked whether somebody listens and left again.
        let server = std::iter::from_fn(|| listener.accept().unwrap())
            .find(|server| rustix::io::write(server, &[7]).is_ok())
            .unwrap();
        let mut bytes = [0; 2];
        assert_eq!(rustix::io::read(client, &mut bytes), Ok(1));
        assert_eq!(bytes[0], 7);
        let peer = crate::PeerCred::of(server.as_fd()).unwrap();
        assert_eq!(peer.pid, std::process::id());
    }

    #[test]
    fn abstract_names_serve_one_listener() {
        let address = Address::Abstract(format!("sluice-peer-test/{}", std::process::id()));
        assert!(matches!(connect(KIND, &address), Err(OpenError::Nobody(_))));
        let listener = Listener::bind(KIND, &address).unwrap();
        assert!(matches!(
            Listener::bind(KIND, &address),
            Err(OpenError::InUse(_))
        ));
        assert!(listener.accept().unwrap().is_none());
        talk(&listener, &connect(KIND, &address).unwrap());
        drop(listener);
        assert!(Listener::bind(KIND, &address).is_ok());
    }

    #[test]
    fn paths_appear_listening_and_go_with_the_listener() {
        let folder = tempfile::tempdir().unwrap();
        let deep = folder.path().join("x".repeat(120));
        std::fs::create_dir(&deep).unwrap();
        let address = Address::Path(deep.join("s"));
        assert!(matches!(connect(KIND, &address), Err(OpenError::Nobody(_))));
        let listener = Listener::bind(KIND, &address).unwrap();
        assert!(matches!(
            Listener::bind(KIND, &address),
            Err(OpenError::InUse(_))
        ));
        talk(&listener, &connect(KIND, &address).unwrap());
        drop(listener);
        assert_eq!(std::fs::read_dir(&deep).unwrap().count(), 0);
    }

    #[test]
    fn stale_sockets_are_replaced_and_other_files_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        let address = Address::Path(path.clone());
        let listener = Listener::bind(KIND, &address).unwrap();
        talk(&listener, &connect(KIND, &address).unwrap());

        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o666, "a pod need not run as root");

        // Replaced under us: what is there now is not ours to remove.
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "precious").unwrap();
        drop(listener);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
        assert!(matches!(
            Listener::bind(KIND, &address),
            Err(OpenError::NotASocket(_))
        ));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
    }

    #[test]
    fn a_live_socket_of_another_kind_is_in_use() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let stream = UnixListener::bind(&path).unwrap();
        let address = Address::Path(path);
        assert!(matches!(
            Listener::bind(KIND, &address),
            Err(OpenError::InUse(_))
        ));
        drop(stream);
        assert!(Listener::bind(KIND, &address).is_ok());
    }

    #[test]
    fn only_a_socket_of_ours_is_opened_to_all() {
        let folder = tempfile::tempdir().unwrap();
        let pinned = rustix::fs::open(folder.path(), OFlags::PATH, Mode::empty()).unwrap();
        let path = |name| folder.path().join(name);
        std::fs::write(path("file"), "").unwrap();
        std::os::unix::fs::symlink("file", path("link")).unwrap();
        let _socket = UnixListener::bind(path("socket")).unwrap();
        std::fs::hard_link(path("socket"), path("twice")).unwrap();
        for name in ["file", "link", "twice", "none"] {
            assert!(open_to_all(pinned.as_fd(), name).is_err(), "{name}");
        }
        std::fs::remove_file(path("twice")).unwrap();
        assert!(open_to_all(pinned.as_fd(), "socket").is_ok());
    }

    #[test]
    fn nothing_leads_out_of_a_pinned_folder() {
        let folder = tempfile::tempdir().unwrap();
        let inside = folder.path().join("inside");
        std::fs::create_dir(&inside).unwrap();
        let outside = Listener::bind(KIND, &Address::Path(folder.path().join("s"))).unwrap();
        std::os::unix::fs::symlink("../s", inside.join("link")).unwrap();
        let pinned = rustix::fs::open(&inside, OFlags::PATH, Mode::empty()).unwrap();
        assert!(connect_in(KIND, pinned.as_fd(), Path::new("../s")).is_err());
        assert!(connect_in(KIND, pinned.as_fd(), Path::new("link")).is_err());
        assert!(Listener::bind_in(KIND, pinned.as_fd(), OsStr::new("../t")).is_err());
        assert!(Listener::bind_in(KIND, pinned.as_fd(), OsStr::new("..")).is_err());
        let listener = Listener::bind_in(KIND, pinned.as_fd(), OsStr::new("own")).unwrap();
        talk(
            &listener,
            &connect_in(KIND, pinned.as_fd(), Path::new("own")).unwrap(),
        );
        assert!(outside.accept().unwrap().is_none());
    }
}
