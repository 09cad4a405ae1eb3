// SPDX-License-Identifier: Apache-2.0
//! Part `install` of the agent.

use crate::parts::Part;

/// The part.
pub const PART: Part = Part {
    name: "install",
    is_wanted: |context| context.config.install.is_some(),
    start: |context| {
        Box::pin(async move {
            context.health.good(PART.name);
            std::future::pending().await
        })
    },
};
