// SPDX-License-Identifier: Apache-2.0
//! Problems of policy files, in the words of the control API.

use std::io;

use sluice_api::PolicyProblem;
use sluice_firewall::Problem;

/// Creates a problem that belongs to no line of a file.
pub fn problem(file: &str, message: String) -> PolicyProblem {
    PolicyProblem {
        file: file.to_owned(),
        line: 0,
        column: 0,
        message,
    }
}

pub(crate) fn unreadable(file: &str, error: &io::Error) -> PolicyProblem {
    problem(file, format!("it cannot be read: {error}"))
}

pub(crate) fn from_problem(problem: Problem) -> PolicyProblem {
    PolicyProblem {
        file: problem.file,
        line: problem.line,
        column: problem.column,
        message: problem.message,
    }
}
