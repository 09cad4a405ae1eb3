// SPDX-License-Identifier: Apache-2.0
//! Form of `/api/node`: what the page draws. Counters are sums; the page makes rates of two answers and their `at_ms`.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;
use sluice_api::{AttachmentStatus, Backend, LinkState, MemoryStatus, UplinkStatus, VlanRequest};

use crate::context::Context;
use crate::node::{EngineState, names};

/// Largest number of sentences about spoofed frames of one attachment.
const MAX_ADVICE: usize = 4;

/// Picture of the node. Without the engine, everything of it is empty.
#[derive(Debug, Serialize)]
pub(super) struct Picture<'a> {
    /// Name of the node.
    node: &'a str,
    /// Version of the agent.
    agent: &'static str,
    /// Time of the figures, from any moment on.
    at_ms: f64,
    engine: Option<EngineFacts<'a>>,
    /// Problems that an operator should look at.
    problems: Vec<String>,
    parts: Vec<Part>,
    uplinks: Vec<Uplink<'a>>,
    segments: Vec<Segment<'a>>,
    attachments: Vec<Attachment<'a>>,
    workers: Vec<Worker<'a>>,
    memory: Option<&'a MemoryStatus>,
    balance: Option<Balanced>,
    /// Frames dropped by reason, over all ports, those that are gone included.
    drops: BTreeMap<&'a str, u64>,
}

#[derive(Debug, Serialize)]
struct EngineFacts<'a> {
    version: &'a str,
    ready: bool,
    degraded: bool,
    uptime_seconds: u64,
    policy_version: u64,
}

#[derive(Debug, Serialize)]
struct Part {
    name: &'static str,
    ready: bool,
    problem: String,
    restarts: u64,
}

#[derive(Debug, Serialize)]
struct Uplink<'a> {
    name: &'a str,
    network: &'a str,
    owner: Option<&'a str>,
    link: LinkState,
    link_reason: Option<&'a str>,
    driver: &'a str,
    device: &'a str,
    worker: usize,
    rx_frames: u64,
    rx_bytes: u64,
    tx_frames: u64,
    tx_bytes: u64,
    drops: &'a BTreeMap<String, u64>,
}

#[derive(Debug, Serialize)]
struct Segment<'a> {
    network: &'a str,
    vid: u16,
    policy: Option<&'a str>,
}

/// Attachment; `rx` is what the pod received.
#[derive(Debug, Serialize)]
struct Attachment<'a> {
    id: u32,
    namespace: &'a str,
    pod: &'a str,
    interface: &'a str,
    network: &'a str,
    vids: Vec<u16>,
    trunk: bool,
    mac: &'a str,
    backend: &'static str,
    worker: usize,
    link: LinkState,
    last_down: Option<&'a str>,
    rx_frames: u64,
    rx_bytes: u64,
    tx_frames: u64,
    tx_bytes: u64,
    ingress_drops: BTreeMap<&'a str, u64>,
    egress_drops: BTreeMap<&'a str, u64>,
    held_back: u64,
    advice: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Worker<'a> {
    id: usize,
    core: Option<usize>,
    loops: u64,
    empty_loops: u64,
    busy_cycles: u64,
    idle_cycles: u64,
    drops: &'a BTreeMap<String, u64>,
}

#[derive(Debug, Serialize)]
struct Balanced {
    balanced: bool,
    difference: i64,
}

impl<'a> Picture<'a> {
    /// Draws what there is. `at` is the time since any moment.
    pub(super) fn new(
        context: &'a Context,
        at: Duration,
        engine: Result<&'a EngineState, &String>,
    ) -> Picture<'a> {
        let parts: Vec<Part> = context.health.all().into_iter().map(part).collect();
        let mut problems = match engine {
            Ok(state) => state.status.health.problems.clone(),
            Err(error) => vec![error.clone()],
        };
        let troubled = parts.iter().filter(|part| !part.problem.is_empty());
        problems.extend(troubled.map(|part| format!("agent, {}: {}", part.name, part.problem)));
        let state = engine.ok();
        let status = state.map(|state| &state.status);
        let balance = state.map(|state| &state.balance);
        let uplinks = status.map_or(&[][..], |status| &status.uplinks);
        let segments = status.map_or(&[][..], |status| &status.segments);
        let workers = status.map_or(&[][..], |status| &status.workers);
        Picture {
            node: &context.config.node,
            agent: env!("CARGO_PKG_VERSION"),
            at_ms: at.as_secs_f64() * 1000.0,
            engine: status.map(|status| EngineFacts {
                version: &status.health.version,
                ready: status.health.ready,
                degraded: status.health.degraded,
                uptime_seconds: status.uptime_seconds,
                policy_version: status.policy_version,
            }),
            problems,
            parts,
            segments: segments
                .iter()
                .map(|segment| Segment {
                    network: uplinks
                        .iter()
                        .find(|uplink| uplink.name == segment.uplink)
                        .map_or(segment.uplink.as_str(), network),
                    vid: segment.vid,
                    policy: segment.policy.as_deref(),
                })
                .collect(),
            uplinks: uplinks.iter().map(uplink).collect(),
            attachments: state
                .map_or(&[][..], |state| &state.attachments)
                .iter()
                .map(attachment)
                .collect(),
            workers: workers
                .iter()
                .map(|worker| Worker {
                    id: worker.id,
                    core: worker.core,
                    loops: worker.loops,
                    empty_loops: worker.empty_loops,
                    busy_cycles: worker.busy_cycles,
                    idle_cycles: worker.idle_cycles,
                    drops: &worker.drops,
                })
                .collect(),
            memory: status.map(|status| &status.memory),
            balance: balance.map(|balance| Balanced {
                balanced: balance.balanced,
                difference: balance.total.difference,
            }),
            drops: balance.map_or_else(BTreeMap::new, |balance| not_0(&balance.drops)),
        }
    }
}

fn part((name, health): (&'static str, crate::parts::PartHealth)) -> Part {
    Part {
        name,
        ready: health.ready,
        problem: health.problem,
        restarts: health.restarts,
    }
}

/// Network of an uplink: its own name with engines that do not tell.
fn network(uplink: &UplinkStatus) -> &str {
    if uplink.network.is_empty() {
        &uplink.name
    } else {
        &uplink.network
    }
}

fn uplink(uplink: &UplinkStatus) -> Uplink<'_> {
    Uplink {
        name: &uplink.name,
        network: network(uplink),
        owner: uplink.owner.as_deref(),
        link: uplink.link,
        link_reason: uplink.link_reason.as_deref(),
        driver: &uplink.driver,
        device: &uplink.device,
        worker: uplink.worker,
        rx_frames: uplink.counters.rx_frames,
        rx_bytes: uplink.counters.rx_bytes,
        tx_frames: uplink.counters.tx_frames,
        tx_bytes: uplink.counters.tx_bytes,
        drops: &uplink.drops,
    }
}

fn attachment(attachment: &AttachmentStatus) -> Attachment<'_> {
    let (namespace, pod, interface) = names(attachment);
    let request = &attachment.request;
    let (vids, trunk) = match &request.vlan {
        VlanRequest::Access { vid, .. } => (vec![vid.get()], false),
        VlanRequest::Trunk { vids, native, .. } => {
            let mut all: Vec<u16> = vids.iter().chain(native).map(|vid| vid.get()).collect();
            all.sort_unstable();
            all.dedup();
            (all, true)
        }
    };
    let counters = &attachment.counters;
    Attachment {
        id: attachment.id,
        namespace,
        pod,
        interface,
        network: &request.uplink,
        vids,
        trunk,
        mac: &attachment.mac,
        backend: match (&request.backend, &request.vf) {
            (Backend::Memif(_), None) => "memif",
            (Backend::Memif(_), Some(_)) => "memif on a VF of its own",
            (Backend::VhostUser(_), None) => "vhost-user",
            (Backend::VhostUser(_), Some(_)) => "vhost-user on a VF of its own",
            (Backend::Tap {}, None) => "tap",
            (Backend::Tap {}, Some(_)) => "tap on a VF of its own",
        },
        worker: attachment.worker,
        link: attachment.link,
        last_down: attachment.last_down.as_deref(),
        // What the engine sends is what the pod receives.
        rx_frames: counters.port.tx_frames,
        rx_bytes: counters.port.tx_bytes,
        tx_frames: counters.port.rx_frames,
        tx_bytes: counters.port.rx_bytes,
        ingress_drops: not_0(&counters.ingress_drops),
        egress_drops: not_0(&counters.egress_drops),
        held_back: counters.held_back,
        advice: attachment
            .spoofed
            .iter()
            .take(MAX_ADVICE)
            .map(|frame| format!("{} {}", frame.sent, frame.advice))
            .collect(),
    }
}

/// Drops that there were.
fn not_0(drops: &BTreeMap<String, u64>) -> BTreeMap<&str, u64> {
    let there = drops.iter().filter(|(_, frames)| **frames != 0);
    there
        .map(|(reason, frames)| (reason.as_str(), *frames))
        .collect()
}
