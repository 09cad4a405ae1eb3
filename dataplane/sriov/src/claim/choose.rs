// SPDX-License-Identifier: Apache-2.0
//! Choice of the VF of a claim: by index, by address, or the first free one.

use std::time::Instant;

use sluice_host::FileLock;

use super::host::Host;
use super::journal::Journal;
use super::{binding, users};
use crate::sysfs::Function;
use crate::{Error, PciAddr};

/// Chosen VF, locked.
#[derive(Debug)]
pub(super) struct Chosen {
    pub(super) function: Function,
    pub(super) pf: PciAddr,
    pub(super) pf_netdev: String,
    pub(super) index: u32,
    /// Held as long as this is.
    pub(super) _lock: FileLock,
    /// Held until the record is written, if the choice was ours.
    pub(super) allocation: Option<FileLock>,
}

/// Looks a PF up by its netdev.
fn pf(host: &impl Host, netdev: &str) -> Result<(PciAddr, Vec<PciAddr>), Error> {
    let pf = host.pf_of_netdev(netdev)?;
    let vfs = host.vfs(pf)?;
    if vfs.is_empty() {
        return Err(Error::NoVfs {
            pf: netdev.to_owned(),
        });
    }
    Ok((pf, vfs))
}

/// The VF with this index.
pub(super) fn by_index(
    host: &impl Host,
    journal: &Journal,
    netdev: &str,
    index: u32,
    deadline: Instant,
) -> Result<Chosen, Error> {
    let (pf, vfs) = pf(host, netdev)?;
    let at = usize::try_from(index).ok();
    let vf = at.and_then(|at| vfs.get(at)).copied();
    let vf = vf.ok_or_else(|| Error::NoSuchVf {
        pf: netdev.to_owned(),
        index,
        count: vfs.len(),
    })?;
    Ok(Chosen {
        function: host.function(vf)?,
        pf,
        pf_netdev: netdev.to_owned(),
        index,
        _lock: journal.lock(vf, deadline)?,
        allocation: None,
    })
}

/// The VF at this address, which must be of the PF with that netdev if one is named.
pub(super) fn by_address(
    host: &impl Host,
    journal: &Journal,
    netdev: Option<&str>,
    vf: PciAddr,
    deadline: Instant,
) -> Result<Chosen, Error> {
    let function = host.function(vf)?;
    let pf = function.physfn.ok_or(Error::NotVf(vf))?;
    let position = host.vfs(pf)?.iter().position(|&other| other == vf);
    let index = position
        .and_then(|at| u32::try_from(at).ok())
        .ok_or(Error::NotVf(vf))?;
    let netdevs = host.function(pf)?.netdevs;
    let pf_netdev = match netdev {
        Some(named) if !netdevs.iter().any(|name| name == named) => {
            return Err(Error::OtherPf {
                device: vf,
                pf: named.to_owned(),
                is: netdevs.join(", "),
            });
        }
        Some(named) => named.to_owned(),
        None => netdevs
            .into_iter()
            .next()
            .ok_or_else(|| Error::NoPf(pf.to_string()))?,
    };
    Ok(Chosen {
        _lock: journal.lock(vf, deadline)?,
        function: host.function(vf)?,
        pf,
        pf_netdev,
        index,
        allocation: None,
    })
}

/// The first VF of a PF that nobody has: not in the journal, not one that a device plugin gives out,
/// not set up or with an address, not with a userspace driver.
pub(super) fn first_free(
    host: &impl Host,
    journal: &Journal,
    netdev: &str,
    avoid: &[PciAddr],
    deadline: Instant,
) -> Result<Chosen, Error> {
    let (pf, vfs) = pf(host, netdev)?;
    let allocation = journal.lock_allocation(deadline)?;
    let mut taken = Vec::new();
    for (index, &vf) in (0u32..).zip(&vfs) {
        let Some(lock) = journal.try_lock(vf)? else {
            taken.push(format!("{vf} is being worked on"));
            continue;
        };
        let function = host.function(vf)?;
        let why = match unfree(host, journal, &function, avoid)? {
            Some(why) => why,
            None => {
                return Ok(Chosen {
                    function,
                    pf,
                    pf_netdev: netdev.to_owned(),
                    index,
                    _lock: lock,
                    allocation: Some(allocation),
                });
            }
        };
        taken.push(format!("{vf} {why}"));
    }
    Err(Error::Exhausted {
        pf: netdev.to_owned(),
        why: taken.join("; "),
    })
}

/// Returns the reason why a VF is not free, if it is not.
fn unfree(
    host: &impl Host,
    journal: &Journal,
    function: &Function,
    avoid: &[PciAddr],
) -> Result<Option<String>, Error> {
    let vf = function.addr;
    if let Some(holder) = users::by_journal(host, journal, vf)? {
        return Ok(Some(holder));
    }
    if avoid.contains(&vf) {
        return Ok(Some("is a device plugin's".to_owned()));
    }
    let driver = function.driver.as_deref();
    if let Some(driver) = driver.filter(|driver| binding::is_userspace(driver)) {
        return Ok(Some(format!("is with {driver}, and not by us")));
    }
    users::by_kernel(host, function)
}
