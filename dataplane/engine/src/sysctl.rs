// SPDX-License-Identifier: Apache-2.0
//! Settings below `/proc/sys/net` of the calling thread's network namespace: every write of the engine goes
//! through here.
//!
//! In a container without `privileged`, `/proc/sys` is mounted read-only. A procfs of the engine's own,
//! which is mounted nowhere and reached by a file descriptor alone, is not: making one takes
//! CAP_SYS_ADMIN, which the engine needs for the pods' namespaces anyway.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags};

/// Folder of the settings; what it shows is of the namespace of the thread that opens a file there.
const FOLDER: &str = "/proc/sys/net";
/// Path of that folder within a procfs.
const WITHIN_PROCFS: &str = "sys/net";

/// Failure to write a setting.
#[derive(Debug, thiserror::Error)]
pub enum SysctlError {
    /// `/proc/sys` is mounted read-only, and a procfs of the engine's own cannot be had.
    #[error(
        "{} cannot be written: /proc/sys is mounted read-only here, as it is in containers without \
         `privileged`, and the engine cannot mount a procfs of its own: {source}; {}",
        path.display(), remedy(source)
    )]
    ReadOnly {
        /// File of the setting.
        path: PathBuf,
        /// Reason why there is no procfs of the engine's own.
        source: io::Error,
    },
    /// The kernel refused.
    #[error("{} cannot be written: {source}; this needs CAP_NET_ADMIN", path.display())]
    Refused {
        /// File of the setting.
        path: PathBuf,
        /// Error of the kernel.
        source: io::Error,
    },
}

fn remedy(error: &io::Error) -> &'static str {
    match Errno::from_io_error(error) {
        Some(Errno::PERM) => {
            "give it CAP_SYS_ADMIN and a seccomp profile that lets it use fsopen and fsmount (the runtimes' \
             default does with that capability)"
        }
        Some(Errno::ACCESS) => {
            "the node's AppArmor or SELinux profile forbids mounts: run the container with \
             `appArmorProfile: Unconfined`, or in SELinux's type spc_t"
        }
        Some(Errno::NOSYS) => "the kernel is older than 5.2: run the container `privileged`",
        _ => "run the container `privileged`",
    }
}

/// Writes a setting, named by its path below `/proc/sys/net`. Returns false if there is no such setting, as on
/// a kernel without IPv6.
///
/// # Errors
/// [`SysctlError`].
pub fn write(setting: &Path, value: &str) -> Result<bool, SysctlError> {
    let path = Path::new(FOLDER).join(setting);
    match outcome(std::fs::write(&path, value)) {
        Err(error) if Errno::from_io_error(&error) == Some(Errno::ROFS) => {}
        Ok(found) => return Ok(found),
        Err(source) => return Err(SysctlError::Refused { path, source }),
    }
    let written = procfs().and_then(|procfs| outcome(write_in(procfs, setting, value)));
    written.map_err(|source| SysctlError::ReadOnly { path, source })
}

/// A setting that is not there is no error.
fn outcome(written: io::Result<()>) -> io::Result<bool> {
    match written {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

fn write_in(procfs: &OwnedFd, setting: &Path, value: &str) -> io::Result<()> {
    let path = Path::new(WITHIN_PROCFS).join(setting);
    let flags = OFlags::WRONLY | OFlags::TRUNC | OFlags::CLOEXEC;
    let file = rustix::fs::openat(procfs, &path, flags, Mode::empty())?;
    rustix::io::write(&file, value.as_bytes())?;
    Ok(())
}

/// The engine's own procfs, made when it is first needed.
fn procfs() -> io::Result<&'static OwnedFd> {
    static PROCFS: OnceLock<OwnedFd> = OnceLock::new();
    match PROCFS.get() {
        Some(procfs) => Ok(procfs),
        None => {
            let made = mount_procfs()?;
            Ok(PROCFS.get_or_init(|| made))
        }
    }
}

/// Makes a procfs that is mounted nowhere.
fn mount_procfs() -> io::Result<OwnedFd> {
    let context = rustix::mount::fsopen("proc", FsOpenFlags::FSOPEN_CLOEXEC)?;
    rustix::mount::fsconfig_create(&context)?;
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let flags = FsMountFlags::FSMOUNT_CLOEXEC;
    Ok(rustix::mount::fsmount(&context, flags, attributes)?)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    #[test]
    fn a_setting_that_is_not_there_is_none() {
        let setting = Path::new("ipv6/conf/no-such-netdev/disable_ipv6");
        assert!(!write(setting, "1").unwrap());
    }

    #[test]
    fn a_procfs_of_ones_own_shows_and_takes_settings_of_the_threads_namespace() {
        let Ok(procfs) = mount_procfs() else {
            eprintln!("not run here: mounting a procfs takes CAP_SYS_ADMIN");
            return;
        };
        let setting = Path::new("ipv4/conf/lo/tag");
        let thread = std::thread::spawn(move || {
            #[allow(
                deprecated,
                reason = "it is unsafe for tables of files alone, and safe for namespaces"
            )]
            rustix::thread::unshare(rustix::thread::UnshareFlags::NEWNET).unwrap();
            write_in(&procfs, setting, "7").unwrap();
            std::fs::read_to_string("/proc/sys/net/ipv4/conf/lo/tag").unwrap()
        });
        let inside = thread.join().unwrap();
        assert_eq!(inside.trim(), "7");
        let outside = std::fs::read_to_string(Path::new(FOLDER).join(setting)).unwrap();
        assert_ne!(
            outside.trim(),
            "7",
            "only the other namespace's was written"
        );
    }

    #[test]
    fn the_messages_name_the_cause_and_what_to_do() {
        let error = |errno: Errno| SysctlError::ReadOnly {
            path: "/proc/sys/net/ipv6/conf/eth1/disable_ipv6".into(),
            source: errno.into(),
        };
        for (errno, remedy) in [
            (Errno::PERM, "CAP_SYS_ADMIN"),
            (Errno::ACCESS, "appArmorProfile: Unconfined"),
            (Errno::NOSYS, "older than 5.2"),
            (Errno::INVAL, "privileged"),
        ] {
            let text = error(errno).to_string();
            assert!(
                text.contains("read-only") && text.contains(remedy),
                "{text}"
            );
            assert!(!text.contains("CAP_NET_ADMIN"), "{text}");
        }
    }
}
