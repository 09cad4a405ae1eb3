// SPDX-License-Identifier: Apache-2.0
//! Problems of a policy file, with their positions.

use std::fmt;

/// Position in a policy file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Position {
    /// Line, from 1; 0 where there is none to point at.
    pub line: usize,
    /// Column in characters, from 1; 0 where there is none to point at.
    pub column: usize,
}

/// Problem of a policy (or, as a warning, a probable one), with its position and what would be right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Problem {
    /// File, as it was named to [`crate::Policy::parse`].
    pub file: String,
    /// Line, from 1; 0 where there is none to point at.
    pub line: usize,
    /// Column in characters, from 1; 0 where there is none to point at.
    pub column: usize,
    /// Message: what is wrong and what is allowed.
    pub message: String,
}

impl Problem {
    pub(crate) fn new(file: &str, at: Position, message: impl Into<String>) -> Problem {
        Problem {
            file: file.to_owned(),
            line: at.line,
            column: at.column,
            message: message.into(),
        }
    }
}

/// Formats as `file:line:column: message`, like compilers.
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if self.line != 0 {
            write!(f, ":{}:{}", self.line, self.column)?;
        }
        write!(f, ": {}", self.message)
    }
}
