// SPDX-License-Identifier: Apache-2.0
//! Part `reaper` of the agent.

mod status;

use crate::parts::Part;

pub use status::{ReaperCounts, ReaperStatus};

/// The part.
pub const PART: Part = Part {
    name: "reaper",
    is_wanted: |context| context.config.reaper.is_some(),
    start: |context| {
        Box::pin(async move {
            context.health.good(PART.name);
            std::future::pending().await
        })
    },
};
