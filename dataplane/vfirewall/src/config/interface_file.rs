// SPDX-License-Identifier: Apache-2.0
//! `interface.json`: what the plugin wrote beside a socket for the pod, so that nobody has to type it.

use std::path::PathBuf;

use serde::Deserialize;

/// Largest file that is read.
const MAX_BYTES: u64 = 1 << 20;

/// Keys of the file that are needed here; all others are passed over.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct InterfaceFile {
    pub(super) mac: Option<String>,
    pub(super) mtu: Option<u32>,
    addresses: Vec<AddressEntry>,
    vlan: VlanEntry,
}

#[derive(Debug, Deserialize)]
struct AddressEntry {
    address: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct VlanEntry {
    vid: Option<u16>,
}

impl InterfaceFile {
    /// Path of the file that belongs to a socket; `None` for one in the abstract namespace.
    pub(super) fn path(socket: &str) -> Option<PathBuf> {
        if socket.starts_with('@') {
            return None;
        }
        Some(
            std::path::Path::new(socket)
                .parent()?
                .join("interface.json"),
        )
    }

    /// Reads the file beside a socket; `None` if there is none.
    ///
    /// # Errors
    /// It cannot be read, or is not what the plugin writes.
    pub(super) fn beside(socket: &str) -> Result<Option<InterfaceFile>, String> {
        let Some(path) = InterfaceFile::path(socket) else {
            return Ok(None);
        };
        let broken = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
        let size = match std::fs::metadata(&path) {
            Ok(metadata) => metadata.len(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(broken(&error)),
        };
        if size > MAX_BYTES {
            return Err(broken(&format!(
                "{size} bytes are no interface's description"
            )));
        }
        let text = std::fs::read(&path).map_err(|error| broken(&error))?;
        serde_json::from_slice(&text)
            .map(Some)
            .map_err(|error| broken(&error))
    }

    /// Addresses with their prefixes, as written.
    pub(super) fn addresses(&self) -> Vec<String> {
        let addresses = self.addresses.iter();
        addresses.map(|entry| entry.address.clone()).collect()
    }

    /// VLAN of an access attachment.
    pub(super) fn vid(&self) -> Option<u16> {
        self.vlan.vid
    }
}
