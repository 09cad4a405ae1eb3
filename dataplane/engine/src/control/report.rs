//! How the engine is, in the API's words.

use std::collections::BTreeMap;

use sluice_api::{
    ApiError, AttachmentCounters, AttachmentStatus, Counters, Health, LinkState, MbufCounts,
    MemoryStatus, RuleCounter, SegmentStatus, Status, UplinkStatus, WorkerStatus,
};
use sluice_datapath::{
    AttachmentSnapshot, Drops, Engine, MemorySnapshot, Snapshot, UplinkSnapshot,
};
use sluice_mem::Backing;

use super::attach::segment;
use super::slots::Key;
use super::{Attachment, Control, locked};
use crate::links::LinkReport;
use crate::refusal;

impl Control {
    /// Whether attachments are taken, and what an operator should look at.
    pub fn health(&self) -> Health {
        let ready = self.is_ready();
        let mut problems: Vec<String> = ready
            .as_ref()
            .err()
            .map(|error| error.message.clone())
            .into_iter()
            .collect();
        problems.extend(locked(&self.problems).values().cloned());
        if let Ok(snapshot) = self.engine.ask(Engine::snapshot) {
            problems.extend(silent_segments(&snapshot));
        }
        Health {
            ready: ready.is_ok(),
            problems,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
        }
    }

    /// Everything but the attachments and rules one by one.
    ///
    /// # Errors
    /// The engine is stopping.
    pub fn status(&self) -> Result<Status, ApiError> {
        let (snapshot, memory) = self
            .engine
            .ask(|engine| (engine.snapshot(), engine.memory()))?;
        Ok(Status {
            health: self.health(),
            uptime_seconds: self.started.elapsed().as_secs(),
            workers: workers(&snapshot),
            memory: memory_status(&memory),
            uplinks: snapshot
                .uplinks
                .iter()
                .map(|found| uplink(found, self.owner_of(found.id)))
                .collect(),
            segments: snapshot
                .segments
                .iter()
                .map(|segment| SegmentStatus {
                    uplink: segment.uplink.clone(),
                    vid: segment.vid.get(),
                    policy: segment.policy.clone(),
                    attachments: segment.attachments,
                })
                .collect(),
            attachments: snapshot.attachments.len(),
            policy_version: snapshot.policy_version,
        })
    }

    /// Every attachment.
    ///
    /// # Errors
    /// The engine is stopping.
    pub fn attachments(&self) -> Result<Vec<AttachmentStatus>, ApiError> {
        let snapshot = self.engine.ask(Engine::snapshot)?;
        let all = self.attachments.all();
        Ok(all
            .iter()
            .map(|(_, attachment)| status_of(attachment, &snapshot))
            .collect())
    }

    /// One attachment.
    ///
    /// # Errors
    /// There is none, or the engine is stopping.
    pub fn attachment(
        &self,
        container_id: &str,
        ifname: &str,
    ) -> Result<AttachmentStatus, ApiError> {
        let key = Key {
            container_id: container_id.to_owned(),
            ifname: ifname.to_owned(),
        };
        let attachment = self
            .attachments
            .get(&key)
            .ok_or_else(|| refusal::not_found(format!("there is no attachment {key}")))?;
        let snapshot = self.engine.ask(Engine::snapshot)?;
        Ok(status_of(&attachment, &snapshot))
    }

    /// All counters.
    ///
    /// # Errors
    /// The engine is stopping.
    pub fn counters(&self) -> Result<Counters, ApiError> {
        let snapshot = self.engine.ask(Engine::snapshot)?;
        Ok(Counters {
            uplinks: snapshot
                .uplinks
                .iter()
                .map(|found| (found.name.clone(), uplink(found, self.owner_of(found.id))))
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

/// Segments that attachments are in and that carry nothing.
fn silent_segments(snapshot: &Snapshot) -> Vec<String> {
    let silent = snapshot
        .segments
        .iter()
        .filter(|found| found.policy.is_none());
    silent
        .filter(|found| found.attachments > 0)
        .map(|found| {
            format!(
                "{} of {} has {} attachments and no policy, so it carries nothing: apply a policy \
                 for it",
                segment(found.vid),
                found.uplink,
                found.attachments
            )
        })
        .collect()
}

fn workers(snapshot: &Snapshot) -> Vec<WorkerStatus> {
    let worker = |(id, found): (usize, &sluice_datapath::WorkerSnapshot)| WorkerStatus {
        id,
        core: found.core,
        loops: found.loops,
        empty_loops: found.empty_loops,
        sleeps: found.sleeps,
        known: found.known,
        learned: found.learned,
    };
    snapshot.workers.iter().enumerate().map(worker).collect()
}

fn memory_status(memory: &MemorySnapshot) -> MemoryStatus {
    let counts = |pool: &sluice_mem::Conservation| MbufCounts {
        all: pool.all.into(),
        free: pool.free.into(),
        in_flight: pool.in_flight.into(),
    };
    let backing = match memory.backing {
        Backing::Huge => "hugetlb",
        Backing::Ordinary => "ordinary pages",
    };
    MemoryStatus {
        small: counts(&memory.small),
        large: counts(&memory.large),
        backing: backing.to_owned(),
    }
}

fn uplink(found: &UplinkSnapshot, owner: Option<String>) -> UplinkStatus {
    UplinkStatus {
        name: found.name.clone(),
        network: found.network.clone(),
        owner,
        link: found.report.link,
        nic: found.report.nic,
        driver: found.driver.to_owned(),
        device: found.device.clone(),
        worker: found.worker,
        mtu: found.mtu,
        counters: found.traffic,
        drops: drops(&found.drops),
    }
}

fn status_of(attachment: &Attachment, snapshot: &Snapshot) -> AttachmentStatus {
    let link = locked(&attachment.link)
        .as_ref()
        .map(crate::links::Link::report);
    let LinkReport {
        up,
        peer,
        last_down,
    } = link.unwrap_or_default();
    let found = snapshot
        .attachments
        .iter()
        .find(|found| found.id == attachment.id);
    // The engine alone knows whether frames flow.
    let up = up && found.is_some_and(|found| found.connected);
    AttachmentStatus {
        id: attachment.id.to_u32(),
        request: attachment.request.clone(),
        mac: attachment.mac.to_string(),
        mtu: attachment.mtu,
        socket: attachment.reply.socket.clone(),
        worker: attachment.worker,
        link: LinkState::of_peer(up),
        last_down,
        peer,
        counters: found.map(attachment_counters).unwrap_or_default(),
    }
}

fn attachment_counters(found: &AttachmentSnapshot) -> AttachmentCounters {
    AttachmentCounters {
        port: found.traffic,
        ingress_drops: drops(&found.ingress_drops),
        egress_drops: drops(&found.egress_drops),
    }
}

fn drops(drops: &Drops) -> BTreeMap<String, u64> {
    drops
        .iter()
        .map(|(reason, count)| ((*reason).to_owned(), *count))
        .collect()
}
