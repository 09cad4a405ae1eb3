// SPDX-License-Identifier: Apache-2.0
//! Part `devices` of the agent.

mod status;

use crate::parts::Part;

pub use status::{DevicesStatus, PoolStatus};

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
