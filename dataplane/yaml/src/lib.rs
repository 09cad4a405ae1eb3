// SPDX-License-Identifier: Apache-2.0
//! Configuration files in YAML, read so that every problem says file, line, column and key, and all are told at
//! once.
//!
//! A program describes its file by structs whose leaves are [`Scalar`]s: values as text, with their position.
//! [`parse`] fills them, which finds wrong structure; a [`Checker`] turns each leaf into what it stands for, and
//! collects what is wrong with it.
//!
//! ```
//! use std::path::Path;
//! use serde::Deserialize;
//! use sluice_yaml::{Checker, Scalar, parse};
//!
//! #[derive(Debug, Default, Deserialize)]
//! #[serde(deny_unknown_fields)]
//! struct Raw {
//!     port: Option<Scalar>,
//! }
//!
//! let file = Path::new("a.yaml");
//! let raw: Raw = parse(file, "port: 70000\n", "a --help").unwrap();
//! let mut checker = Checker::new(file);
//! let port = checker.number("port", raw.port.as_ref(), 80, (1, 65535));
//! let problems = checker.finish(port).unwrap_err();
//! assert_eq!(
//!     problems.to_string(),
//!     "a.yaml:1:7: port: \"70000\" is not allowed: use a number from 1 to 65535 (default 80)"
//! );
//! ```
//!
//! The firewall's policies have a reader of their own over `saphyr-parser`, since their lines are shown beside every
//! rule's counters.
#![forbid(unsafe_code)]

mod checker;
mod problem;
mod structure;

pub use checker::Checker;
pub use problem::{Problem, Problems};
pub use serde_saphyr::{Location, Spanned};
pub use structure::parse;

/// Value as written, with its position in the file.
pub type Scalar = Spanned<String>;

/// Value that stands in no file: one of an argument.
pub fn unplaced<T>(value: T) -> Spanned<T> {
    Spanned::new(value, Location::UNKNOWN, Location::UNKNOWN)
}
