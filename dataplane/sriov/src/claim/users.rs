// SPDX-License-Identifier: Apache-2.0
//! Users of VFs: who has a VF, as the journal and the kernel tell.

use super::host::Host;
use super::journal::{Entry, Journal};
use crate::sysfs::Function;
use crate::{Error, PciAddr};

/// Returns who has a VF by the journal, as the rest of a sentence about the VF. A record of another boot
/// counts for nothing.
pub(crate) fn by_journal(
    host: &impl Host,
    journal: &Journal,
    vf: PciAddr,
) -> Result<Option<String>, Error> {
    Ok(match journal.read(vf)? {
        Entry::Whole(record) if record.boot_id == host.boot_id()? => {
            Some(format!("is held by {}", record.holder()))
        }
        Entry::Torn(why) => Some(format!("has a torn record ({why})")),
        Entry::Whole(_) | Entry::Absent => None,
    })
}

/// Returns how the node or a network namespace uses the netdev of a VF, as the rest of a sentence about
/// the VF.
pub(crate) fn by_kernel(host: &impl Host, function: &Function) -> Result<Option<String>, Error> {
    for name in &function.netdevs {
        let netdev = host.netdev(name)?;
        if netdev.is_some_and(|netdev| netdev.up || netdev.addressed) {
            return Ok(Some(format!("is in use on the node as {name}")));
        }
    }
    // The netdev of a VF that a driver of the kernel has, and that is not here, is in some pod.
    if function.driver.is_some() && function.netdevs.is_empty() {
        return Ok(Some("has its netdev in another namespace".to_owned()));
    }
    Ok(None)
}
