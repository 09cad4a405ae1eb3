// SPDX-License-Identifier: Apache-2.0
//! Reading of this repository's own sources, for tests that hold them to a rule.
//!
//! A package of its own without dependencies, so that `make lint` has it built in seconds.
#![forbid(unsafe_code)]

mod comments;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

pub use comments::{DocComment, doc_comments};

/// Root folder of the repository.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Lists every Rust source file below the repository's root, build folders left out, by path.
///
/// # Errors
/// A folder cannot be read.
pub fn rust_files() -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut folders = vec![fs::canonicalize(root())?];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let name = entry.file_name();
            let name = name.to_string_lossy();
            let kind = entry.file_type()?;
            if kind.is_dir() && name != "target" && !name.starts_with('.') {
                folders.push(entry.path());
            } else if kind.is_file() && name.ends_with(".rs") {
                files.push(entry.path());
            }
        }
    }
    files.sort();
    Ok(files)
}
