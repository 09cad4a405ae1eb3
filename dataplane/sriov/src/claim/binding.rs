// SPDX-License-Identifier: Apache-2.0
//! Drivers and their functions: taking a function from one and giving it to another.
//!
//! A function gets its driver by `driver_override` and a probe. So udev, or whoever else probes
//! meanwhile, can only do what was meant anyway, and a PF that says `sriov_drivers_autoprobe` 0 is no
//! hindrance. What had another driver already when the override came is taken from it again.

use std::time::{Duration, Instant};

use super::host::{Change, Host};
use crate::sysfs::Function;
use crate::{Error, PciAddr};

/// Interval at which sysfs is read while a driver is at work.
const POLL: Duration = Duration::from_millis(10);

/// Whether a driver hands its functions to programs: they have no netdev, and somebody put them there.
pub(crate) fn is_userspace(driver: &str) -> bool {
    driver.contains("vfio") || ["igb_uio", "uio_pci_generic", "pci-stub"].contains(&driver)
}

/// Takes a function from its driver, if it has one. One that a process has open is left alone: the
/// kernel would wait for that process.
pub(super) fn unbind(host: &impl Host, vf: PciAddr) -> Result<(), Error> {
    let function = host.function(vf)?;
    let Some(driver) = &function.driver else {
        return Ok(());
    };
    if is_userspace(driver) {
        check_closed(host, &function)?;
    }
    match host.apply(&Change::Unbind(vf)) {
        // Somebody else was quicker.
        Err(_) if host.function(vf)?.driver.is_none() => Ok(()),
        result => result,
    }
}

/// Refuses a function that a process has open.
pub(super) fn check_closed(host: &impl Host, function: &Function) -> Result<(), Error> {
    match host.held_open(function) {
        Some(holder) => Err(Error::Busy {
            device: function.addr,
            holder,
        }),
        None => Ok(()),
    }
}

/// Gives a function that has no driver to `driver`. The override stays at it.
pub(super) fn bind(
    host: &impl Host,
    vf: PciAddr,
    driver: &str,
    deadline: Instant,
) -> Result<(), Error> {
    let mut refused = None;
    loop {
        let now = host.function(vf)?;
        if now.driver_override.as_deref() != Some(driver) {
            host.apply(&Change::Override(vf, Some(driver)))?;
        }
        match now.driver.as_deref() {
            Some(has) if has == driver => return Ok(()),
            Some(_) => unbind(host, vf)?,
            None => {}
        }
        if let Err(error) = host.apply(&Change::Probe(vf)) {
            refused = Some(error);
        }
        if host.function(vf)?.driver.as_deref() == Some(driver) {
            return Ok(());
        }
        if Instant::now() >= deadline {
            return Err(refused.unwrap_or(Error::NotTaken {
                device: vf,
                driver: driver.to_owned(),
            }));
        }
        host.pause(POLL);
    }
}

/// Lets the kernel find its own driver for a function that has none, and says which.
pub(super) fn bind_any(host: &impl Host, vf: PciAddr, deadline: Instant) -> Result<String, Error> {
    if host.function(vf)?.driver_override.is_some() {
        host.apply(&Change::Override(vf, None))?;
    }
    loop {
        host.apply(&Change::Probe(vf))?;
        if let Some(driver) = host.function(vf)?.driver {
            return Ok(driver);
        }
        if Instant::now() >= deadline {
            return Err(Error::NotTaken {
                device: vf,
                driver: "the kernel's driver".to_owned(),
            });
        }
        host.pause(POLL);
    }
}

/// Waits for the netdev that a kernel's driver makes of a function.
pub(super) fn netdev(host: &impl Host, vf: PciAddr, deadline: Instant) -> Result<String, Error> {
    loop {
        let function = host.function(vf)?;
        if let Some(name) = function.netdevs.into_iter().next() {
            return Ok(name);
        }
        if Instant::now() >= deadline {
            return Err(Error::NoNetdev {
                device: vf,
                driver: function.driver.unwrap_or_else(|| "no driver".to_owned()),
            });
        }
        host.pause(POLL);
    }
}
