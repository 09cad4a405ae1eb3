// SPDX-License-Identifier: Apache-2.0
//! [`FileError`]: failure at one file or folder of the host.

use std::io;
use std::path::PathBuf;

/// Failure of one operation at one file or folder.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {}: {source}", path.display())]
pub struct FileError {
    /// Operation that failed, as a verb: `write`, `rename into place`.
    pub action: &'static str,
    /// File or folder.
    pub path: PathBuf,
    /// Answer of the kernel.
    #[source]
    pub source: io::Error,
}

impl FileError {
    /// Returns a conversion for `map_err` that adds the operation and the path.
    pub fn at(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> FileError {
        let path = path.into();
        move |source| FileError {
            action,
            path,
            source,
        }
    }
}
