// SPDX-License-Identifier: Apache-2.0
//! Refusals of requests: failures of every part, with the code that the API gives them.

use sluice_api::{ApiError, ErrorCode};

/// Refuses a request that is wrong.
pub fn invalid(message: impl Into<String>) -> ApiError {
    ApiError::new(ErrorCode::Invalid, message)
}

/// Refuses a request that contradicts what is there.
pub fn conflict(message: impl Into<String>) -> ApiError {
    ApiError::new(ErrorCode::Conflict, message)
}

/// Refuses a request about something that is not there.
pub fn not_found(message: impl Into<String>) -> ApiError {
    ApiError::new(ErrorCode::NotFound, message)
}

/// Refuses a request for now: a retry can succeed.
pub fn unavailable(message: impl Into<String>) -> ApiError {
    ApiError::new(ErrorCode::Unavailable, message)
}

/// Reports a failure of the engine or the machine.
pub fn internal(message: impl Into<String>) -> ApiError {
    ApiError::new(ErrorCode::Internal, message)
}

/// Reports an error of the datapath.
#[must_use]
pub fn by_engine(error: &sluice_datapath::Error) -> ApiError {
    use sluice_datapath::Error;

    let code = match error {
        Error::DuplicateMac { .. }
        | Error::DuplicateAddress { .. }
        | Error::UplinkExists(_)
        | Error::UplinkInUse { .. } => ErrorCode::Conflict,
        Error::BadMac(_) | Error::UnknownPolicy { .. } | Error::Config(_) => ErrorCode::Invalid,
        Error::NoUplink | Error::NoAttachment => ErrorCode::NotFound,
        Error::Full(..) | Error::Memory(_) => ErrorCode::Unavailable,
        _ => ErrorCode::Internal,
    };
    ApiError::new(code, error.to_string())
}
