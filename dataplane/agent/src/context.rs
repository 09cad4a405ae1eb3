// SPDX-License-Identifier: Apache-2.0
//! What the parts of the agent share.

use crate::config::AgentConfig;
use crate::engine::Engine;
use crate::parts::Health;

/// Shared state of one agent.
#[derive(Debug)]
pub struct Context {
    /// Configuration that passed all checks.
    pub config: AgentConfig,
    /// The node's engine.
    pub engine: Engine,
    /// Health of every part.
    pub health: Health,
}

impl Context {
    /// Creates the context of a configuration; nothing is opened.
    pub fn new(config: AgentConfig) -> Context {
        Context {
            engine: Engine::new(&config.engine_socket),
            health: Health::default(),
            config,
        }
    }
}
