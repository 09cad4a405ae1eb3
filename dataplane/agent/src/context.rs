// SPDX-License-Identifier: Apache-2.0
//! State that the parts of the agent share.

use crate::config::AgentConfig;
use crate::devices::DevicesStatus;
use crate::engine::Engine;
use crate::parts::Health;
use crate::reaper::ReaperStatus;

/// Shared state of one agent.
#[derive(Debug)]
pub struct Context {
    /// Configuration that passed all checks.
    pub config: AgentConfig,
    /// The node's engine.
    pub engine: Engine,
    /// Health of every part.
    pub health: Health,
    /// Status of the device plugins.
    pub devices: DevicesStatus,
    /// Status of the reaper.
    pub reaper: ReaperStatus,
}

impl Context {
    /// Creates the context of a configuration; nothing is opened.
    pub fn new(config: AgentConfig) -> Context {
        Context {
            engine: Engine::new(&config.engine_socket),
            health: Health::default(),
            devices: DevicesStatus::default(),
            reaper: ReaperStatus::default(),
            config,
        }
    }
}
