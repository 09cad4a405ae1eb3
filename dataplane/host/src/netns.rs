// SPDX-License-Identifier: Apache-2.0
//! Network namespaces: their identity, opening them, and running code inside.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::OFlags;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde::{Deserialize, Serialize};

use crate::FileError;

/// Magic number of the file system that namespace files are on (`NSFS_MAGIC`, linux/magic.h).
const NSFS_MAGIC: i64 = 0x6e73_6673;
/// File of the calling thread's own network namespace.
const OWN: &str = "/proc/thread-self/ns/net";

/// Identity of a network namespace: a path, and the device and inode that the path led to when the
/// reference was made. The path alone may lead to another namespace later.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetnsRef {
    /// Absolute path, as in `/var/run/netns/cni-0f...`.
    pub path: PathBuf,
    /// Device of the namespace's file (`st_dev`).
    pub dev: u64,
    /// Inode of the namespace's file (`st_ino`), the same for every path to one namespace.
    pub ino: u64,
}

impl NetnsRef {
    /// Returns the identity of what is at `path`, which is not opened.
    ///
    /// # Errors
    /// [`FileError`]: nothing is there.
    pub fn of(path: &Path) -> Result<NetnsRef, FileError> {
        let meta = fs::metadata(path).map_err(FileError::at("look at network namespace", path))?;
        Ok(NetnsRef {
            path: path.to_owned(),
            dev: meta.dev(),
            ino: meta.ino(),
        })
    }

    /// Returns the identity of the calling thread's own namespace.
    ///
    /// # Errors
    /// [`FileError`]: `/proc` is not mounted.
    pub fn own() -> Result<NetnsRef, FileError> {
        NetnsRef::of(Path::new(OWN))
    }

    /// Whether both are one namespace, by whichever path.
    pub fn is_same(&self, other: &NetnsRef) -> bool {
        (self.dev, self.ino) == (other.dev, other.ino)
    }
}

/// Identity of a network namespace for records that outlive calls, pods and reboots.
///
/// The kernel gives the inode number of a dead namespace to the next one (`proc_alloc_inum`), so
/// device and inode alone take a new pod at an old path for the old one. Two facts tell them apart:
/// the boot, and the moment at which the namespace's file came to be, which stays the same for as
/// long as a mount pins it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetnsIdentity {
    /// Absolute path, as in `/var/run/netns/cni-0f...`.
    pub path: PathBuf,
    /// Device of the namespace's file (`st_dev`).
    pub dev: u64,
    /// Inode of the namespace's file (`st_ino`).
    pub ino: u64,
    /// Moment at which the file came to be (`st_ctime`), in ns since 1970. Absent where the path is
    /// a link as in `/proc/PID/ns/net`: nothing pins that file, and it is made anew now and then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ctime_ns: Option<i64>,
    /// UUID of the boot.
    pub boot_id: String,
}

impl NetnsIdentity {
    /// Returns the identity of what is at `path` now.
    ///
    /// # Errors
    /// [`FileError`]: nothing is there, or `/proc` cannot be read.
    pub fn of(path: &Path) -> Result<NetnsIdentity, FileError> {
        let look = FileError::at("look at network namespace", path);
        let meta = fs::metadata(path).map_err(look)?;
        let pinned = fs::symlink_metadata(path).is_ok_and(|link| !link.is_symlink());
        let ctime = meta
            .ctime()
            .checked_mul(1_000_000_000)
            .and_then(|ns| ns.checked_add(meta.ctime_nsec()));
        Ok(NetnsIdentity {
            path: path.to_owned(),
            dev: meta.dev(),
            ino: meta.ino(),
            ctime_ns: ctime.filter(|_| pinned),
            boot_id: crate::boot_id()?,
        })
    }

    /// Whether both are one namespace of one boot, by whichever path.
    pub fn is_same(&self, other: &NetnsIdentity) -> bool {
        let at_once = match (self.ctime_ns, other.ctime_ns) {
            (Some(ours), Some(theirs)) => ours == theirs,
            _ => true,
        };
        (self.dev, self.ino) == (other.dev, other.ino) && self.boot_id == other.boot_id && at_once
    }

    /// Whether `path` leads to this namespace. Nothing there, or something else: no.
    ///
    /// # Errors
    /// [`FileError`]: it cannot be told, so nothing may be concluded.
    pub fn is_at(&self, path: &Path) -> Result<bool, FileError> {
        match NetnsIdentity::of(path) {
            Ok(there) => Ok(self.is_same(&there)),
            Err(error)
                if matches!(
                    error.source.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                ) =>
            {
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// Whether the namespace is still at the path at which it was recorded.
    ///
    /// # Errors
    /// As [`NetnsIdentity::is_at`].
    pub fn is_there(&self) -> Result<bool, FileError> {
        self.is_at(&self.path)
    }
}

/// Reason why a network namespace cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum NetnsError {
    /// Path leads nowhere.
    #[error(
        "there is no network namespace at {}: its pod is gone, or this process does not see it (a \
         container needs /run/netns mounted with `mountPropagation: HostToContainer`, and /var/run linked \
         to /run in its image)", path.display()
    )]
    Gone {
        /// Path asked for.
        path: PathBuf,
    },
    /// Path leads to another namespace than when the request was made.
    #[error(
        "{} is not the network namespace that was asked for (it is {}:{}, not {}:{}): it was \
         replaced meanwhile; ask again", asked.path.display(), found.0, found.1, asked.dev, asked.ino
    )]
    Other {
        /// Namespace asked for.
        asked: NetnsRef,
        /// Device and inode found.
        found: (u64, u64),
    },
    /// File is not a network namespace.
    #[error(
        "{} is not a network namespace: give the path of a namespace file; if it is one on the host, this \
         container's mount of its folder lacks `mountPropagation: HostToContainer`", path.display()
    )]
    NotOne {
        /// Path asked for.
        path: PathBuf,
    },
    /// Namespace is the one that this process runs in.
    #[error("{} is the engine's own network namespace: a pod needs one of its own", path.display())]
    Own {
        /// Path asked for.
        path: PathBuf,
    },
    /// System call failed.
    #[error("{action} {}: {source}", path.display())]
    System {
        /// Step that failed.
        action: &'static str,
        /// Path asked for.
        path: PathBuf,
        /// Answer of the kernel.
        source: io::Error,
    },
}

/// Open network namespace. It lives on while this does, even when its pod is gone.
#[derive(Debug, Clone)]
pub struct Netns {
    file: Arc<File>,
    path: PathBuf,
    id: (u64, u64),
}

impl Netns {
    /// Opens the namespace that a request names, and verifies its identity.
    ///
    /// # Errors
    /// [`NetnsError`]: it is gone, another one, none at all, or this process's own.
    pub fn open(asked: &NetnsRef) -> Result<Netns, NetnsError> {
        Netns::open_path(&asked.path)?.verify(asked)
    }

    /// Takes a namespace that somebody else has opened, and verifies its identity as [`Netns::open`] does. Its
    /// path need lead nowhere here.
    ///
    /// # Errors
    /// [`NetnsError`]: it is another one, none at all, or this process's own.
    pub fn from_fd(fd: OwnedFd, asked: &NetnsRef) -> Result<Netns, NetnsError> {
        Netns::of_file(File::from(fd), &asked.path)?.verify(asked)
    }

    /// Whether its path leads to it, as this process sees that path.
    pub fn is_at_its_path(&self) -> bool {
        NetnsRef::of(&self.path).is_ok_and(|there| (there.dev, there.ino) == self.id)
    }

    fn verify(self, asked: &NetnsRef) -> Result<Netns, NetnsError> {
        let netns = self;
        if netns.id != (asked.dev, asked.ino) {
            return Err(NetnsError::Other {
                asked: asked.clone(),
                found: netns.id,
            });
        }
        let own = fs::metadata(OWN).map_err(netns.system("cannot look at own namespace beside"))?;
        if netns.id == (own.dev(), own.ino()) {
            return Err(NetnsError::Own { path: netns.path });
        }
        Ok(netns)
    }

    /// Opens the namespace at `path`, whichever it is.
    ///
    /// # Errors
    /// [`NetnsError`]: there is none.
    pub fn open_path(path: &Path) -> Result<Netns, NetnsError> {
        let system = |action| {
            move |source| NetnsError::System {
                action,
                path: path.to_owned(),
                source,
            }
        };
        // O_NONBLOCK: the path may lead to a fifo.
        let flags = (OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY)
            .bits()
            .cast_signed();
        let file = fs::OpenOptions::new()
            .read(true)
            .custom_flags(flags)
            .open(path)
            .map_err(|source| match source.kind() {
                io::ErrorKind::NotFound => NetnsError::Gone {
                    path: path.to_owned(),
                },
                _ => system("cannot open")(source),
            })?;
        Netns::of_file(file, path)
    }

    /// Takes an open file, which may be anything.
    fn of_file(file: File, path: &Path) -> Result<Netns, NetnsError> {
        let system = |action| {
            move |source| NetnsError::System {
                action,
                path: path.to_owned(),
                source,
            }
        };
        let kind =
            rustix::fs::fstatfs(&file).map_err(|errno| system("cannot look at")(errno.into()))?;
        if kind.f_type != NSFS_MAGIC {
            return Err(NetnsError::NotOne {
                path: path.to_owned(),
            });
        }
        let metadata = file.metadata().map_err(system("cannot look at"))?;
        let id = (metadata.dev(), metadata.ino());
        Ok(Netns {
            file: Arc::new(file),
            path: path.to_owned(),
            id,
        })
    }

    /// Path it was opened by.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Device and inode of its file.
    pub fn id(&self) -> (u64, u64) {
        self.id
    }

    /// Runs `work` on a thread inside this namespace and waits for it. The thread ends there, so
    /// the caller stays where it is.
    ///
    /// # Errors
    /// [`NetnsError`]: the namespace cannot be entered. Failures of `work` are in the result
    /// within.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T, NetnsError> {
        std::thread::scope(|scope| {
            let thread = std::thread::Builder::new()
                .name("netns".to_owned())
                .spawn_scoped(scope, || {
                    move_into_link_name_space(self.file.as_fd(), Some(LinkNameSpaceType::Network))
                        .map_err(|errno| match errno {
                            rustix::io::Errno::INVAL => NetnsError::NotOne {
                                path: self.path.clone(),
                            },
                            _ => self.system("cannot enter")(errno.into()),
                        })?;
                    Ok(work())
                })
                .map_err(self.system("no thread to enter"))?;
            thread
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    fn system(&self, action: &'static str) -> impl Fn(io::Error) -> NetnsError + use<> {
        let path = self.path.clone();
        move |source| NetnsError::System {
            action,
            path: path.clone(),
            source,
        }
    }
}

impl AsFd for Netns {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_is_not_a_network_namespace_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let gone = Netns::open_path(&dir.path().join("none")).unwrap_err();
        assert!(matches!(gone, NetnsError::Gone { .. }), "{gone}");
        for path in [
            Path::new("/etc/hostname"),
            dir.path(),
            Path::new("/dev/null"),
        ] {
            let error = Netns::open_path(path).unwrap_err();
            assert!(matches!(error, NetnsError::NotOne { .. }), "{error}");
        }
        // A namespace, but not of a network.
        let user = Netns::open_path(Path::new("/proc/self/ns/user")).unwrap();
        if rustix::process::geteuid().is_root() {
            let error = user.run(|| ()).unwrap_err();
            assert!(matches!(error, NetnsError::NotOne { .. }), "{error}");
        }
    }

    #[test]
    fn an_identity_is_of_one_boot_and_one_namespace() {
        let own = NetnsIdentity::of(Path::new("/proc/self/ns/net")).unwrap();
        assert!(own.is_there().unwrap() && own.is_at(Path::new(OWN)).unwrap());
        assert_eq!(own.ctime_ns, None, "nothing pins it");
        let rebooted = NetnsIdentity {
            boot_id: "another".into(),
            ..own.clone()
        };
        assert!(!rebooted.is_there().unwrap());
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("netns");
        assert!(!own.is_at(&path).unwrap(), "nothing there");
        std::fs::write(&path, "").unwrap();
        assert!(!own.is_at(&path).unwrap(), "an empty plain file");
        let file = NetnsIdentity::of(&path).unwrap();
        let later = NetnsIdentity {
            ctime_ns: file.ctime_ns.map(|ns| ns + 1),
            ..file.clone()
        };
        assert!(file.is_there().unwrap() && !later.is_there().unwrap());
        assert!(!own.is_at(&path.join("below")).unwrap());
    }

    #[test]
    fn the_own_namespace_and_a_replaced_one_are_refused() {
        let asked = NetnsRef::of(Path::new("/proc/self/ns/net")).unwrap();
        assert!(asked.is_same(&NetnsRef::own().unwrap()));
        let own = Netns::open(&asked).unwrap_err();
        assert!(matches!(own, NetnsError::Own { .. }), "{own}");
        let ino = asked.ino + 1;
        let other = Netns::open(&NetnsRef { ino, ..asked }).unwrap_err();
        assert!(matches!(other, NetnsError::Other { .. }), "{other}");
    }
}
