// SPDX-License-Identifier: Apache-2.0
//! VFs of attachments' own, which may go and come back while their attachments stay.
//!
//! ```text
//! open    the kernel asks for the VF, or it is not there ....... given up: a stand-in takes its place
//! away    it is there again ... prepared and opened, or why not  taken up: its port takes the place
//! ```
//!
//! The kernel waits for a VF that is open, and with it whoever unloads the PF's driver or writes
//! `sriov_numvfs`; so a VF that it asks for is closed at once. What is then there again at the address is
//! a VF without the MAC address, VLAN and driver that it had: they are laid down anew, as the VF journal
//! has them.

use std::fmt;
use std::time::{Duration, Instant};

use sluice_api::ApiError;
use sluice_datapath::ports::absent::AbsentUplink;
use sluice_datapath::{LinkState, Uplink, UplinkId};
use sluice_vfio::ReleaseRequest;

use super::{Control, locked};
use crate::vfs::{OpenVf, VfSpec};

/// Name of the driver of VFs.
const DRIVER: &str = "igbvf";
/// Time after which a VF that was given up is looked for: the kernel is still at work.
const FIRST_TRY: Duration = Duration::from_secs(2);
/// Longest time between two tries to take a VF up.
const LAST_TRY: Duration = Duration::from_secs(30);

/// VF of one attachment.
#[derive(Debug)]
pub(super) struct OwnVf {
    spec: VfSpec,
    device: Device,
    /// Warnings for the operator, of when it was opened last.
    warnings: Vec<String>,
}

enum Device {
    /// The VF is open.
    Open(Option<ReleaseRequest>),
    /// A stand-in is in its place.
    Away(Away),
}

impl fmt::Debug for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Device::Open(_) => "Open",
            Device::Away(_) => "Away",
        })
    }
}

/// VF that is away.
struct Away {
    /// Reason for people, and what becomes of it.
    reason: String,
    /// Time of the next try to take it up.
    next: Instant,
    /// Time from that try to the one after it.
    pause: Duration,
}

impl Away {
    fn new(reason: String, first: Duration) -> Away {
        Away {
            reason,
            next: Instant::now() + first,
            pause: Duration::from_secs(1),
        }
    }

    /// Notes a try that failed.
    fn failed(&mut self, reason: String) {
        self.reason = reason;
        self.next = Instant::now() + self.pause;
        self.pause = (self.pause * 2).min(LAST_TRY);
    }
}

/// Result of a look at a VF.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Renewed {
    /// The VF is open.
    Open,
    /// The VF is away.
    Away {
        /// Reason for people.
        reason: String,
        /// Whether it was given up just now.
        now: bool,
    },
    /// VF of an attachment that is gone.
    Closed,
}

impl OwnVf {
    /// Opens a VF; returns its port too.
    ///
    /// # Errors
    /// It cannot be opened.
    pub(super) fn open(
        vfs: &dyn OpenVf,
        spec: VfSpec,
    ) -> Result<(OwnVf, Box<dyn Uplink>), ApiError> {
        let opened = vfs.open(&spec)?;
        let own = OwnVf {
            spec,
            device: Device::Open(opened.release),
            warnings: opened.warnings,
        };
        Ok((own, opened.port))
    }

    /// Opens a VF, or returns a stand-in for it if that fails, as it is away or was made anew.
    pub(super) fn open_or_away(vfs: &dyn OpenVf, spec: VfSpec) -> (OwnVf, Box<dyn Uplink>) {
        match vfs.open(&spec) {
            Ok(opened) => {
                let own = OwnVf {
                    spec,
                    device: Device::Open(opened.release),
                    warnings: opened.warnings,
                };
                (own, opened.port)
            }
            Err(error) => {
                let port = stand_in(&spec);
                let device = Device::Away(Away::new(error.message, Duration::ZERO));
                let own = OwnVf {
                    spec,
                    device,
                    warnings: Vec::new(),
                };
                (own, port)
            }
        }
    }

    /// Reason for which an open VF must be given up.
    fn must_go(&self, trouble: Option<&(LinkState, String)>) -> Option<String> {
        let Device::Open(release) = &self.device else {
            return None;
        };
        if let Some((LinkState::Gone, reason)) = trouble {
            return Some(reason.clone());
        }
        release.as_ref().filter(|request| request.is_made())?;
        Some(format!(
            "the kernel took VF {} back: it was unbound, its PF's driver is being unloaded, or \
             `sriov_numvfs` changed; it is taken up when it is back",
            self.spec.address
        ))
    }
}

impl Control {
    /// Gives an attachment's VF up if it must go, or takes it up if it is back. `trouble` is what its PF
    /// shows.
    pub(super) fn renew_vf(&self, id: UplinkId, trouble: Option<&(LinkState, String)>) -> Renewed {
        let mut vfs = locked(&self.own_vfs);
        let Some(vf) = vfs.get_mut(&id) else {
            return Renewed::Closed;
        };
        if let Some(reason) = vf.must_go(trouble) {
            if let Err(error) = self.put_port(id, stand_in(&vf.spec)) {
                tracing::error!("VF {}: it cannot be closed: {error}", vf.spec.address);
                // The kernel asks again.
                return Renewed::Open;
            }
            vf.device = Device::Away(Away::new(reason.clone(), FIRST_TRY));
            return Renewed::Away { reason, now: true };
        }
        let Device::Away(away) = &mut vf.device else {
            return Renewed::Open;
        };
        match trouble {
            Some((LinkState::Gone, reason)) => away.reason.clone_from(reason),
            _ if Instant::now() < away.next => {}
            _ => match self.take_vf_up(id, &vf.spec) {
                Ok((release, warnings)) => {
                    tracing::info!("VF {} is back, and taken up", vf.spec.address);
                    for warning in &warnings {
                        tracing::warn!("{warning}");
                    }
                    vf.warnings = warnings;
                    vf.device = Device::Open(release);
                    return Renewed::Open;
                }
                Err(error) => away.failed(format!(
                    "VF {} is there, and cannot be taken up: {error}; it is tried again and again",
                    vf.spec.address
                )),
            },
        }
        Renewed::Away {
            reason: away.reason.clone(),
            now: false,
        }
    }

    /// Warnings of when a VF was opened last.
    pub(super) fn vf_warnings(&self, id: UplinkId) -> Vec<String> {
        let vfs = locked(&self.own_vfs);
        vfs.get(&id).map_or_else(Vec::new, |vf| vf.warnings.clone())
    }

    /// Prepares a VF that is back, opens it, and puts its port in place of the stand-in.
    fn take_vf_up(
        &self,
        id: UplinkId,
        spec: &VfSpec,
    ) -> Result<(Option<ReleaseRequest>, Vec<String>), ApiError> {
        self.vfs.prepare_again(spec.address)?;
        let opened = self.vfs.open(spec)?;
        self.put_port(id, opened.port)?;
        Ok((opened.release, opened.warnings))
    }

    /// Gives an uplink another port. The one that was there ends.
    fn put_port(&self, id: UplinkId, port: Box<dyn Uplink>) -> Result<(), ApiError> {
        let old = self
            .engine
            .try_with(|engine| engine.replace_port(id, port))?;
        drop(old);
        Ok(())
    }
}

fn stand_in(spec: &VfSpec) -> Box<dyn Uplink> {
    Box::new(AbsentUplink::new(
        DRIVER,
        spec.address.to_string(),
        spec.mtu,
    ))
}

#[cfg(test)]
#[path = "own_vfs_tests.rs"]
mod tests;
