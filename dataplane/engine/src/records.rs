// SPDX-License-Identifier: Apache-2.0
//! The engine's records of attachments and uplinks, as [`sluice_host`] keeps them.

use std::path::PathBuf;

use sluice_api::AttachRequest;
pub use sluice_host::engine::{RecordError, Records};

/// Record of an attachment: its request, and what the engine chose for it.
pub type AttachmentRecord = sluice_host::engine::AttachmentRecord<AttachRequest>;

/// Opens a folder of records, and removes what a killed engine did not finish writing.
///
/// # Errors
/// [`RecordError`]: the folder cannot be made or read.
pub fn open(dir: PathBuf) -> Result<Records, RecordError> {
    let records = Records::open(dir)?;
    for path in records.remove_unfinished()? {
        tracing::warn!("removed {}, whose writer did not finish it", path.display());
    }
    Ok(records)
}
