// SPDX-License-Identifier: Apache-2.0
//! Part `metrics` of the agent: `/metrics` for Prometheus, `/healthz` and `/readyz` for probes.
//!
//! A scrape reads the engine; nothing is kept for the next one. `families` has every family, `collect` fills them,
//! `samples` writes them in the format that the scraper asks for. `operations` counts what the one-shot plugins
//! report.

mod collect;
mod families;
mod family;
mod operations;
mod samples;
mod server;
mod vfs;

use std::sync::Arc;

use crate::context::Context;
use crate::http;
use crate::parts::{Part, PartError};

/// The part.
pub const PART: Part = Part {
    name: "metrics",
    is_wanted: |context| context.config.metrics.is_some(),
    start: |context| Box::pin(run(context)),
};

async fn run(context: Arc<Context>) -> Result<(), PartError> {
    let Some(config) = context.config.metrics.clone() else {
        return Ok(());
    };
    let listener = http::listen("metrics.listen", config.listen).await?;
    let reports = operations::bind(&context.config.run_dir)?;
    tracing::info!("metrics at http://{}/metrics", config.listen);
    let server = Arc::new(server::Server::new(Arc::clone(&context), config));
    let router = server::router(Arc::clone(&server));
    context.health.good(PART.name);
    tokio::select! {
        () = http::serve(listener, router) => Ok(()),
        ended = server.operations().receive(&reports) => ended,
    }
}
