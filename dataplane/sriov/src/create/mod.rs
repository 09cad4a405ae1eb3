// SPDX-License-Identifier: Apache-2.0
//! VFs made from a PF: as many as a file or an operator asks for, and none taken from anybody.
//!
//! The kernel changes a number of VFs only by way of 0, which removes every VF of the PF. So a PF that
//! has the number asked for is left alone, and another number is refused while any of its VFs is in use.
//! No claim comes in between: the lock under which VFs are chosen, and each VF's own, are held.

mod file;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::time::{Duration, Instant};

use serde::Serialize;
use sluice_host::FileLock;

pub use file::{DEFAULT_FILE, FILE_NAME, PfName, VfCount, parse, read};

use crate::claim::binding;
use crate::claim::users;
use crate::claim::{Change, Host, Node};
use crate::sysfs::{Function, Sysfs};
use crate::{Error, PciAddr};

/// Interval at which sysfs is read.
const POLL: Duration = Duration::from_millis(50);
/// Time that a claim in progress may take to choose its VF.
const LOCK: Duration = Duration::from_secs(10);
/// Time that the kernel may take to find a driver for a VF: its module may have to be loaded.
const DRIVER: Duration = Duration::from_secs(5);

/// Circumstances of a creation.
#[derive(Debug, Clone, Copy)]
pub struct Circumstances<'a> {
    /// VFs that a device plugin has given out to pods.
    pub given_out: &'a [PciAddr],
    /// Whether to look and say only.
    pub dry_run: bool,
    /// Time until which a PF that is not there is waited for.
    pub appears_by: Instant,
    /// Time that new VFs may take to get their netdevs.
    pub netdevs_within: Duration,
}

/// Outcome for one PF.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The PF has that number of VFs already.
    Unchanged,
    /// The VFs were made.
    Created,
    /// VFs would be made.
    WouldCreate,
}

/// VFs of a PF after a creation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Created {
    /// PCI address of the PF.
    pub pf: PciAddr,
    /// Netdev of the PF.
    pub netdev: Option<String>,
    /// Outcome.
    pub outcome: Outcome,
    /// Number of VFs before.
    pub before: u32,
    /// Number of VFs asked for.
    pub count: u32,
    /// VFs that there are.
    pub vfs: Vec<PciAddr>,
    /// Warnings for the operator.
    pub warnings: Vec<String>,
}

/// PF that has fewer VFs than asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shortfall {
    /// Name of the PF in the file.
    pub pf: PfName,
    /// Number of VFs asked for.
    pub count: u32,
    /// Number of VFs there are; `None`: there is no such PF.
    pub now: Option<u32>,
}

impl std::fmt::Display for Shortfall {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.now {
            Some(now) => write!(f, "PF {} has {now} of {} VFs", self.pf, self.count),
            None => write!(f, "there is no PF {}, of {} VFs", self.pf, self.count),
        }
    }
}

impl<H: Host> Node<H> {
    /// Gives a PF the VFs asked for.
    ///
    /// # Errors
    /// Not a PF, more VFs than it can have, VFs in use, or the kernel refuses. A number that the kernel
    /// refuses leaves the PF with the number that it had, where it takes that again.
    pub fn create(&self, asked: &VfCount, around: &Circumstances<'_>) -> Result<Created, Error> {
        let pf = find(&self.host, &asked.pf, around.appears_by)?;
        let (total, before) = pf.sriov.ok_or(Error::NoSriov { device: pf.addr })?;
        if asked.count > total {
            return Err(Error::TooManyVfs {
                pf: asked.pf.to_string(),
                count: asked.count,
                total,
            });
        }
        let mut created = Created {
            pf: pf.addr,
            netdev: pf.netdevs.first().cloned(),
            outcome: Outcome::Unchanged,
            before,
            count: asked.count,
            vfs: self.host.vfs(pf.addr)?,
            warnings: Vec::new(),
        };
        if let Some(on) = asked.autoprobe.filter(|_| !around.dry_run) {
            self.host.apply(&Change::Autoprobe(pf.addr, on))?;
        }
        if before == asked.count {
            return Ok(created);
        }
        if pf.driver.is_none() {
            return Err(Error::NoPfDriver { pf: pf.addr });
        }
        let _allocation = self.journal.lock_allocation(Instant::now() + LOCK)?;
        let _locks = self.unused(asked, before, &created.vfs, around.given_out)?;
        if around.dry_run {
            created.outcome = Outcome::WouldCreate;
            return Ok(created);
        }
        if before != 0 {
            self.host.apply(&Change::NumVfs(pf.addr, 0))?;
        }
        if asked.count != 0
            && let Err(error) = self.host.apply(&Change::NumVfs(pf.addr, asked.count))
        {
            let back = (before != 0).then(|| self.host.apply(&Change::NumVfs(pf.addr, before)));
            return Err(match back {
                Some(Err(left)) => Error::Several(vec![error, left]),
                _ => error,
            });
        }
        created.outcome = Outcome::Created;
        self.settle(asked, &mut created, around.netdevs_within)?;
        Ok(created)
    }

    /// Locks the VFs, of which none may be in use.
    fn unused(
        &self,
        asked: &VfCount,
        now: u32,
        vfs: &[PciAddr],
        given_out: &[PciAddr],
    ) -> Result<Vec<FileLock>, Error> {
        let (mut users, mut locks) = (Vec::new(), Vec::new());
        for &vf in vfs {
            let Some(lock) = self.journal.try_lock(vf)? else {
                users.push(format!("{vf} is being worked on"));
                continue;
            };
            locks.push(lock);
            if let Some(user) = self.user(vf, given_out)? {
                users.push(format!("{vf} {user}"));
            }
        }
        if users.is_empty() {
            return Ok(locks);
        }
        Err(Error::VfsInUse {
            pf: asked.pf.to_string(),
            now,
            count: asked.count,
            users,
        })
    }

    /// Returns who uses a VF, as the rest of a sentence about it.
    fn user(&self, vf: PciAddr, given_out: &[PciAddr]) -> Result<Option<String>, Error> {
        if let Some(holder) = users::by_journal(&self.host, &self.journal, vf)? {
            return Ok(Some(holder));
        }
        if given_out.contains(&vf) {
            return Ok(Some("is a pod's by a device plugin".to_owned()));
        }
        let function = self.host.function(vf)?;
        if function
            .driver
            .as_deref()
            .is_some_and(binding::is_userspace)
        {
            let holder = self.host.held_open(&function);
            return Ok(holder.map(|holder| format!("is open in {holder}")));
        }
        users::by_kernel(&self.host, &function)
    }

    /// Waits until every new VF has the driver and the netdev that it will have.
    fn settle(
        &self,
        asked: &VfCount,
        created: &mut Created,
        within: Duration,
    ) -> Result<(), Error> {
        self.host.settle();
        created.vfs = self.host.vfs(created.pf)?;
        let made = u32::try_from(created.vfs.len()).unwrap_or(u32::MAX);
        if made != asked.count {
            return Err(Error::NumVfs {
                pf: created.pf,
                count: asked.count,
                why: format!("its driver made {made}"),
            });
        }
        let begun = Instant::now();
        for &vf in &created.vfs {
            loop {
                let function = self.host.function(vf)?;
                let missing = match function.driver.as_deref() {
                    None if asked.autoprobe == Some(false) || begun.elapsed() > DRIVER => break,
                    None => "driver",
                    Some(driver) if binding::is_userspace(driver) => break,
                    Some(_) if !function.netdevs.is_empty() => break,
                    Some(_) => "netdev",
                };
                if begun.elapsed() >= within {
                    created.warnings.push(format!("{vf} has no {missing} yet"));
                    break;
                }
                self.host.pause(POLL);
            }
        }
        // Names that the last of them was waited for to get.
        self.host.settle();
        Ok(())
    }

    /// Gives every PF of a file the VFs asked for; what one PF is refused keeps no other from its own.
    /// Results are in the order of the file.
    ///
    /// # Errors
    /// A PF that is there under two names.
    pub fn create_all(
        &self,
        file: &Path,
        asked: &[VfCount],
        around: &Circumstances<'_>,
    ) -> Result<Vec<Result<Created, Error>>, Error> {
        let mut seen: Vec<(PciAddr, &PfName)> = Vec::new();
        for one in asked {
            let Ok(pf) = find(&self.host, &one.pf, around.appears_by) else {
                continue;
            };
            if let Some((_, first)) = seen.iter().find(|(addr, _)| *addr == pf.addr) {
                return Err(Error::PfTwice {
                    file: file.to_owned(),
                    pf: pf.addr,
                    first: first.to_string(),
                    second: one.pf.to_string(),
                });
            }
            seen.push((pf.addr, &one.pf));
        }
        Ok(asked.iter().map(|one| self.create(one, around)).collect())
    }
}

/// Finds the PFs that have fewer VFs than asked for.
pub fn shortfalls(sysfs: &Sysfs, asked: &[VfCount]) -> Vec<Shortfall> {
    let mut found = Vec::new();
    for one in asked.iter().filter(|one| one.count > 0) {
        let pf = match &one.pf {
            PfName::Address(addr) => sysfs.function(*addr),
            PfName::Netdev(netdev) => sysfs.pf_of_netdev(netdev).and_then(|pf| sysfs.function(pf)),
        };
        let now = pf.ok().and_then(|pf| pf.sriov).map(|(_, now)| now);
        if now.is_none_or(|now| now < one.count) {
            found.push(Shortfall {
                pf: one.pf.clone(),
                count: one.count,
                now,
            });
        }
    }
    found
}

/// Looks a PF up, and waits for one that is not there yet until `deadline`.
fn find(host: &impl Host, name: &PfName, deadline: Instant) -> Result<Function, Error> {
    loop {
        let found = match name {
            PfName::Address(addr) => host.function(*addr),
            PfName::Netdev(netdev) => host.pf_of_netdev(netdev).and_then(|pf| host.function(pf)),
        };
        match found {
            Err(Error::NoDevice { .. } | Error::NoPf(_)) if Instant::now() < deadline => {
                host.pause(POLL);
            }
            Err(error) => return Err(error),
            Ok(function) => {
                return match (function.sriov, function.physfn) {
                    (Some(_), _) => Ok(function),
                    (None, Some(pf)) => Err(Error::IsVf {
                        device: function.addr,
                        pf,
                    }),
                    (None, None) => Err(Error::NoSriov {
                        device: function.addr,
                    }),
                };
            }
        }
    }
}
