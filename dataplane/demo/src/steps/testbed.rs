// SPDX-License-Identifier: Apache-2.0
//! The wire, the node, the trunk between them, and the engine on the node's end of it.

use std::sync::Arc;

use crate::Scene;
use crate::engine::Engine;
use crate::failure::{Failure, expect_eq};
use crate::namespace::Namespace;
use crate::plan::{self, UPLINK, UPLINK_DEVICE, WIRE_DEVICE};
use crate::report::Findings;
use crate::wire::WireHost;

/// Wire, engine and node that pods are attached to.
#[derive(Debug)]
pub(crate) struct Testbed<'a> {
    // In this order: the engine gives its uplink back before the namespaces go.
    pub(crate) host: WireHost,
    pub(crate) engine: Engine<'a>,
    pub(crate) node: Arc<Namespace>,
    pub(crate) wire: Arc<Namespace>,
}

pub(crate) fn prepare<'a>(
    scene: &'a Scene,
    findings: &mut Findings,
) -> Result<Testbed<'a>, Failure> {
    let (home, ip) = (&scene.home, &scene.programs.ip);
    let wire = Arc::new(Namespace::add(ip, &format!("{}-wire", home.mark()))?);
    let node = Arc::new(Namespace::add(ip, &format!("{}-node", home.mark()))?);
    // A switch has no stack of its own on the trunk.
    wire.silence_ipv6()?;
    wire.veth(WIRE_DEVICE, &node, UPLINK_DEVICE)?;
    let host = WireHost::open(&wire, WIRE_DEVICE)?;

    home.write("policies/voice.yaml", &plan::voice("accept"))?;
    home.write("policies/data.yaml", &plan::data())?;
    home.write("policies/hundred.yaml", &plan::hundred())?;
    let config = home.write("sluiced.yaml", &plan::engine_config(home))?;
    let engine = Engine::start(scene, &node, &config)?;

    let status = engine.ask("its status", |client| client.status())?;
    let uplinks: Vec<&str> = status.uplinks.iter().map(|uplink| &*uplink.name).collect();
    expect_eq("the engine's uplinks", &vec![UPLINK], &uplinks)?;
    let policies = engine.ask("its policies", |client| client.policies())?;
    expect_eq("the number of policies in force", &3, &policies.len())?;
    let worker = status.workers.first();
    let core = worker
        .and_then(|worker| worker.core)
        .map_or("no core".to_owned(), |core| format!("core {core}"));
    let memory = status.memory.backing.clone();
    findings.line(format!(
        "{} ═ {} (uplink {UPLINK}), sluiced pid {}: {} worker pinned to {core}, mbufs on {memory}, \
         {} policies",
        wire.name(),
        node.name(),
        engine.pid(),
        status.workers.len(),
        policies.len(),
    ));
    findings.fact("engine_pid", engine.pid());
    findings.fact("workers", status.workers.len());
    findings.fact("memory", memory);
    Ok(Testbed {
        host,
        engine,
        node,
        wire,
    })
}
