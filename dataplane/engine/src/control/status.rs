// SPDX-License-Identifier: Apache-2.0
//! Status of the engine: workers, memory, uplinks and segments.

use std::collections::BTreeMap;

use sluice_api::{
    ApiError, GroupStatus, MbufCounts, MemoryStatus, SegmentStatus, Status, WorkerConnections,
    WorkerStatus,
};
use sluice_datapath::{
    ConnectionFigures, Engine, GroupMembership, MemorySnapshot, SegmentId, Snapshot,
};
use sluice_host::topology::Topology;
use sluice_mem::Backing;

use super::Control;
use super::counters::{drops, uplink_status};

impl Control {
    /// Returns the status of the engine, without its attachments and rules one by one.
    ///
    /// # Errors
    /// The engine is shutting down.
    pub fn status(&self) -> Result<Status, ApiError> {
        let (snapshot, memory) = self
            .engine
            .with(|engine| (engine.snapshot(), engine.memory()))?;
        // A worker that does not answer is told elsewhere.
        let memberships = self.engine.try_with(Engine::groups).unwrap_or_default();
        let mut groups = groups_of(&snapshot, &memberships);
        Ok(Status {
            health: self.health(),
            uptime_seconds: self.started.elapsed().as_secs(),
            workers: workers(&snapshot),
            memory: memory_status(&memory),
            uplinks: snapshot
                .uplinks
                .iter()
                .map(|found| self.with_link(uplink_status(found, self.owner_of(found.id))))
                .collect(),
            segments: snapshot
                .segments
                .iter()
                .map(|segment| SegmentStatus {
                    uplink: segment.uplink.clone(),
                    vid: segment.vid.get(),
                    policy: segment.policy.clone(),
                    attachments: segment.attachments,
                    groups: groups.remove(&segment.id).unwrap_or_default(),
                })
                .collect(),
            attachments: snapshot.attachments.len(),
            policy_version: snapshot.policy_version,
            requests: self.requests.status(),
        })
    }
}

/// Groups of each segment, with the names of their members.
fn groups_of(
    snapshot: &Snapshot,
    memberships: &[GroupMembership],
) -> BTreeMap<SegmentId, Vec<GroupStatus>> {
    let attachments = snapshot.attachments.iter();
    let names: BTreeMap<_, _> = attachments.map(|found| (found.id, &found.name)).collect();
    let mut members: BTreeMap<_, Vec<String>> = BTreeMap::new();
    for one in memberships {
        if let Some(&name) = names.get(&one.attachment) {
            let group = members.entry((one.segment, one.group)).or_default();
            group.push(name.clone());
        }
    }
    let mut groups: BTreeMap<_, Vec<GroupStatus>> = BTreeMap::new();
    for ((segment, address), mut members) in members {
        members.sort_unstable();
        let found = groups.entry(segment).or_default();
        found.push(GroupStatus { address, members });
    }
    groups
}

/// Status and counters of the workers.
pub(super) fn workers(snapshot: &Snapshot) -> Vec<WorkerStatus> {
    let topology = Topology::default();
    let worker = |(id, found): (usize, &sluice_datapath::WorkerSnapshot)| WorkerStatus {
        id,
        core: found.core,
        loops: found.loops,
        empty_loops: found.empty_loops,
        sleeps: found.sleeps,
        numa: found.core.and_then(|core| topology.node_of(core)),
        busy_cycles: found.busy_cycles,
        idle_cycles: found.idle_cycles,
        cycles_per_ms: found.cycles_per_ms,
        burst_frames: found.bursts.to_vec(),
        burst_frames_sum: found.burst_frames,
        known: found.flow_hits,
        learned: found.flow_inserts,
        connections: connections(&found.connections),
        drops: drops(&found.drops),
        lost_log_records: found.lost_log_records,
        copies: found.copies,
        flooded: found.flooded,
        answers: found.answers,
        handed_off: found.handed_off,
        taken_over: found.taken_over,
        gone_traffic: found.gone_traffic,
        gone_drops: drops(&found.gone_drops),
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

fn connections(found: &ConnectionFigures) -> WorkerConnections {
    let named = |figures: &[(&str, u64)]| {
        let figures = figures.iter();
        figures
            .map(|&(name, count)| (name.to_owned(), count))
            .collect()
    };
    WorkerConnections {
        now: found.now,
        opened: found.opened,
        evicted: found.evicted,
        refused: named(&found.refused),
        invalid: named(&found.invalid),
    }
}
