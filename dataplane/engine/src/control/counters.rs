// SPDX-License-Identifier: Apache-2.0
//! Counters of uplinks, attachments, workers and rules, and whether they balance.

use std::collections::BTreeMap;

use sluice_api::{
    ApiError, AttachmentCounters, Balance, BalanceSums, Counters, RuleCounter, UplinkStatus,
};
use sluice_datapath::{AttachmentSnapshot, Drops, Engine, Snapshot, UplinkSnapshot};

use sluice_host::topology::node_of_device;

use super::Control;
use super::status::workers;

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
            workers: workers(&snapshot),
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

impl Control {
    /// Returns the balance of the counters, exact while frames flow.
    ///
    /// # Errors
    /// The engine is shutting down, or a worker does not answer.
    pub fn balance(&self) -> Result<Balance, ApiError> {
        let balances = self.engine.try_with(Engine::balances)?;
        let snapshot = self.engine.with(Engine::snapshot)?;
        let mut total = sluice_datapath::Balance::default();
        balances.iter().for_each(|one| total.add(one));
        Ok(Balance {
            balanced: total.holds(),
            total: sums(&total),
            workers: balances.iter().map(sums).collect(),
            drops: all_drops(&snapshot),
        })
    }
}

fn sums(balance: &sluice_datapath::Balance) -> BalanceSums {
    BalanceSums {
        received: balance.received,
        copied: balance.copied,
        answered: balance.answered,
        sent: balance.sent,
        flooded: balance.flooded,
        dropped: balance.dropped,
        in_flight: balance.in_flight.cast_signed(),
        difference: balance.difference(),
    }
}

/// Sums of the drops by reason over everything that counts them.
fn all_drops(snapshot: &Snapshot) -> BTreeMap<String, u64> {
    let attachments = snapshot.attachments.iter();
    let workers = snapshot.workers.iter();
    let all = attachments
        .flat_map(|one| [&one.ingress_drops, &one.egress_drops])
        .chain(workers.flat_map(|one| [&one.drops, &one.gone_drops]))
        .chain(snapshot.uplinks.iter().map(|one| &one.drops));
    let mut sums = BTreeMap::new();
    for (reason, count) in all.flatten() {
        *sums.entry((*reason).to_owned()).or_default() += count;
    }
    sums
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
        driver_reason: None,
        device: found.device.clone(),
        numa: node_of_device(&found.device),
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
        held_back: found.held_back,
        late_visits: found.late_visits,
        longest_visit_ns: found.longest_visit_ns,
        refused_groups: found.refused_groups,
        mac_moves: found.moves,
    }
}

/// Drops in the API's form.
pub(super) fn drops(drops: &Drops) -> BTreeMap<String, u64> {
    drops
        .iter()
        .map(|(reason, count)| ((*reason).to_owned(), *count))
        .collect()
}
