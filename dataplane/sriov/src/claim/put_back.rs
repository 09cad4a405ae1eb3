// SPDX-License-Identifier: Apache-2.0
//! Putting a VF back as its record says it was. Each step looks at what is there first, so that it may
//! be taken after a crash at any step of taking or of putting back.

use std::time::Instant;

use super::binding;
use super::host::{Change, Host};
use super::plan::Mode;
use super::record::{NetdevState, Record};
use super::take;
use crate::settings::{Mac, VfSettings};
use crate::sysfs::Function;
use crate::{Error, PciAddr};

/// Puts a VF back and removes its record. A record of another boot, or of a VF that is not there any
/// more, is removed and nothing else: the host forgot with the VF what was done to it.
///
/// A netdev that is in a pod, or on its way home from a namespace that is no more, goes with its
/// driver: the one that the driver makes anew is the host's.
///
/// # Errors
/// [`Error::Busy`]: a process has the VF open; others as they come. The record stays.
pub(super) fn run(host: &impl Host, record: &Record, deadline: Instant) -> Result<(), Error> {
    let vf = record.vf;
    if record.boot_id != host.boot_id()? {
        return host.apply(&Change::Forget(vf));
    }
    let now = match host.function(vf) {
        Ok(function) if is_it(host, record, &function)? => function,
        Ok(_) | Err(Error::NoDevice { .. }) => return host.apply(&Change::Forget(vf)),
        Err(error) => return Err(error),
    };
    if now.driver.as_deref().is_some_and(binding::is_userspace) {
        binding::check_closed(host, &now)?;
    }
    let driver = record.driver.as_deref();
    // A VF that was given as it was found, with its driver.
    let stays = record.mode != Mode::Kernel && driver.is_some() && now.driver.as_deref() == driver;
    if !stays {
        binding::unbind(host, vf)?;
    }
    if host.can_reset(vf) {
        host.apply(&Change::Reset(vf))?;
    }
    let pf = pf_netdev(host, record)?;
    let before = record.before.restoring(&record.asked);
    take::set(host, &pf, record.identity.index, &before)?;
    match driver {
        Some(driver) if stays => debug_assert_eq!(now.driver.as_deref(), Some(driver)),
        Some(driver) => binding::bind(host, vf, driver, deadline)?,
        None => {}
    }
    if host.function(vf)?.driver_override != record.driver_override {
        let before = record.driver_override.as_deref();
        host.apply(&Change::Override(vf, before))?;
    }
    if let Some(netdev) = record.netdev.as_ref().filter(|_| driver.is_some()) {
        restore_netdev(host, vf, netdev, &record.before, deadline)?;
        // Some PFs show a MAC address that a netdev was given, where none had been laid down.
        take::set(host, &pf, record.identity.index, &before)?;
    }
    host.apply(&Change::Forget(vf))
}

/// Whether what is at the address is the VF of the record.
pub(super) fn is_it(host: &impl Host, record: &Record, now: &Function) -> Result<bool, Error> {
    let identity = record.identity;
    let same = (now.vendor, now.device) == (identity.vendor, identity.device)
        && now.physfn == Some(identity.pf);
    if !same {
        return Ok(false);
    }
    let vfs = host.vfs(identity.pf)?;
    let at = usize::try_from(identity.index).ok();
    Ok(at.and_then(|at| vfs.get(at)) == Some(&record.vf))
}

/// The PF's netdev by its name of today.
pub(super) fn pf_netdev(host: &impl Host, record: &Record) -> Result<String, Error> {
    let netdevs = host.function(record.identity.pf)?.netdevs;
    if netdevs.contains(&record.pf_netdev) {
        return Ok(record.pf_netdev.clone());
    }
    let first = netdevs.into_iter().next();
    first.ok_or_else(|| Error::NoPf(record.pf_netdev.clone()))
}

fn restore_netdev(
    host: &impl Host,
    vf: PciAddr,
    was: &NetdevState,
    before: &VfSettings,
    deadline: Instant,
) -> Result<(), Error> {
    loop {
        let name = binding::netdev(host, vf, deadline)?;
        let mut result = Ok(());
        if name != was.name {
            // udev may be quicker, to the same end; a name that another has by now stays its own.
            match host.netdev(&was.name)? {
                None => result = host.apply(&Change::Rename(&name, &was.name)),
                Some(_) if host.function(vf)?.netdevs.contains(&was.name) => {}
                Some(_) => {
                    tracing::warn!(
                        %vf, netdev = was.name, "another netdev has its name by now: it is {name}"
                    );
                    return configure(host, vf, &name, was, before);
                }
            }
        }
        if result.is_ok() {
            result = configure(host, vf, &was.name, was, before);
        }
        match result {
            Err(_) if Instant::now() < deadline && !host.function(vf)?.netdevs.contains(&name) => {}
            result => return result,
        }
    }
}

/// MAC address, MTU and whether it is up. Where the PF has laid a MAC address down the netdev has it;
/// else the driver has made another one up.
fn configure(
    host: &impl Host,
    vf: PciAddr,
    name: &str,
    was: &NetdevState,
    before: &VfSettings,
) -> Result<(), Error> {
    let Some(now) = host.netdev(name)? else {
        return Err(Error::NoNetdev {
            device: vf,
            driver: "its driver".to_owned(),
        });
    };
    let own = was.mac.as_deref().and_then(|mac| mac.parse::<Mac>().ok());
    let chosen = before.mac.is_none_or(|mac| mac == [0; 6]);
    let mac = own
        .map(|mac| mac.0)
        .filter(|&mac| chosen && now.mac != Some(mac));
    if mac.is_none() && now.mtu == was.mtu && now.up == was.up {
        return Ok(());
    }
    host.apply(&Change::Netdev(name, was.mtu, mac, was.up))
}
