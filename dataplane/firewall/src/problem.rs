//! What is wrong with a policy, and where.

use std::fmt;

/// A place in a policy file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Position {
    /// From 1; 0 where there is no line to point at.
    pub line: usize,
    /// In characters, from 1; 0 where there is no column to point at.
    pub column: usize,
}

/// One thing that is wrong with a policy (or, as a warning, probably wrong), where it is, and what
/// would be right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Problem {
    /// The file, as it was named to [`crate::Policy::parse`].
    pub file: String,
    /// From 1; 0 where there is no line to point at.
    pub line: usize,
    /// In characters, from 1; 0 where there is no column to point at.
    pub column: usize,
    /// What is wrong and what is allowed.
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

/// `file:line:column: message`, as compilers write it.
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if self.line != 0 {
            write!(f, ":{}:{}", self.line, self.column)?;
        }
        write!(f, ": {}", self.message)
    }
}
