// SPDX-License-Identifier: Apache-2.0
//! Links of uplinks, those of the configuration and those of VFs: what status, health and ADD say of them.

use std::time::{Duration, Instant};

use sluice_api::{ApiError, AttachRequest, LinkState, UplinkStatus};

use super::own_vfs::Renewed;
use super::{Control, locked};
use crate::refusal;
use crate::uplinks::UplinkState;

/// Time that an attach waits for the link of its VF's PF.
const PF_PATIENCE: Duration = Duration::from_secs(3);
/// Interval at which the PF is looked at meanwhile.
const PF_INTERVAL: Duration = Duration::from_millis(100);

impl Control {
    /// Refuses an attach whose uplink has no link, for now: it may be back when the runtime asks again.
    pub(super) fn check_link(&self, request: &AttachRequest) -> Result<(), ApiError> {
        let refused =
            |problem: String| refusal::unavailable(format!("{problem}; then attach again"));
        if let Some(vf) = &request.vf {
            let asked = Instant::now();
            let mut trouble = self.vfs.trouble(&vf.address, &request.uplink);
            // A PF that was set up a moment ago, or whose VFs were just made, has no carrier yet.
            while trouble.is_some() && asked.elapsed() < PF_PATIENCE {
                std::thread::sleep(PF_INTERVAL);
                trouble = self.vfs.trouble(&vf.address, &request.uplink);
            }
            return match trouble {
                None => Ok(()),
                Some((link, reason)) => Err(refused(format!(
                    "VF {} of {} is {link}: {reason}",
                    vf.address, request.uplink
                ))),
            };
        }
        let state = self.uplinks.get(&request.uplink).map(|found| found.state());
        match state.and_then(|state| state.problem(&request.uplink)) {
            None => Ok(()),
            Some(problem) => Err(refused(problem)),
        }
    }

    /// Problem of the link of an attachment's uplink, as it was last seen.
    pub(super) fn link_problem(&self, request: &AttachRequest) -> Option<String> {
        match &request.vf {
            Some(vf) => locked(&self.vf_links)
                .get(&vf.address)?
                .problem(&vf.address),
            None => self
                .uplinks
                .get(&request.uplink)?
                .state()
                .problem(&request.uplink),
        }
    }

    /// Completes an uplink's status by what is known of its link.
    pub(super) fn with_link(&self, mut status: UplinkStatus) -> UplinkStatus {
        let state = match self.uplinks.get(&status.name) {
            Some(uplink) => uplink.is_watched().then(|| uplink.state()),
            None => locked(&self.vf_links).get(&status.name).cloned(),
        };
        status.driver_reason = match self.uplinks.get(&status.name) {
            Some(uplink) => Some(uplink.driver_reason()),
            None => Some("the VF is one for which there is a native driver".to_owned()),
        };
        if let Some(state) = state {
            status.link = state.link;
            status.link_seconds = Some(state.age().as_secs());
            status.link_reason = state.reason;
        }
        status
    }

    /// Problems of uplinks: those without link, and those whose MTU is below that of attachments.
    pub(super) fn uplink_problems(&self) -> Vec<String> {
        let mut problems = self.uplinks.problems();
        let vfs = locked(&self.vf_links);
        problems.extend(vfs.iter().filter_map(|(name, state)| state.problem(name)));
        drop(vfs);
        for name in self.uplinks.names() {
            problems.extend(self.short_mtu(&name));
        }
        problems
    }

    /// Problem of an uplink whose MTU is below that of attachments.
    fn short_mtu(&self, uplink: &str) -> Option<String> {
        let mtu = self.uplinks.get(uplink)?.info().mtu;
        let all = self.attachments.all();
        let longer = all.iter().filter_map(|(_, live)| {
            let is_on_it = live.request().vf.is_none() && live.request().uplink == uplink;
            (is_on_it && live.record.mtu > mtu).then_some(live.record.mtu)
        });
        let longer: Vec<u32> = longer.collect();
        let most = longer.iter().max()?;
        Some(format!(
            "uplink {uplink} has an MTU of {mtu}, and {} of its attachments have more (up to {most}): \
             what they send that is longer is dropped as `too_long`; raise the netdev's MTU to {most}",
            longer.len()
        ))
    }

    /// Looks at attachments' own VFs: gives up those that the kernel wants back or that are gone, takes up
    /// those that are back, and notes the links of all. Returns whether one was given up: others of its PF
    /// follow.
    pub(super) fn look_at_vfs(&self) -> bool {
        let all = self.attachments.all();
        let mut names = Vec::new();
        let mut gave_up = false;
        for (_, live) in &all {
            let (Some(id), Some(vf)) = (live.vf, &live.request().vf) else {
                continue;
            };
            let pf = &live.request().uplink;
            let trouble = self.vfs.trouble(&vf.address, pf);
            let (link, reason) = match self.renew_vf(id, trouble.as_ref()) {
                Renewed::Away { reason, now } => {
                    gave_up |= now;
                    (LinkState::Gone, Some(reason))
                }
                Renewed::Open => {
                    let Ok(report) = self.engine.try_with(|engine| engine.uplink_report(id)) else {
                        continue;
                    };
                    link_of(report.link, trouble, pf)
                }
                Renewed::Closed => continue,
            };
            let mut links = locked(&self.vf_links);
            let state = links.entry(vf.address.clone());
            let state = state.or_insert_with(UplinkState::up);
            state.note(&format!("{} of {pf}", vf.address), link, reason);
            names.push(vf.address.clone());
        }
        locked(&self.vf_links).retain(|name, _| names.contains(name));
        gave_up
    }
}

/// State of the link of an open VF, from its port's report and what its PF shows.
fn link_of(
    reported: LinkState,
    trouble: Option<(LinkState, String)>,
    pf: &str,
) -> (LinkState, Option<String>) {
    match (reported, trouble) {
        (_, Some((LinkState::Gone, reason))) => (LinkState::Gone, Some(reason)),
        (LinkState::Up, _) => (LinkState::Up, None),
        (link, Some((_, reason))) => (link, Some(reason)),
        (LinkState::Down, None) => (LinkState::Down, Some(format!("PF {pf} reports no link"))),
        (LinkState::Waiting, None) => (
            LinkState::Waiting,
            Some(format!(
                "PF {pf} does not answer, or refuses it: see the kernel's log"
            )),
        ),
        (LinkState::Gone, None) => (
            LinkState::Gone,
            Some("the device does not answer: it was removed, or is being reset".to_owned()),
        ),
    }
}
