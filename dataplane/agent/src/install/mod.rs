// SPDX-License-Identifier: Apache-2.0
//! Part `install` of the agent: the plugins, the kubeconfig with a token that it renews, and last, once the engine is
//! ready, the CNI configuration.
//!
//! It goes by what is there, not by what it did: each round looks at every file again, so that an agent that is killed
//! at any step goes on there, and a configuration that somebody removed, or a primary network that changed, is noticed
//! within seconds. Once there, the configuration stays when the engine goes: pods without networks of ours need none.

mod token;
mod uninstall;

use std::sync::Arc;
use std::time::Duration;

use sluice_install::{Change, Done, InstallError, Installation, Mode, Plan};
use tokio::time::{Instant, sleep};

use crate::config::InstallConfig;
use crate::context::Context;
use crate::parts::{Part, PartError};

pub use uninstall::uninstall;

/// Time between two looks at the configurations.
const ROUND: Duration = Duration::from_secs(2);
/// Time between two looks at the plugins, which are read as a whole.
const PLUGINS: Duration = Duration::from_secs(60);

/// The part.
pub const PART: Part = Part {
    name: "install",
    is_wanted: |context| context.config.install.is_some(),
    start: |context| Box::pin(run(context)),
};

async fn run(context: Arc<Context>) -> Result<(), PartError> {
    let Some(config) = context.config.install.clone() else {
        return Ok(());
    };
    let mut plugins_due = Instant::now();
    let mut keeper = token::Keeper::default();
    loop {
        match round(&context, &config, &mut plugins_due, &mut keeper).await {
            Ok(()) => context.health.good(PART.name),
            Err(error) => context.health.bad(PART.name, format!("{error:#}")),
        }
        sleep(ROUND).await;
    }
}

/// Does what is to be done now, in order; a step that fails keeps those behind it waiting.
async fn round(
    context: &Context,
    config: &InstallConfig,
    plugins_due: &mut Instant,
    keeper: &mut token::Keeper,
) -> Result<(), PartError> {
    if Instant::now() >= *plugins_due {
        step(&config.plan, Installation::plugins).await?;
        *plugins_due = Instant::now() + PLUGINS;
    }
    if config.plan.mode == Mode::PluginsOnly {
        return Ok(());
    }
    keeper.keep(context, config).await?;
    let plan = config.plan.clone();
    let there = blocking(move || Ok(Installation::open(plan)?.has_conf())).await?;
    if !there && config.wait_for_engine {
        engine_is_ready(context).await?;
    }
    step(&config.plan, Installation::conf).await
}

async fn engine_is_ready(context: &Context) -> Result<(), PartError> {
    let waits = "the CNI configuration is written once the engine is ready";
    let health = context.engine.ask(|client| client.health()).await;
    let health = health.map_err(|error| anyhow::anyhow!("{waits}: {error}"))?;
    anyhow::ensure!(health.ready, "{waits}: {}", health.problems.join("; "));
    Ok(())
}

/// Runs one step of the installation, and logs what it changed.
async fn step(
    plan: &Plan,
    step: impl FnOnce(&mut Installation) -> Result<Vec<Change>, InstallError> + Send + 'static,
) -> Result<(), PartError> {
    let plan = plan.clone();
    let changes = blocking(move || step(&mut Installation::open(plan)?)).await?;
    for change in changes
        .iter()
        .filter(|change| change.done != Done::Unchanged)
    {
        tracing::info!("{} {:?}", change.path.display(), change.done);
    }
    Ok(())
}

/// Runs file system work on a thread that may block.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, InstallError> + Send + 'static,
) -> Result<T, PartError> {
    Ok(tokio::task::spawn_blocking(work).await??)
}
