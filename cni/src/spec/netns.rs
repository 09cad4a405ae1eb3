// SPDX-License-Identifier: Apache-2.0
//! Questions about a pod's network namespace that change nothing in it.

use std::path::Path;

use nix::net::if_::if_nametoindex;
use sluice_host::{Netns, NetnsRef};

use crate::Error;
use crate::spec::call::Call;

/// Returns the identity of the namespace at `path`.
///
/// # Errors
/// [`Error::Netns`]: there is nothing at `path`.
pub fn identity(path: &Path) -> Result<NetnsRef, Error> {
    NetnsRef::of(path).map_err(|error| Error::Netns(error.to_string()))
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
    if NetnsRef::own()?.is_same(&theirs) {
        return Err(Error::Netns(format!(
            "CNI_NETNS {} is the namespace the plugin itself is in: a pod with the host's network \
             needs no CNI call",
            path.display()
        )));
    }
    Ok(())
}

/// Runs `work` inside the namespace at `path`, on a thread of its own.
///
/// # Errors
/// [`Error::Netns`]: it cannot be entered; or the failure of `work`.
pub fn within<T: Send>(
    path: &Path,
    work: impl FnOnce() -> Result<T, Error> + Send,
) -> Result<T, Error> {
    let refused = |error: sluice_host::NetnsError| Error::Netns(error.to_string());
    Netns::open_path(path)
        .map_err(refused)?
        .run(work)
        .map_err(refused)?
}

/// Returns the first of `names` that is an interface in the namespace at `path`.
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
