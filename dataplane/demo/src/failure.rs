// SPDX-License-Identifier: Apache-2.0
//! Failures that end the demo.

use std::fmt::{Debug, Display};

/// Failure that ends the demo.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// Something that it needs is not here; each line says what, and how to get it.
    #[error("the demo needs what is not here:\n  {}", .0.join("\n  "))]
    Needs(Vec<String>),
    /// Something is not as it must be.
    #[error("{what}\n  expected: {expected}\n  seen:     {seen}")]
    Unexpected {
        /// Object that was checked.
        what: String,
        /// Expected state.
        expected: String,
        /// State that was found.
        seen: String,
    },
    /// Something that the demo itself does failed.
    #[error("cannot {what}: {why}")]
    Broken {
        /// Action that failed.
        what: String,
        /// Reason.
        why: String,
    },
    /// Ctrl-C, or another request to end.
    #[error("interrupted")]
    Interrupted,
}

impl Failure {
    /// Something is not as it must be.
    pub(super) fn unexpected(
        what: impl Into<String>,
        expected: impl Into<String>,
        seen: impl Into<String>,
    ) -> Failure {
        Failure::Unexpected {
            what: what.into(),
            expected: expected.into(),
            seen: seen.into(),
        }
    }

    /// `map_err` for what the demo itself does: `cannot {what}: {error}`.
    pub(super) fn broken<E: Display>(what: impl Into<String>) -> impl FnOnce(E) -> Failure {
        let what = what.into();
        move |error| Failure::Broken {
            what,
            why: error.to_string(),
        }
    }
}

/// Holds what was seen against what must be.
pub(super) fn expect_eq<T: PartialEq + Debug>(
    what: impl Into<String>,
    expected: &T,
    seen: &T,
) -> Result<(), Failure> {
    if expected == seen {
        return Ok(());
    }
    Err(Failure::unexpected(
        what,
        format!("{expected:?}"),
        format!("{seen:?}"),
    ))
}
