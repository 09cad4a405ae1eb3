// SPDX-License-Identifier: Apache-2.0
//! Errors that the engine answers with.

use serde::{Deserialize, Serialize};

/// A failure: what failed, why, and what to do next, for a person; and a code, for a program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    /// For programs.
    pub code: ErrorCode,
    /// For people.
    pub message: String,
}

/// The kind of a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ErrorCode {
    /// The request itself is wrong: a bad value, an unknown uplink or policy. (CNI error 7)
    Invalid,
    /// Conflict with what is there: a duplicate MAC, a name that is taken.
    Conflict,
    /// No such thing.
    NotFound,
    /// The caller may not ask this.
    Forbidden,
    /// Not now: the engine is starting, draining or out of something. (CNI error 11)
    Unavailable,
    /// The engine failed at something that should have worked.
    Internal,
}

impl ErrorCode {
    /// The HTTP status that a failure of this kind is answered with.
    #[must_use]
    pub fn http_status(self) -> u16 {
        match self {
            ErrorCode::Invalid => 422,
            ErrorCode::Conflict => 409,
            ErrorCode::NotFound => 404,
            ErrorCode::Forbidden => 403,
            ErrorCode::Unavailable => 503,
            ErrorCode::Internal => 500,
        }
    }
}

impl ApiError {
    /// A failure of kind `code`.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> ApiError {
        ApiError {
            code,
            message: message.into(),
        }
    }
}
