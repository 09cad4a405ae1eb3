// SPDX-License-Identifier: Apache-2.0
//! Part `devices` of the agent.

use crate::parts::Part;

/// The part.
pub const PART: Part = Part {
    name: "devices",
    is_wanted: |context| context.config.devices.is_some(),
    start: |context| {
        Box::pin(async move {
            context.health.good(PART.name);
            std::future::pending().await
        })
    },
};
