// SPDX-License-Identifier: Apache-2.0
//! The way off: `sluice-agent --uninstall`.

use anyhow::Context as _;
use sluice_install::{Change, Installation};
use sluicegate::records;

use crate::config::AgentConfig;
use crate::parts::PartError;

/// Takes off the node what the part put there, the CNI configuration first. No agent may run: it would put it there
/// again.
///
/// # Errors
/// There is no section `install`; pods have networks of ours, and `force` is not set; the file system refuses.
pub fn uninstall(config: &AgentConfig, force: bool) -> Result<Vec<Change>, PartError> {
    let config = config
        .install
        .as_ref()
        .context("the configuration has no section `install`, which says where the files are")?;
    let pods = records::live_pods(&config.cni_dir)?;
    let mut node = Installation::open(config.plan.clone())?;
    Ok(node.uninstall(&pods, force)?)
}
