// SPDX-License-Identifier: Apache-2.0
//! Errors of requests to the engine.

use std::path::PathBuf;
use std::time::Duration;

use crate::ApiError;

/// Failure of a request.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The engine is not there: nothing was asked of it, or it went away before it answered.
    #[error(
        "the engine does not answer on {}: {reason}; see `systemctl status sluiced` or the log of \
         its pod, or start it with `sluiced --config FILE`", socket.display()
    )]
    Down {
        /// The socket that was tried.
        socket: PathBuf,
        /// State of the socket.
        reason: DownReason,
    },
    /// The engine took the request and did not answer in time: whether it did what was asked is
    /// not known.
    #[error(
        "the engine did not answer on {} within {limit:?}: it is overloaded or hangs; ask again, \
         and restart it if that does not help", socket.display()
    )]
    TimedOut {
        /// The socket that was tried.
        socket: PathBuf,
        /// Time that was waited.
        limit: Duration,
    },
    /// The engine answered no.
    #[error(transparent)]
    Refused(ApiError),
    /// Answer that is not of this protocol.
    #[error(
        "{} answered with something unexpected: {message}; is it sluiced that listens there, and \
         of the version of this program?", socket.display()
    )]
    Protocol {
        /// The socket that was tried.
        socket: PathBuf,
        /// Reason why it is not.
        message: String,
    },
}

/// Way in which the engine is down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DownReason {
    /// No such file: the engine was never started, or it was stopped.
    #[error("there is no such socket")]
    NoSocket,
    /// The file is there and nobody listens: the engine died.
    #[error("nobody listens (the engine died and left its socket)")]
    NobodyListens,
    /// No unix socket can have such a path.
    #[error("its path has {0} bytes, and a unix socket's has 107 at most: use a shorter run_dir")]
    PathTooLong(usize),
    /// Connection closed before the answer: the engine died, or is shutting down.
    #[error("it closed the connection without an answer")]
    HungUp,
}
