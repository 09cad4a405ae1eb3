// SPDX-License-Identifier: Apache-2.0
//! Questions about a pod's network namespace that change nothing in it.

use std::path::{Path, PathBuf};

use nix::net::if_::if_nametoindex;
use sluice_host::{Netns, NetnsIdentity, NetnsRef};

use crate::Error;
use crate::spec::call::Call;
use crate::spec::log::Log;

/// Returns the identity of the namespace at `path`.
///
/// # Errors
/// [`Error::Netns`]: there is nothing at `path`.
pub fn identity(path: &Path) -> Result<NetnsRef, Error> {
    NetnsRef::of(path).map_err(|error| Error::Netns(error.to_string()))
}

/// Whether a call's `CNI_NETNS` is the namespace that this process is in: on the host that would be the
/// host's.
///
/// # Errors
/// [`Error::Netns`]: the call needs a namespace, and there is none.
pub fn is_own(call: &Call) -> Result<bool, Error> {
    let checked = call.command.has_container() && !call.own_netns_allowed;
    let Some(path) = call.netns.as_deref().filter(|_| checked) else {
        return Ok(false);
    };
    match identity(path) {
        Ok(theirs) => Ok(NetnsRef::own()?.is_same(&theirs)),
        Err(_) if !call.command.needs_netns() => Ok(false),
        Err(error) => Err(error),
    }
}

/// The refusal of a call for which [`is_own`] holds.
pub fn own(call: &Call) -> Error {
    Error::Netns(format!(
        "CNI_NETNS {} is the namespace the plugin itself is in: a pod with the host's network needs no \
         CNI call",
        call.netns.as_deref().unwrap_or(Path::new("")).display()
    ))
}

/// Refuses a call whose `CNI_NETNS` leads to another namespace than at ADD.
///
/// # Errors
/// [`Error::Netns`].
pub fn check_same(call: &Call, recorded: Option<&NetnsIdentity>) -> Result<(), Error> {
    let (Some(path), Some(recorded)) = (call.netns.as_deref(), recorded) else {
        return Ok(());
    };
    if recorded.is_at(path)? {
        return Ok(());
    }
    Err(Error::Netns(format!(
        "{} is another network namespace than at ADD: the pod's is gone",
        path.display()
    )))
}

/// The path of the pod's namespace on DEL; `None` if the namespace is gone. A path proves nothing: it may
/// lead to another pod's namespace by now, to the host's, or to a plain file. `recorded` is what it led to
/// at ADD, where that is known.
pub fn still_there(call: &Call, recorded: Option<&NetnsIdentity>, log: &Log) -> Option<PathBuf> {
    let path = call.netns.clone()?;
    if call.names_own_netns {
        log.warning(format_args!(
            "CNI_NETNS {} is the host's namespace: nothing in it is touched",
            path.display()
        ));
        return None;
    }
    let there = match recorded {
        Some(recorded) => recorded.is_at(&path).map_err(|error| error.to_string()),
        None => Ok(true),
    };
    let there = there.and_then(|there| match Netns::open_path(&path) {
        Ok(_) => Ok(there),
        Err(error) => Err(error.to_string()),
    });
    match there {
        Ok(true) => Some(path),
        Ok(false) => {
            log.info(format_args!(
                "{} is another network namespace than at ADD: the pod's is gone",
                path.display()
            ));
            None
        }
        Err(why) => {
            log.info(format_args!("the pod's network namespace is gone: {why}"));
            None
        }
    }
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
