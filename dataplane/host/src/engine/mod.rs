// SPDX-License-Identifier: Apache-2.0
//! Files of the engine: what it writes, and what `sluicegate-vf` reads and removes while the engine
//! is down.
//!
//! | file | contents |
//! |---|---|
//! | `RUN_DIR/engine.lock` | [`EngineLock`], held for life, with the engine's pid |
//! | `STATE_DIR/attachments/CONTAINER-IFNAME.json` | [`AttachmentRecord`] |
//! | `STATE_DIR/uplinks/NAME.json` | settings that the engine took from an uplink's netdev |
//! | `STATE_DIR/vfs/PCI_ADDRESS.json` | the VF journal |

mod attachment;
mod lock;
mod records;

pub use attachment::{AttachmentRecord, forget_attachment};
pub use lock::{EngineLock, EngineLockError};
pub use records::{RecordError, Records, Unreadable};

use std::path::{Path, PathBuf};

/// Longest container id in bytes, for the engine and the plugins alike: it is part of the names of files,
/// which have 255 bytes.
pub const MAX_CONTAINER_ID: usize = 200;

/// Name of the lock file in the run folder.
pub const LOCK_FILE: &str = "engine.lock";

/// Folder of attachment records in the engine's state folder.
pub fn attachments_dir(state_dir: &Path) -> PathBuf {
    state_dir.join("attachments")
}

/// Folder of uplink records in the engine's state folder.
pub fn uplinks_dir(state_dir: &Path) -> PathBuf {
    state_dir.join("uplinks")
}

/// Folder of the VF journal in the engine's state folder.
pub fn vfs_dir(state_dir: &Path) -> PathBuf {
    state_dir.join("vfs")
}
