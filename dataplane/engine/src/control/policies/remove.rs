// SPDX-License-Identifier: Apache-2.0
//! Removing a policy: refused while an attachment is judged by it, as that would carry nothing from
//! then on. Both count: what is in force, and what is in the folder, which somebody may have changed since.

use sluice_api::{ApiError, PolicyReport, VlanRequest};
use sluice_firewall::PolicySet;
use sluice_packet::Vid;

use super::super::live::LiveAttachment;
use super::super::{Control, locked};
use super::report;
use crate::refusal;
use sluice_policies as policies;

/// Most attachments that a refusal names.
const MOST_NAMES: usize = 8;

impl Control {
    /// Removes a policy from the folder and from those in force. With `force` also one by which VLANs with
    /// attachments are judged: these carry nothing from then on. One that an attachment names as its own
    /// stays in any case.
    ///
    /// # Errors
    /// There is no such policy, it is in use, the folder cannot be written, or a worker does not answer;
    /// nothing was changed. Problems of the policies that stay are in the report.
    pub fn remove_policy(&self, name: &str, force: bool) -> Result<PolicyReport, ApiError> {
        let mut in_force = locked(&self.in_force);
        let old = match self.policies.read() {
            Ok(old) => old,
            Err(problems) => return Ok(report(problems, in_force.version)),
        };
        let compiled = match policies::compile(in_force.version, &old, None) {
            Ok(compiled) => compiled,
            Err(problems) => return Ok(report(problems, in_force.version)),
        };
        let judging = self.engine.with(|engine| engine.policies())?;
        let Some(index) = compiled.set.named(name) else {
            let folder = self.policies.path().display();
            return Err(refusal::not_found(if judging.named(name).is_some() {
                format!(
                    "policy `{name}` is in force, but gone from {folder}: have the engine read the \
                     folder again (SIGHUP)"
                )
            } else {
                format!(
                    "there is no policy `{name}` in {folder}: `sluicectl policies list` shows those in \
                     force"
                )
            }));
        };
        self.not_in_use([&judging, &compiled.set], name, force)?;
        let mut new = old.clone();
        new.remove(compiled.set.policy(index).file());
        self.replace_policies(&old, new, &mut in_force)
    }

    fn not_in_use(&self, sets: [&PolicySet; 2], name: &str, force: bool) -> Result<(), ApiError> {
        let (mut own, mut vlan) = (Vec::new(), Vec::new());
        for (key, attachment) in self.attachments.all() {
            if attachment.request().firewall.as_deref() == Some(name) {
                own.push(key.to_string());
            } else if sets.iter().any(|set| is_judged_by(&attachment, set, name)) {
                vlan.push(key.to_string());
            }
        }
        if !own.is_empty() {
            return Err(refusal::conflict(format!(
                "policy `{name}` is the own policy of {}: detach them first",
                some(&own)
            )));
        }
        if !vlan.is_empty() && !force {
            return Err(refusal::conflict(format!(
                "policy `{name}` is that of the VLANs of {}, which would carry nothing without it: \
                 detach them first, or use --force to cut them off",
                some(&vlan)
            )));
        }
        Ok(())
    }
}

/// Whether a VLAN of the attachment is judged by the policy of this name.
fn is_judged_by(attachment: &LiveAttachment, set: &PolicySet, name: &str) -> bool {
    let request = attachment.request();
    let judged = |vid: &Vid| {
        set.segment(&request.uplink, *vid)
            .is_some_and(|index| set.policy(index).name() == name)
    };
    match &request.vlan {
        VlanRequest::Access { vid, .. } => judged(vid),
        VlanRequest::Trunk { vids, native, .. } => vids.iter().chain(native).any(judged),
    }
}

/// Names the first few.
fn some(names: &[String]) -> String {
    let shown = names.iter().take(MOST_NAMES).cloned().collect::<Vec<_>>();
    match names.len().saturating_sub(MOST_NAMES) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lists_are_cut() {
        let names: Vec<String> = (0..10).map(|number| format!("c{number}/net1")).collect();
        assert_eq!(some(&names[..2]), "c0/net1, c1/net1");
        assert!(some(&names).ends_with("c7/net1 and 2 more"));
    }
}
