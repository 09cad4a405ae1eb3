// SPDX-License-Identifier: Apache-2.0
//! Policy files: their folder, changes of it, and what they compile to.
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

pub use compile::{Compiled, compile, statuses};
pub use folder::{PolicyFolder, read_file};
pub use merge::merge;
pub use problem::problem;

/// Suffix of policy files.
const SUFFIX: &str = ".yaml";

/// Policy files by name, with their text.
pub type Files = BTreeMap<String, String>;
