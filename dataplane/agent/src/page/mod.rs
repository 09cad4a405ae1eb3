// SPDX-License-Identifier: Apache-2.0
//! Part `page` of the agent.

use crate::parts::Part;

/// The part.
pub const PART: Part = Part {
    name: "page",
    is_wanted: |context| context.config.page.is_some(),
    start: |context| {
        Box::pin(async move {
            context.health.good(PART.name);
            std::future::pending().await
        })
    },
};
