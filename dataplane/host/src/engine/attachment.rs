// SPDX-License-Identifier: Apache-2.0
//! [`AttachmentRecord`]: what the engine must know again of an attachment after it died.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::attachments_dir;
use crate::FileError;
use crate::store::{self, Durability, Stored};

/// Record of one attachment. `R` is the request as it was made (`AttachRequest` of the control
/// API, which this crate does not depend on).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttachmentRecord<R> {
    /// Request as it was made.
    pub request: R,
    /// MAC address that the attachment was given, as text.
    pub mac: String,
    /// MTU in bytes.
    pub mtu: u32,
    /// Boot it was made in: network namespaces do not outlive it.
    pub boot_id: String,
    /// Moment at which the file of its network namespace came to be, as in
    /// [`NetnsIdentity`](crate::NetnsIdentity). Absent in records of older engines.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub netns_ctime_ns: Option<i64>,
    /// Whether the engine that made it did not see the path of its network namespace, and had the
    /// namespace as a file descriptor alone.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub netns_unseen: bool,
}

impl<R> AttachmentRecord<R> {
    /// Returns the name of an attachment's record, without folder and suffix.
    pub fn name(container_id: &str, ifname: &str) -> String {
        format!("{container_id}-{ifname}")
    }
}

/// Identity of an attachment in its record; all that is read of the request to remove it.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Identity {
    container_id: Option<String>,
    ifname: Option<String>,
}

/// Removes the record of an attachment, torn or whole, so that an engine that starts again does not
/// bring it back. The record of another attachment whose names join to the same file name stays.
///
/// # Errors
/// [`FileError`]: it is there and cannot be removed.
pub fn forget_attachment(
    state_dir: &Path,
    container_id: &str,
    ifname: &str,
) -> Result<(), FileError> {
    let name = AttachmentRecord::<()>::name(container_id, ifname);
    let path = attachments_dir(state_dir).join(format!("{name}.json"));
    if let Ok(Stored::Whole(record)) = store::read_json::<Partial>(&path) {
        let differs = |found: Option<String>, own: &str| found.is_some_and(|found| found != own);
        if differs(record.request.container_id, container_id)
            || differs(record.request.ifname, ifname)
        {
            return Ok(());
        }
    }
    store::remove(&path, Durability::Synced).map(|_| ())
}

/// Part of a record that names its attachment.
#[derive(Deserialize)]
struct Partial {
    #[serde(default)]
    request: Identity,
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_record_is_forgotten_unless_it_is_another_attachments() {
        let dir = tempfile::tempdir().unwrap();
        let records = attachments_dir(dir.path());
        std::fs::create_dir(&records).unwrap();
        let path = records.join("a-b-c.json");
        let record = json!({"request": {"container_id": "a", "ifname": "b-c"}});
        std::fs::write(&path, record.to_string()).unwrap();
        forget_attachment(dir.path(), "a-b", "c").unwrap();
        assert!(path.exists());
        forget_attachment(dir.path(), "a", "b-c").unwrap();
        assert!(!path.exists());
        forget_attachment(dir.path(), "a", "b-c").unwrap();
        std::fs::write(&path, "{\"requ").unwrap();
        forget_attachment(dir.path(), "a-b", "c").unwrap();
        assert!(!path.exists());
    }
}
