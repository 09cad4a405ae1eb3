// SPDX-License-Identifier: Apache-2.0
//! Parts that the integration tests and the SR-IOV cases share: the binaries under test, network namespaces of
//! their own, processes that end with the test, calls of CNI plugins, frames on a wire, and skips that are
//! reported.
#![forbid(unsafe_code)]

pub mod cluster;
pub mod cni;
mod netns;
mod process;
mod sluiced;
mod wire;

pub use netns::Netns;
pub use process::{Process, bin, run, wait_for};
pub use sluiced::{Sluiced, assert_conserved};
pub use wire::Wire;

use std::io::Write;

/// Reports that test `name` cannot run here and why: on standard error and, for the run's tally, in the file
/// named by `SLUICE_SKIP_LOG`. The caller returns right after.
pub fn skip(name: &str, reason: &str) {
    eprintln!("SKIP {name}: {reason}");
    let Some(log) = std::env::var_os("SLUICE_SKIP_LOG") else {
        return;
    };
    let line = format!("{name}: {reason}\n");
    let written = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(&log)
        .and_then(|mut file| file.write_all(line.as_bytes()));
    if let Err(error) = written {
        panic!(
            "the skip of {name} could not be noted in {}: {error}",
            log.display()
        );
    }
}

/// Whether this process may make network namespaces; if not, notes the skip of `name`.
pub fn root_or_skip(name: &str) -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        skip(name, "needs root for network namespaces");
    }
    root
}

/// Whether `program` can be found in PATH; if not, notes the skip of `name`.
pub fn program_or_skip(name: &str, program: &str) -> bool {
    let found = std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(program).is_file()));
    if !found {
        skip(name, &format!("needs {program}, which is not in PATH"));
    }
    found
}
