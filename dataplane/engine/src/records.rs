// SPDX-License-Identifier: Apache-2.0
//! The engine's records of attachments and uplinks, as [`sluice_host`] keeps them.

use std::path::PathBuf;

use sluice_api::AttachRequest;
pub use sluice_host::engine::{RecordError, Records};
use sluice_host::{Netns, NetnsIdentity};

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

/// Returns the identity of a recorded attachment's network namespace.
pub fn netns_of(record: &AttachmentRecord) -> NetnsIdentity {
    let netns = &record.request.netns;
    NetnsIdentity {
        path: netns.path.clone(),
        dev: netns.dev,
        ino: netns.ino,
        ctime_ns: record.netns_ctime_ns,
        boot_id: record.boot_id.clone(),
    }
}

/// Returns the moment at which the file of an open network namespace came to be, for its record; `None` where
/// nothing pins that file, or its path leads elsewhere by now.
pub fn ctime_of(netns: &Netns) -> Option<i64> {
    let there = NetnsIdentity::of(netns.path()).ok()?;
    there
        .ctime_ns
        .filter(|_| (there.dev, there.ino) == netns.id())
}
