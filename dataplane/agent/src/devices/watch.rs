// SPDX-License-Identifier: Apache-2.0
//! Watch over all pools: looks at VFs, engine, records and kubelet once a second, and tells the pools.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use sluice_sriov::sysfs::Sysfs;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::engine_ids::{self, EngineHealth};
use super::holders::{self, Holders};
use super::pool::Pool;
use super::spec::{PoolKind, PoolSpec, VfMode};
use super::vfs::{self, VfPools};
use super::{cdi, client, settings};
use crate::context::Context;

/// Time between two looks.
const EVERY: Duration = Duration::from_secs(1);

/// Watches the pools for good. `first` is told after the first look: only then is there something to register.
///
/// # Errors
/// sysfs cannot be read, or a CDI specification cannot be written.
pub(super) async fn run(
    context: Arc<Context>,
    pools: Vec<Arc<Pool>>,
    first: tokio::sync::oneshot::Sender<()>,
) -> anyhow::Result<()> {
    let mut watch = Watch::new(&context, pools);
    let mut first = Some(first);
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        watch.look().await?;
        if let Some(first) = first.take() {
            let _ = first.send(());
        }
    }
}

struct Watch {
    context: Arc<Context>,
    pools: Vec<Arc<Pool>>,
    begun: Instant,
    vfs: VfPools,
    /// Health of the engine for each pool, by resource.
    engine: BTreeMap<String, EngineHealth>,
    has_vfs: bool,
    has_engine: bool,
}

impl Watch {
    fn new(context: &Arc<Context>, pools: Vec<Arc<Pool>>) -> Watch {
        let kind = |wanted: fn(&PoolKind) -> bool| pools.iter().any(|pool| wanted(&pool.spec.kind));
        Watch {
            has_vfs: kind(|kind| matches!(kind, PoolKind::Vfs { .. })),
            has_engine: kind(|kind| match kind {
                PoolKind::Engine { .. } => true,
                PoolKind::Vfs { mode, .. } => *mode == VfMode::Engine,
            }),
            context: Arc::clone(context),
            pools,
            begun: Instant::now(),
            vfs: VfPools::default(),
            engine: BTreeMap::new(),
        }
    }

    async fn look(&mut self) -> anyhow::Result<()> {
        let settings = settings(&self.context);
        let now = self.begun.elapsed();
        let sysfs = Sysfs::at(&settings.sysfs);
        let socket = settings.kubelet_dir.join("pod-resources/kubelet.sock");
        let owned = match client::pod_resources(&socket).await {
            Ok(list) => Some(holders::owned(&list)),
            Err(error) => {
                tracing::debug!("{error:#}");
                None
            }
        };
        let status = match self.has_engine {
            true => Some(self.context.engine.ask(|client| client.status()).await),
            false => None,
        };
        let held = match self.has_engine {
            true => holders::now(&self.context, &settings.cni_dir).await,
            false => Ok(Holders::new()),
        };
        let held = held.unwrap_or_else(|error| {
            tracing::debug!("{error:#}");
            Holders::new()
        });
        let mut vfs = BTreeMap::new();
        if self.has_vfs {
            let (sysfs, state_dir) = (sysfs.clone(), settings.state_dir.clone());
            let seen = tokio::task::spawn_blocking(move || vfs::look(&sysfs, &state_dir)).await??;
            let specs: Vec<&PoolSpec> = self.pools.iter().map(|pool| &pool.spec).collect();
            vfs = self.vfs.sort(&specs, &seen, now);
        }
        for pool in &self.pools {
            let resource = &pool.spec.resource;
            let ids = owned
                .as_ref()
                .map(|owned| owned.get(resource).map_or(&[][..], Vec::as_slice));
            let mut engine = |uplinks: &[String]| {
                let health = self.engine.entry(resource.clone());
                let health = health.or_insert_with(|| EngineHealth::new(now));
                health.see(status.as_ref()?, uplinks, now)
            };
            let devices = match &pool.spec.kind {
                PoolKind::Engine {
                    count,
                    prefix,
                    uplinks,
                    ..
                } => {
                    let problem = engine(uplinks);
                    let up = status.as_ref().and_then(|status| status.as_ref().ok());
                    let numa = up.and_then(|status| engine_ids::numa(status, uplinks, &sysfs));
                    engine_ids::devices((prefix, *count), problem.as_deref(), numa, &held, ids)
                }
                PoolKind::Vfs { mode, .. } => {
                    let mut devices = vfs.remove(resource).unwrap_or_default();
                    if *mode == VfMode::Engine {
                        let problem = engine(&[]);
                        for device in devices.values_mut() {
                            device.problem = device.problem.take().or_else(|| problem.clone());
                        }
                    }
                    devices
                }
            };
            pool.set(devices);
            if let Some(ids) = ids {
                self.context.devices.change(resource, |status| {
                    status.allocated = ids.len() as u64;
                });
            }
            cdi::write(&settings.cdi_dir, pool)?;
        }
        Ok(())
    }
}
