// SPDX-License-Identifier: Apache-2.0
//! Counters of uplinks, attachments and rules.

use std::collections::BTreeMap;

use sluice_api::{ApiError, AttachmentCounters, Counters, RuleCounter, UplinkStatus};
use sluice_datapath::{AttachmentSnapshot, Drops, Engine, UplinkSnapshot};

use super::Control;

impl Control {
    /// Returns all counters, each exact, not all of one moment.
    ///
    /// # Errors
    /// The engine is shutting down.
    pub fn counters(&self) -> Result<Counters, ApiError> {
        let snapshot = self.engine.with(Engine::snapshot)?;
        Ok(Counters {
            uplinks: snapshot
                .uplinks
                .iter()
                .map(|found| {
                    (
                        found.name.clone(),
                        self.with_link(uplink_status(found, self.owner_of(found.id))),
                    )
                })
                .collect(),
            attachments: snapshot
                .attachments
                .iter()
                .map(|found| (found.name.clone(), attachment_counters(found)))
                .collect(),
            rules: snapshot
                .rules
                .iter()
                .map(|rule| RuleCounter {
                    policy: rule.policy.clone(),
                    direction: rule.direction.to_string(),
                    rule: rule.rule.clone(),
                    line: rule.line,
                    verdict: rule.verdict.to_string(),
                    frames: rule.frames,
                    bytes: rule.bytes,
                })
                .collect(),
        })
    }
}

/// Status of an uplink; `owner` is the attachment whose own it is.
pub(super) fn uplink_status(found: &UplinkSnapshot, owner: Option<String>) -> UplinkStatus {
    UplinkStatus {
        name: found.name.clone(),
        network: found.network.clone(),
        owner,
        link: found.report.link,
        link_seconds: None,
        link_reason: None,
        nic: found.report.nic,
        driver: found.driver.to_owned(),
        device: found.device.clone(),
        worker: found.worker,
        mtu: found.mtu,
        counters: found.traffic,
        drops: drops(&found.drops),
    }
}

/// Counters of an attachment.
pub(super) fn attachment_counters(found: &AttachmentSnapshot) -> AttachmentCounters {
    AttachmentCounters {
        port: found.traffic,
        ingress_drops: drops(&found.ingress_drops),
        egress_drops: drops(&found.egress_drops),
        lost_log_records: found.lost_log_records,
        refused_groups: found.refused_groups,
    }
}

fn drops(drops: &Drops) -> BTreeMap<String, u64> {
    drops
        .iter()
        .map(|(reason, count)| ((*reason).to_owned(), *count))
        .collect()
}
