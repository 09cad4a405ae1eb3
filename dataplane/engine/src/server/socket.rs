// SPDX-License-Identifier: Apache-2.0
//! The control socket's file: a folder that is root's alone, and nobody else who listens there.

use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

/// Failure to open the control socket.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Folder of the socket is accessible to others than its owner.
    #[error(
        "{} is open to others than root (mode {mode:o}, uid {uid}): the control socket needs a \
         folder of its own with mode 0700; name another `socket`, or set its mode", path.display()
    )]
    Open {
        /// Path of the folder.
        path: PathBuf,
        /// Mode of the folder.
        mode: u32,
        /// User id of its owner.
        uid: u32,
    },
    /// Process that does not hold the engine's lock listens there.
    #[error("somebody listens on {} already: end that process, or name another `socket`", path.display())]
    InUse {
        /// Path of the socket.
        path: PathBuf,
    },
    /// File that is not a socket is in the way.
    #[error("{} is there and is no socket: remove it, or name another `socket`", path.display())]
    NotASocket {
        /// Path of the file.
        path: PathBuf,
    },
    /// Error of the file system.
    #[error("cannot {what} {}: {source}", path.display())]
    System {
        /// Step that failed.
        what: &'static str,
        /// Path of the file or folder.
        path: PathBuf,
        /// Error of the file system.
        source: io::Error,
    },
}

/// Listens on `path`, in a folder that is root's alone. What a dead engine left there is replaced;
/// the engine's lock must be held.
///
/// # Errors
/// The folder is not private, somebody listens already, or the file system says no.
pub fn bind(path: &Path) -> Result<std::os::unix::net::UnixListener, SocketError> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    make_private(folder)?;
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(system("look at", path)(error)),
        Ok(found) => {
            use std::os::unix::fs::FileTypeExt;

            if !found.file_type().is_socket() {
                return Err(SocketError::NotASocket {
                    path: path.to_owned(),
                });
            }
            if std::os::unix::net::UnixStream::connect(path).is_ok() {
                return Err(SocketError::InUse {
                    path: path.to_owned(),
                });
            }
            tracing::info!("replacing {}, which a dead engine left", path.display());
            std::fs::remove_file(path).map_err(system("remove", path))?;
        }
    }
    let listener =
        std::os::unix::net::UnixListener::bind(path).map_err(system("listen on", path))?;
    listener
        .set_nonblocking(true)
        .map_err(system("listen on", path))?;
    Ok(listener)
}

fn make_private(folder: &Path) -> Result<(), SocketError> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(system("make the folder", folder))?;
    let found = std::fs::symlink_metadata(folder).map_err(system("look at", folder))?;
    let (mode, uid) = (found.mode() & 0o7777, found.uid());
    let ours = rustix::process::geteuid().as_raw();
    if !found.is_dir() || mode & 0o077 != 0 || uid != ours {
        return Err(SocketError::Open {
            path: folder.to_owned(),
            mode,
            uid,
        });
    }
    Ok(())
}

fn system(what: &'static str, path: &Path) -> impl Fn(io::Error) -> SocketError {
    let path = path.to_owned();
    move |source| SocketError::System {
        what,
        path: path.clone(),
        source,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn the_socket_lies_in_a_private_folder() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("control/s");
        drop(bind(&path).unwrap());
        assert_eq!(
            dir.path().join("control").metadata().unwrap().mode() & 0o777,
            0o700
        );
        // Left by a listener that died: replaced.
        let listener = bind(&path).unwrap();
        assert!(matches!(bind(&path), Err(SocketError::InUse { .. })));
        drop(listener);

        let open = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(dir.path().join("control"), open).unwrap();
        assert!(matches!(
            bind(&path),
            Err(SocketError::Open { mode: 0o755, .. })
        ));
        let private = std::fs::Permissions::from_mode(0o700);
        std::fs::set_permissions(dir.path().join("control"), private).unwrap();
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "precious").unwrap();
        assert!(matches!(bind(&path), Err(SocketError::NotASocket { .. })));
    }
}
