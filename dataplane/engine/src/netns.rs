//! Network namespaces of pods: opened by path, held against what the request said they are, and
//! entered by threads that end there.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::OFlags;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use sluice_api::NetnsRef;

/// The file system that namespace files are on (`NSFS_MAGIC`, linux/magic.h).
const NSFS_MAGIC: i64 = 0x6e73_6673;

/// Why a network namespace cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum NetnsError {
    /// The path leads nowhere.
    #[error("there is no network namespace at {}: its pod is gone", path.display())]
    Gone {
        /// The path.
        path: PathBuf,
    },
    /// The path leads to another namespace than it did when the request was made.
    #[error(
        "{} is not the network namespace that was asked for (it is {}:{}, not {}:{}): it was \
         replaced meanwhile; ask again", asked.path.display(), found.0, found.1, asked.dev, asked.ino
    )]
    Other {
        /// What was asked for.
        asked: NetnsRef,
        /// Device and inode of what is there.
        found: (u64, u64),
    },
    /// It is no network namespace.
    #[error("{} is not a network namespace: give the path of a namespace file", path.display())]
    NotOne {
        /// The path.
        path: PathBuf,
    },
    /// It is the engine's own.
    #[error("{} is the engine's own network namespace: a pod needs one of its own", path.display())]
    Own {
        /// The path.
        path: PathBuf,
    },
    /// A system call failed.
    #[error("{what} {}: {source}", path.display())]
    System {
        /// What was tried.
        what: &'static str,
        /// The path.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
}

/// An open network namespace. It lives on while this does, even when its pod is gone.
#[derive(Debug, Clone)]
pub struct Netns {
    file: Arc<File>,
    path: PathBuf,
    id: (u64, u64),
}

impl Netns {
    /// Opens the namespace that a request names and makes sure that it is that one.
    ///
    /// # Errors
    /// It is gone, another one, none at all, or the engine's own.
    pub fn open(asked: &NetnsRef) -> Result<Netns, NetnsError> {
        let netns = Netns::open_path(&asked.path)?;
        if netns.id != (asked.dev, asked.ino) {
            return Err(NetnsError::Other {
                asked: asked.clone(),
                found: netns.id,
            });
        }
        let own = std::fs::metadata("/proc/thread-self/ns/net")
            .map_err(netns.system("cannot look at the engine's namespace beside"))?;
        if netns.id == (own.dev(), own.ino()) {
            return Err(NetnsError::Own { path: netns.path });
        }
        Ok(netns)
    }

    /// Opens the namespace at `path`, whichever it is.
    ///
    /// # Errors
    /// There is none.
    pub fn open_path(path: &Path) -> Result<Netns, NetnsError> {
        let system = |what| {
            move |source| NetnsError::System {
                what,
                path: path.to_owned(),
                source,
            }
        };
        // O_NONBLOCK: the path may lead to a fifo.
        let flags = (OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY)
            .bits()
            .cast_signed();
        let file = std::fs::OpenOptions::new()
            .read(true)
            .custom_flags(flags)
            .open(path)
            .map_err(|source| match source.kind() {
                io::ErrorKind::NotFound => NetnsError::Gone {
                    path: path.to_owned(),
                },
                _ => system("cannot open")(source),
            })?;
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

    /// The path it was opened by.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its device and inode.
    pub fn id(&self) -> (u64, u64) {
        self.id
    }

    /// Runs `work` on a thread inside this namespace and waits for it.
    ///
    /// # Errors
    /// The namespace cannot be entered. What `work` failed at is in the result within.
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

    fn system(&self, what: &'static str) -> impl Fn(io::Error) -> NetnsError + use<> {
        let path = self.path.clone();
        move |source| NetnsError::System {
            what,
            path: path.clone(),
            source,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_namespace_is_refused() {
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
    fn the_engines_own_and_others_are_refused() {
        let path = PathBuf::from("/proc/self/ns/net");
        let (dev, ino) = Netns::open_path(&path).unwrap().id();
        let own = Netns::open(&NetnsRef {
            path: path.clone(),
            dev,
            ino,
        })
        .unwrap_err();
        assert!(matches!(own, NetnsError::Own { .. }), "{own}");
        let other = Netns::open(&NetnsRef {
            path,
            dev,
            ino: ino + 1,
        })
        .unwrap_err();
        assert!(matches!(other, NetnsError::Other { .. }), "{other}");
    }
}
