//! What can be asked of a network namespace without changing it.
//!
//! A thread of its own enters the namespace and ends there, so the caller stays where it is.

use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::net::if_::if_nametoindex;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::Error;
use crate::call::Call;

/// Device and inode of a namespace file: the same for every path to one namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// `st_dev`.
    pub dev: u64,
    /// `st_ino`.
    pub ino: u64,
}

/// The identity of the namespace at `path`.
///
/// # Errors
/// [`Error::Netns`]: there is nothing at `path`.
pub fn identity(path: &Path) -> Result<Identity, Error> {
    std::fs::metadata(path)
        .map(|meta| Identity {
            dev: meta.dev(),
            ino: meta.ino(),
        })
        .map_err(|error| Error::Netns(format!("network namespace {}: {error}", path.display())))
}

/// Refuses a call whose `CNI_NETNS` is the namespace this process is in: on the host that would
/// be the host's. On DEL a namespace that is gone is fine.
///
/// # Errors
/// [`Error::Netns`].
pub fn check_not_own(call: &Call) -> Result<(), Error> {
    let Some(path) = call.netns.as_deref().filter(|_| !call.own_netns_allowed) else {
        return Ok(());
    };
    let theirs = match identity(path) {
        Ok(identity) => identity,
        Err(_) if !call.command.needs_netns() => return Ok(()),
        Err(error) => return Err(error),
    };
    if identity(Path::new("/proc/self/ns/net"))? == theirs {
        return Err(Error::Netns(format!(
            "CNI_NETNS {} is the namespace the plugin itself is in: a pod with the host's network \
             needs no CNI call",
            path.display()
        )));
    }
    Ok(())
}

/// Runs `work` inside the namespace at `path`.
///
/// # Errors
/// [`Error::Netns`]: it cannot be entered; or what `work` returned.
pub fn within<T: Send>(
    path: &Path,
    work: impl FnOnce() -> Result<T, Error> + Send,
) -> Result<T, Error> {
    let refused = |error: std::io::Error| {
        Error::Netns(format!(
            "cannot enter network namespace {}: {error}",
            path.display()
        ))
    };
    let file = File::open(path).map_err(refused)?;
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
                .map_err(|error| refused(error.into()))?;
            work()
        });
        match thread.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

/// The first of `names` that is an interface in the namespace at `path`.
///
/// # Errors
/// [`Error::Netns`]: the namespace cannot be entered.
pub fn taken<'a>(path: &Path, names: &[&'a str]) -> Result<Option<&'a str>, Error> {
    within(path, || {
        Ok(names
            .iter()
            .find(|name| if_nametoindex(**name).is_ok())
            .copied())
    })
}

/// Refuses names that are interfaces in the namespace already (CNI specification, "ADD").
///
/// # Errors
/// [`Error::Environment`] naming the interface; [`Error::Netns`].
pub fn check_free(call: &Call, names: &[&str]) -> Result<(), Error> {
    let Some(path) = call.netns.as_deref() else {
        return Ok(());
    };
    match taken(path, names)? {
        None => Ok(()),
        Some(name) => Err(Error::Environment(format!(
            "interface {name} exists already in {}: nothing was run; remove it, or call DEL first",
            path.display()
        ))),
    }
}
