// SPDX-License-Identifier: Apache-2.0
//! Failures at the host's files and namespaces, as the API tells of them.

use std::io::ErrorKind;

use sluice_host::engine::RecordError;
use sluice_host::{FileError, NetnsError};

use crate::{ApiError, ErrorCode};

impl From<NetnsError> for ApiError {
    fn from(error: NetnsError) -> ApiError {
        let code = match error {
            NetnsError::Gone { .. } | NetnsError::NotOne { .. } | NetnsError::Own { .. } => {
                ErrorCode::Invalid
            }
            NetnsError::Other { .. } => ErrorCode::Conflict,
            NetnsError::System { .. } => ErrorCode::Internal,
        };
        ApiError::new(code, error.to_string())
    }
}

impl From<RecordError> for ApiError {
    fn from(error: RecordError) -> ApiError {
        let code = match &error {
            RecordError::Taken { .. } => ErrorCode::Conflict,
            RecordError::File(error) => by_file(error),
        };
        ApiError::new(code, error.to_string())
    }
}

impl From<FileError> for ApiError {
    fn from(error: FileError) -> ApiError {
        ApiError::new(by_file(&error), error.to_string())
    }
}

/// A disk that is full or read-only mends without anybody asking otherwise: later the same request works.
fn by_file(error: &FileError) -> ErrorCode {
    match error.source.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::ReadOnlyFilesystem => {
            ErrorCode::Unavailable
        }
        _ => ErrorCode::Internal,
    }
}
