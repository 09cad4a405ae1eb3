//! What sections share that run a whole engine: its parts, as an engine of one VLAN has them.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use sluice_benches::policy_of;
use sluice_datapath::ports::null::NullUplink;
use sluice_datapath::{
    AttachmentSpec, Engine, EngineConfig, IdleConfig, PodPort, UplinkId, UplinkSpec, VlanSet,
    WorkerConfig,
};
use sluice_firewall::PolicySet;
use sluice_mem::HugePages;
use sluice_packet::Vid;

use crate::frames::PODS;

/// A running engine, one worker for each of `cores`, with a policy of `rules` rules for VLAN 210.
pub(crate) fn start(cores: &[usize], rules: u16, idle: IdleConfig) -> Result<(Engine, UplinkId)> {
    let engine = Engine::start(EngineConfig {
        workers: cores
            .iter()
            .map(|&core| WorkerConfig { core: Some(core) })
            .collect(),
        small_mbufs: 8192,
        large_mbufs: 256,
        flow_cache: 131_072,
        huge_pages: HugePages::Auto,
        idle,
    })?;
    let uplink = engine.add_uplink(wire())?;
    engine.set_policies(policies(rules)?)?;
    Ok((engine, uplink))
}

/// An uplink that nothing comes from.
pub(crate) fn wire() -> UplinkSpec {
    UplinkSpec {
        name: "wire0".to_owned(),
        port: Box::new(NullUplink::new(1500)),
        worker: None,
        tpids: vec![0x8100],
        native: None,
        network: None,
        port_vlan: false,
    }
}

/// A policy of `rules` rules for VLAN 210.
pub(crate) fn policies(rules: u16) -> Result<Arc<PolicySet>> {
    let set = PolicySet::build(1, &[policy_of(rules)])
        .map_err(|problems| anyhow::anyhow!("{problems:?}"))?;
    Ok(Arc::new(set))
}

/// What a pod of [`PODS`] asks for; several pairs of them tell by their number.
pub(crate) fn pod(uplink: UplinkId, number: usize, pair: u8) -> Result<AttachmentSpec> {
    let (mut mac, address) = PODS[number];
    mac.0[4] = pair;
    Ok(AttachmentSpec {
        name: format!("{mac}/net1"),
        uplink,
        vlans: VlanSet::Access(Vid::new(210).context("a VID")?),
        qinq: false,
        mac,
        addresses: vec![address.into()],
        policy: None,
        mtu: 1500,
        worker: None,
    })
}

/// Attaches a pod to a worker.
pub(crate) fn attach(
    engine: &Engine,
    uplink: UplinkId,
    number: usize,
    pair: u8,
    worker: usize,
    port: Box<dyn PodPort>,
) -> Result<()> {
    let attached = engine.attach(AttachmentSpec {
        worker: Some(worker),
        ..pod(uplink, number, pair)?
    })?;
    engine.connect(attached.id, port)?;
    Ok(())
}

/// A worker that never rests.
pub(crate) fn restless() -> IdleConfig {
    IdleConfig {
        pause_after: u32::MAX,
        sleep_after: None,
        sleep_cap: Duration::from_millis(1),
    }
}
