// SPDX-License-Identifier: Apache-2.0
//! Part `page` of the agent: a read-only picture of the node for people, and the figures behind it as JSON.
//!
//! The page is three files in the binary; it asks nobody but this server. Whoever can reach the address can read the
//! names of pods, so that it listens on the loopback interface unless the configuration says otherwise.

mod node;
mod server;

use std::sync::Arc;

use crate::context::Context;
use crate::http;
use crate::parts::{Part, PartError};

/// The part.
pub const PART: Part = Part {
    name: "page",
    is_wanted: |context| context.config.page.is_some(),
    start: |context| Box::pin(run(context)),
};

async fn run(context: Arc<Context>) -> Result<(), PartError> {
    let Some(config) = context.config.page.clone() else {
        return Ok(());
    };
    let listener = http::listen("page.listen", config.listen).await?;
    tracing::info!("page at http://{}/", config.listen);
    let router = server::router(Arc::clone(&context));
    context.health.good(PART.name);
    http::serve(listener, router).await;
    Ok(())
}
