// SPDX-License-Identifier: Apache-2.0
//! Identity of an attachment.

use std::fmt;

use sluice_api::ApiError;
use sluice_host::engine::MAX_CONTAINER_ID;

use crate::records::AttachmentRecord;
use crate::refusal::invalid;

/// Longest interface name in bytes (`IFNAMSIZ` less its NUL, linux/if.h).
const MAX_IFNAME: usize = 15;

/// Identity of an attachment: the container and the interface in it. Both may be part of file names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct AttachmentKey {
    container_id: String,
    ifname: String,
}

impl AttachmentKey {
    /// Checks both parts.
    ///
    /// # Errors
    /// A container id or an interface name that is not allowed, and what is allowed.
    pub(super) fn new(container_id: &str, ifname: &str) -> Result<AttachmentKey, ApiError> {
        let good = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        let first = container_id.chars().next();
        if !first.is_some_and(|first| first.is_ascii_alphanumeric())
            || !container_id.chars().all(good)
            || container_id.len() > MAX_CONTAINER_ID
        {
            return Err(invalid(format!(
                "container id {container_id:?} is not allowed: use 1 to {MAX_CONTAINER_ID} letters, \
                 digits, `-`, `_` and `.`, and begin with a letter or digit"
            )));
        }
        // What the kernel takes (dev_valid_name), less control characters.
        let bad = |c: char| c == '/' || c == ':' || c.is_whitespace() || c.is_control();
        if ifname.is_empty()
            || ifname.len() > MAX_IFNAME
            || [".", ".."].contains(&ifname)
            || ifname.contains(bad)
        {
            return Err(invalid(format!(
                "interface name {ifname:?} is not allowed: use 1 to {MAX_IFNAME} bytes, no `/`, \
                 `:` or blank, and neither `.` nor `..`"
            )));
        }
        Ok(AttachmentKey {
            container_id: container_id.to_owned(),
            ifname: ifname.to_owned(),
        })
    }

    /// Container id, as the runtime gave it.
    pub(super) fn container_id(&self) -> &str {
        &self.container_id
    }

    /// Interface name in the pod.
    pub(super) fn ifname(&self) -> &str {
        &self.ifname
    }

    /// Name of the attachment's record on disk. Not unique: `a-b`, `c` and `a`, `b-c` share one.
    pub(super) fn record_name(&self) -> String {
        AttachmentRecord::name(&self.container_id, &self.ifname)
    }
}

impl fmt::Display for AttachmentKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.container_id, self.ifname)
    }
}

#[cfg(test)]
mod tests {
    use super::{AttachmentKey, MAX_CONTAINER_ID};

    #[test]
    fn names_stay_in_their_folder() {
        let key = AttachmentKey::new;
        assert!(key("c0ffee", "net1").is_ok());
        for container in [
            "",
            "../x",
            ".x",
            "a/b",
            "a b",
            &"x".repeat(MAX_CONTAINER_ID + 1),
            "é",
        ] {
            assert!(key(container, "net1").is_err(), "{container:?} was taken");
        }
        for ifname in [
            "",
            ".",
            "..",
            "a/b",
            "a:b",
            "a b",
            "a\tb",
            "sixteen-bytes-xx",
            "a\u{7f}",
        ] {
            assert!(key("c", ifname).is_err(), "{ifname:?} was taken");
        }
    }
}
