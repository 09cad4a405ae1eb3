// SPDX-License-Identifier: Apache-2.0
//! Policy files: their folder, changes of it, and what they compile to. The folder `sets` in it has
//! the named sets that policies share.
//!
//! The engine judges by what this crate compiles, and `sluicectl policies check` says what is wrong
//! with a file by the same code, without an engine.
//!
//! | module | holds |
//! |---|---|
//! | `folder` | [`PolicyFolder`]: read as a whole, replaced as a whole |
//! | `merge` | [`merge`]: a change of the folder, before anything is written |
//! | `compile` | [`compile`]: all files together to one [`PolicySet`](sluice_firewall::PolicySet) |
//! | `problem` | problems of files, in the words of the control API |
#![forbid(unsafe_code)]

mod compile;
mod folder;
mod merge;
mod problem;

use std::collections::BTreeMap;
use std::path::Path;

pub use compile::{Compiled, compile, statuses};
pub use folder::{PolicyFolder, read_file};
pub use merge::merge;
pub use problem::problem;

/// Suffix of policy files.
const SUFFIX: &str = ".yaml";

/// Folder of the named sets, in that of the policies.
pub const SETS: &str = "sets";

/// Files by name, with their text: policies, and named sets, whose names begin with `sets/`.
pub type Files = BTreeMap<String, String>;

/// Whether a file of this name or path is that of a named set.
pub fn is_set(name: &str) -> bool {
    let folder = Path::new(name).parent();
    folder.is_some_and(|folder| folder.ends_with(SETS))
}
