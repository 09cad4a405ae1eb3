// SPDX-License-Identifier: Apache-2.0
//! Draining: no attachment is added, those that are there go on. A file in the run folder keeps it over a
//! restart of the engine, until it is undone or the machine is started again.

use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use sluice_api::{ApiError, DrainReply};
use sluice_host::store::{self, Durability};

use super::Control;
use crate::refusal;

/// Name of the file in the run folder.
pub(super) const DRAINED_FILE: &str = "drained";

/// Whether the engine drains, and the file that keeps it.
#[derive(Debug)]
pub(super) struct Drain {
    file: PathBuf,
    is_on: AtomicBool,
}

impl Drain {
    /// State of the engine before, by its file.
    pub(super) fn new(file: PathBuf) -> Drain {
        let is_on = file.exists();
        if is_on {
            tracing::warn!("{}", REASON);
        }
        Drain {
            file,
            is_on: AtomicBool::new(is_on),
        }
    }

    pub(super) fn is_on(&self) -> bool {
        self.is_on.load(Ordering::Acquire)
    }

    /// Says what health has to say of it.
    pub(super) fn problem(&self) -> Option<String> {
        self.is_on().then(|| REASON.to_owned())
    }
}

/// Sentence for health and refusals.
const REASON: &str = "the engine is drained: it takes no new attachments and serves those it has; \
                      `sluicectl drain --undo` ends that";

impl Control {
    /// Adds no attachment from now on.
    ///
    /// # Errors
    /// The file that keeps it over a restart cannot be written; then nothing has changed.
    pub fn drain(&self) -> Result<DrainReply, ApiError> {
        let file = &self.drain.file;
        store::write(file, b"", 0o600, Durability::Renamed)?;
        if !self.drain.is_on.swap(true, Ordering::AcqRel) {
            tracing::warn!("{REASON}");
        }
        Ok(self.drain_reply())
    }

    /// Adds attachments again.
    ///
    /// # Errors
    /// The file cannot be removed; then nothing has changed.
    pub fn undo_drain(&self) -> Result<DrainReply, ApiError> {
        let file = &self.drain.file;
        match std::fs::remove_file(file) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(refusal::internal(format!(
                    "{} cannot be removed: {error}; the engine stays drained",
                    file.display()
                )));
            }
            _ => {}
        }
        if self.drain.is_on.swap(false, Ordering::AcqRel) {
            tracing::info!("the engine is no longer drained: it takes attachments");
        }
        Ok(self.drain_reply())
    }

    /// Refuses an attachment that would be new while the engine drains.
    pub(super) fn check_drain(&self) -> Result<(), ApiError> {
        match self.drain.problem() {
            None => Ok(()),
            Some(reason) => Err(refusal::unavailable(reason)),
        }
    }

    fn drain_reply(&self) -> DrainReply {
        DrainReply {
            draining: self.drain.is_on(),
            attachments: self.attachments.all().len(),
        }
    }
}
