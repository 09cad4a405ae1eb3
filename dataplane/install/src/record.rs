// SPDX-License-Identifier: Apache-2.0
//! [`InstallRecord`]: what was installed, for the uninstall and for people.

use std::path::{Path, PathBuf};

use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};
use sluice_host::store::{self, Durability, Stored};

use crate::InstallError;

/// Kind of an installed file, in the order in which they go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FileKind {
    /// CNI configuration.
    Conf,
    /// Kubeconfig of the plugins.
    Kubeconfig,
    /// Program.
    Plugin,
}

/// File that was installed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstalledFile {
    /// Kind.
    pub kind: FileKind,
    /// Path, as the installer sees it.
    pub path: PathBuf,
    /// SHA-256 of its content, and of the content before where an installer was killed between the two.
    pub sha256: Vec<String>,
    /// Copy of somebody else's file that was there before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<PathBuf>,
}

/// Record of an installation.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstallRecord {
    /// Version of the installer.
    pub version: String,
    /// Files.
    pub files: Vec<InstalledFile>,
}

impl InstallRecord {
    /// Reads a record; an empty one if there is none.
    ///
    /// # Errors
    /// The file cannot be read, or is torn.
    pub fn load(path: &Path) -> Result<InstallRecord, InstallError> {
        match store::read_json(path)? {
            Stored::Whole(record) => Ok(record),
            Stored::Absent => Ok(InstallRecord::default()),
            Stored::Torn(why) => Err(InstallError::Record {
                path: path.to_owned(),
                why,
            }),
        }
    }

    pub(crate) fn save(&mut self, path: &Path) -> Result<(), InstallError> {
        env!("CARGO_PKG_VERSION").clone_into(&mut self.version);
        Ok(store::write_json(path, self, 0o644, Durability::Synced)?)
    }

    pub(crate) fn find(&self, path: &Path) -> Option<&InstalledFile> {
        self.files.iter().find(|file| file.path == path)
    }

    /// Notes that `path` is about to get `content`.
    pub(crate) fn note(
        &mut self,
        kind: FileKind,
        path: &Path,
        content: &[u8],
        before: Option<&[u8]>,
        previous: Option<PathBuf>,
    ) {
        let mut hashes = vec![sha256(content)];
        let kept = self.find(path).and_then(|file| file.previous.clone());
        if self.find(path).is_some() {
            hashes.extend(before.map(sha256).filter(|hash| *hash != hashes[0]));
        }
        self.files.retain(|file| file.path != path);
        self.files.push(InstalledFile {
            kind,
            path: path.to_owned(),
            sha256: hashes,
            previous: kept.or(previous),
        });
        self.files
            .sort_by(|a, b| (a.kind, &a.path).cmp(&(b.kind, &b.path)));
    }
}

/// SHA-256 in hexadecimal.
pub(crate) fn sha256(content: &[u8]) -> String {
    let digest = digest(&SHA256, content);
    digest
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}
