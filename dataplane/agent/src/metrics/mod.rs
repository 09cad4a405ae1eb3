// SPDX-License-Identifier: Apache-2.0
//! Part `metrics` of the agent.

use crate::parts::Part;

/// The part.
pub const PART: Part = Part {
    name: "metrics",
    is_wanted: |context| context.config.metrics.is_some(),
    start: |context| {
        Box::pin(async move {
            context.health.good(PART.name);
            std::future::pending().await
        })
    },
};
