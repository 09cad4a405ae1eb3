// SPDX-License-Identifier: Apache-2.0
//! Device plugins of the kubelet: each pool of VFs or of the engine's attachments is a resource of the node.
//!
//! ```text
//!              sysfs ─┐                       ┌─ kubelet    socket, Register, again after each restart
//!  engine, its records ├─ watch ─► pool ─► service ─ preferred, allocate (folder of an id, files, variables)
//!      pod-resources ─┘    │                  └─ cdi        the same for container runtimes, by name
//!                          └─ vfs, engine_ids, damping: health
//! ```
//! The messages are written by hand and the service is a plain function of the method's name, so that neither protoc nor
//! generated code is needed.

mod allocate;
mod cdi;
pub mod client;
mod damping;
mod engine_ids;
mod holders;
mod kubelet;
pub mod messages;
mod peer_config;
mod pool;
mod preferred;
mod selectors;
mod service;
mod spec;
mod status;
mod vfs;
mod watch;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::task::JoinSet;

use crate::config::DevicesConfig;
use crate::context::Context;
use crate::parts::Part;
use pool::Pool;

pub use peer_config::{PeerConfig, PeerConfigError};
pub use selectors::{Selector, VfRange, VfRangeError, pci_id};
pub use spec::{PoolKind, PoolSpec, VfMode, check_resource};
pub use status::{DevicesStatus, PoolStatus};

/// The part.
pub const PART: Part = Part {
    name: "devices",
    is_wanted: |context| context.config.devices.is_some(),
    start: |context| Box::pin(run(context)),
};

/// Section of the configuration; the part does not run without one.
fn settings(context: &Context) -> &DevicesConfig {
    static NONE: std::sync::LazyLock<DevicesConfig> =
        std::sync::LazyLock::new(DevicesConfig::default);
    context.config.devices.as_ref().unwrap_or(&NONE)
}

/// Removes the CDI specifications of all pools from their folder, and returns the files.
///
/// # Errors
/// The folder is there and cannot be read, or a file cannot be removed.
pub(crate) fn remove_cdi_specs(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    cdi::remove_others(folder, &[])
}

/// Serves all pools for good.
async fn run(context: Arc<Context>) -> anyhow::Result<()> {
    let settings = settings(&context);
    let (specs, left_out) = specs(settings)?;
    for reason in &left_out {
        tracing::warn!(
            "pool {reason}; the SR-IOV network device plugin may serve it beside this agent"
        );
    }
    let resources: Vec<&str> = specs.iter().map(|spec| &*spec.resource).collect();
    cdi::remove_others(&settings.cdi_dir, &resources)?;
    let pools: Vec<Arc<Pool>> = specs
        .into_iter()
        .map(|spec| Arc::new(Pool::new(spec, &context)))
        .collect();
    let mut tasks = JoinSet::new();
    let (first, looked) = tokio::sync::oneshot::channel();
    tasks.spawn(watch::run(Arc::clone(&context), pools.clone(), first));
    let folder = settings.kubelet_dir.join("device-plugins");
    if looked.await.is_ok() {
        for pool in &pools {
            tasks.spawn(kubelet::serve(Arc::clone(pool), folder.clone()));
        }
    }
    tasks.spawn(tell_health(Arc::clone(&context), left_out));
    while let Some(ended) = tasks.join_next().await {
        ended??;
    }
    Ok(())
}

/// Says that the part is well while every pool is registered.
async fn tell_health(context: Arc<Context>, left_out: Vec<String>) -> anyhow::Result<()> {
    let mut ticks = tokio::time::interval(std::time::Duration::from_millis(500));
    loop {
        ticks.tick().await;
        if !context.devices.all().iter().all(|pool| pool.registered) {
            continue;
        }
        if left_out.is_empty() {
            context.health.good(PART.name);
        } else {
            context
                .health
                .bad(PART.name, format!("not served: {}", left_out.join("; ")));
        }
    }
}

/// Pools of both configurations, and those that are not served.
fn specs(settings: &DevicesConfig) -> anyhow::Result<(Vec<PoolSpec>, Vec<String>)> {
    let mut specs = settings.pools.clone();
    let mut left_out = Vec::new();
    if let Some(file) = &settings.config_file {
        let config = PeerConfig::load(file)?;
        left_out = config.left_out;
        for pool in config.pools {
            if specs.iter().any(|spec| spec.resource == pool.resource) {
                anyhow::bail!(
                    "{} is in the agent's `pools` and in {}: keep one of them",
                    pool.resource,
                    file.display()
                );
            }
            specs.push(pool);
        }
    }
    Ok((specs, left_out))
}
