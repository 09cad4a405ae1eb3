// SPDX-License-Identifier: Apache-2.0
//! Reading counters and events, with the names that people know things by.

use sluice_firewall::Direction;
use sluice_firewall::connections::{Cause, Refusal};
use sluice_packet::Vid;

use crate::control::figures::{
    AttachmentSnapshot, ConnectionFigures, Event, LogRecord, LostRecords, RuleSnapshot,
    SegmentSnapshot, Snapshot, UplinkSnapshot, WorkerSnapshot, drops_of,
};
use crate::control::link::WorkerLink;
use crate::control::topology::{AttachmentRecord, Topology};
use crate::counters::{ConnectionCounts, WorkerCounts};
use crate::drops::DropReason;
use crate::ids::{SegmentId, UplinkId};
use crate::pipeline::event::{RawRecord, WorkerEvent};
use crate::ports::seam::PodPort;

/// Core and counts of a worker.
pub(crate) type Figures<'a> = (Option<usize>, &'a WorkerCounts);

fn connections(counts: &ConnectionCounts) -> ConnectionFigures {
    let refused = Refusal::ALL.iter().zip(&counts.refused);
    let invalid = Cause::ALL.iter().zip(&counts.invalid);
    ConnectionFigures {
        now: counts.now.get(),
        opened: counts.opened.get(),
        evicted: counts.evicted.get(),
        refused: refused
            .map(|(reason, count)| (reason.as_str(), count.get()))
            .filter(|(_, count)| *count != 0)
            .collect(),
        invalid: invalid
            .map(|(cause, count)| (cause.as_str(), count.get()))
            .filter(|(_, count)| *count != 0)
            .collect(),
    }
}

/// Everything that is counted.
pub(crate) fn read(topology: &Topology, workers: &[Figures<'_>]) -> Snapshot {
    Snapshot {
        workers: workers
            .iter()
            .map(|&(core, counts)| WorkerSnapshot {
                core,
                loops: counts.loops.get(),
                empty_loops: counts.empty_loops.get(),
                sleeps: counts.sleeps.get(),
                busy_cycles: counts.busy_cycles.get(),
                idle_cycles: counts.idle_cycles.get(),
                cycles_per_ms: counts.cycles_per_ms.get(),
                bursts: counts.bursts.read(),
                burst_frames: counts.bursts.frames(),
                flow_hits: counts.flow_hits.get(),
                flow_inserts: counts.flow_inserts.get(),
                connections: connections(&counts.connections),
                drops: drops_of(&[&counts.drops]),
                lost_log_records: counts.lost_records.get(),
                copies: counts.copies.get(),
                flooded: counts.flooded.get(),
                answers: counts.answers.get(),
                handed_off: counts.handed_off.get(),
                taken_over: counts.taken_over.get(),
                gone_traffic: counts.gone.traffic.read(),
                gone_drops: drops_of(&[&counts.gone.drops, &counts.gone.rx_lost]),
            })
            .collect(),
        uplinks: uplinks(topology),
        segments: segments(topology),
        attachments: topology
            .attachments()
            .map(|record| attachment(record, workers))
            .collect(),
        rules: rules(topology),
        policy_version: topology.policies.version(),
    }
}

fn attachment(record: &AttachmentRecord, workers: &[Figures<'_>]) -> AttachmentSnapshot {
    let counts = &record.counts;
    let mut ingress_drops = drops_of(&[&counts.ingress_drops, counts.late.drops()]);
    let elsewhere = counts.handoff_full.get();
    if elsewhere > 0 {
        *ingress_drops
            .entry(DropReason::HandoffFull.name())
            .or_default() += elsewhere;
    }
    let cycles_per_ms = workers
        .get(record.worker.index())
        .map_or(0, |(_, counts)| counts.cycles_per_ms.get());
    let longest = u128::from(counts.longest_visit.get()) * 1_000_000;
    let longest = longest.checked_div(cycles_per_ms.into()).unwrap_or(0);
    AttachmentSnapshot {
        id: record.id,
        name: record.spec.name.clone(),
        worker: record.worker.index(),
        connected: record.connected,
        link_locals: record.identity.claimed(),
        traffic: counts.all_traffic(),
        ingress_drops,
        egress_drops: drops_of(&[
            &counts.egress_drops,
            &counts.rx_lost,
            counts.late.unread_drops(),
        ]),
        lost_log_records: counts.lost_records.get(),
        refused_groups: counts.refused_groups.get(),
        learned: record.identity.learned.get(),
        moves: counts.mac_moves.get(),
        held_back: counts.held_back.get(),
        late_visits: counts.late_visits.get(),
        longest_visit_ns: u64::try_from(longest).unwrap_or(u64::MAX),
    }
}

fn uplinks(topology: &Topology) -> Vec<UplinkSnapshot> {
    let numbered = (0..).zip(&topology.uplinks);
    numbered
        .filter_map(|(number, uplink)| {
            let uplink = uplink.as_ref()?;
            Some(UplinkSnapshot {
                id: UplinkId(number),
                name: uplink.name.clone(),
                network: uplink.network.clone(),
                report: uplink.counts.report.read(),
                driver: uplink.driver,
                device: uplink.device.clone(),
                mtu: uplink.mtu,
                worker: uplink.worker.index(),
                traffic: uplink.counts.traffic.read(),
                drops: drops_of(&[&uplink.counts.drops, &uplink.counts.rx_lost]),
            })
        })
        .collect()
}

fn segments(topology: &Topology) -> Vec<SegmentSnapshot> {
    let mut members: std::collections::BTreeMap<(u16, Vid), usize> = Default::default();
    for record in topology.attachments() {
        for vid in record.spec.vlans.vids() {
            *members.entry((record.spec.uplink.0, vid)).or_default() += 1;
        }
    }
    members
        .into_iter()
        .filter_map(|((uplink, vid), attachments)| {
            let id = SegmentId::new(UplinkId(uplink), vid);
            let uplink = topology.uplink(id.uplink())?;
            let policy = topology.policies.segment(&uplink.network, vid);
            let policy = policy.map(|index| topology.policies.policy(index).name().to_owned());
            Some(SegmentSnapshot {
                id,
                uplink: uplink.network.clone(),
                vid,
                policy,
                attachments,
            })
        })
        .collect()
}

fn rules(topology: &Topology) -> Vec<RuleSnapshot> {
    let mut rules = Vec::new();
    for (_, policy) in topology.policies.iter() {
        for direction in Direction::BOTH {
            for (slot, info) in policy.rule_infos(direction).iter().enumerate() {
                let (frames, bytes) = topology.rule_total(policy.slot_base(direction) + slot);
                rules.push(RuleSnapshot {
                    policy: policy.name().to_owned(),
                    direction,
                    rule: info.label(),
                    line: info.line,
                    verdict: info.verdict,
                    frames,
                    bytes,
                });
            }
        }
    }
    rules
}

/// Takes the events that workers have posted since the last call, and the ports that they took out of
/// service: to be dropped where nobody waits for it.
pub(crate) fn take_events(
    topology: &mut Topology,
    links: &mut [WorkerLink],
) -> (Vec<Event>, Vec<Box<dyn PodPort>>) {
    let (mut events, mut ports) = (Vec::new(), Vec::new());
    for link in links {
        while let Some(event) = link.events.pop() {
            match event {
                WorkerEvent::PortFault {
                    attachment,
                    fault,
                    port,
                } => {
                    ports.push(port);
                    if let Some(record) = topology.attachment(attachment) {
                        record.connected = false;
                    }
                    events.push(Event::PortFault { attachment, fault });
                }
                WorkerEvent::LocalSource { attachment, vid } => {
                    events.push(Event::LocalSource { attachment, vid });
                }
                WorkerEvent::Spoofed(spoofed) => events.push(Event::Spoofed(spoofed)),
                WorkerEvent::Log(record) => {
                    events.extend(named(topology, record).map(Event::Log));
                }
            }
        }
        link.counts.events_taken.add(1);
    }
    (events, ports)
}

/// Reads the log records that were left out, of every attachment that lost one.
pub(crate) fn lost_records(topology: &Topology) -> Vec<LostRecords> {
    let losers = topology
        .attachments()
        .filter(|record| record.counts.lost_records.get() > 0);
    losers
        .map(|record| LostRecords {
            attachment: record.id,
            total: record.counts.lost_records.get(),
            rule: rule_of(topology, record.counts.lost_rule.get()),
        })
        .collect()
}

/// Returns policy and rule of a slot, with the version of its set above it.
fn rule_of(topology: &Topology, packed: u64) -> Option<(String, String)> {
    if packed >> 32 != topology.policies.version() & 0xffff_ffff {
        return None;
    }
    let slot = usize::try_from(packed & 0xffff_ffff).ok()?;
    for (_, policy) in topology.policies.iter() {
        for direction in Direction::BOTH {
            let rule = slot.checked_sub(policy.slot_base(direction));
            let info = rule.and_then(|rule| policy.rule_infos(direction).get(rule));
            if let Some(info) = info {
                return Some((policy.name().to_owned(), info.label()));
            }
        }
    }
    None
}

/// A record with names; `None` if its policy set was replaced meanwhile.
fn named(topology: &Topology, record: RawRecord) -> Option<LogRecord> {
    if record.set_version != topology.policies.version() {
        return None;
    }
    let policy = topology.policies.policy(record.policy);
    let info = policy.rule_info(record.direction, record.hit.rule)?;
    Some(LogRecord {
        attachment: record.attachment,
        direction: record.direction,
        policy: policy.name().to_owned(),
        rule: info.label(),
        verdict: record.hit.verdict,
        key: record.key,
    })
}
