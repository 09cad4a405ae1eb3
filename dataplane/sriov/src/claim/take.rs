// SPDX-License-Identifier: Apache-2.0
//! Taking a VF: what is done to the host once its record is written.

use std::time::Instant;

use super::binding;
use super::host::{Change, Host};
use super::plan::Mode;
use super::record::Record;
use crate::Error;
use crate::settings::VfSettings;

/// Makes of a VF what its record says.
///
/// In kernel mode the VF goes through its driver's hands even where that has it already: the netdev
/// takes the administrative MAC address when it is made, and not every driver notices a later one.
pub(super) fn run(
    host: &impl Host,
    record: &Record,
    kernel_driver: Option<&str>,
    deadline: Instant,
) -> Result<(), Error> {
    let vf = record.vf;
    match record.mode {
        Mode::Kernel => {
            binding::unbind(host, vf)?;
            set(
                host,
                &record.pf_netdev,
                record.identity.index,
                &record.asked,
            )?;
            let own = record
                .driver
                .as_deref()
                .filter(|driver| !binding::is_userspace(driver));
            match own.or(kernel_driver) {
                Some(driver) => binding::bind(host, vf, driver, deadline)?,
                None => {
                    binding::bind_any(host, vf, deadline)?;
                }
            }
            enter(host, record, deadline)
        }
        Mode::Vfio | Mode::Engine => {
            let driver = record.bound_to.as_deref().unwrap_or("vfio-pci");
            if record.driver.as_deref() != Some(driver) {
                binding::unbind(host, vf)?;
            }
            if host.can_reset(vf) {
                host.apply(&Change::Reset(vf))?;
            }
            set(
                host,
                &record.pf_netdev,
                record.identity.index,
                &record.asked,
            )?;
            binding::bind(host, vf, driver, deadline)
        }
    }
}

/// Moves the VF's netdev into the pod. udev may rename it meanwhile: then by its new name.
fn enter(host: &impl Host, record: &Record, deadline: Instant) -> Result<(), Error> {
    let to = &record.owner.netns.path;
    let name = record.pod_ifname.as_deref().unwrap_or(&record.owner.ifname);
    loop {
        let netdev = binding::netdev(host, record.vf, deadline)?;
        match host.apply(&Change::Move(&netdev, to, name)) {
            Err(_) if renamed(host, record, &netdev)? && Instant::now() < deadline => {}
            result => return result,
        }
    }
}

fn renamed(host: &impl Host, record: &Record, netdev: &str) -> Result<bool, Error> {
    let names = host.function(record.vf)?.netdevs;
    Ok(!names.is_empty() && names.iter().all(|name| name != netdev))
}

/// Lays down what differs from what is.
pub(super) fn set(
    host: &impl Host,
    pf: &str,
    index: u32,
    settings: &VfSettings,
) -> Result<(), Error> {
    let now = host.vf_settings(pf, index)?;
    for change in settings.changes_from(&now) {
        host.apply(&Change::SetVf(pf, index, change))?;
    }
    Ok(())
}
