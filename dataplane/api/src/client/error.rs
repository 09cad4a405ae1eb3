//! How a request to the engine can fail.

use std::path::PathBuf;
use std::time::Duration;

use crate::ApiError;

/// Why a request got no good answer.
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
        /// What was found there.
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
        /// How long was waited.
        limit: Duration,
    },
    /// The engine answered no.
    #[error(transparent)]
    Refused(ApiError),
    /// What answered does not speak this protocol.
    #[error(
        "{} answered with something unexpected: {message}; is it sluiced that listens there, and \
         of the version of this program?", socket.display()
    )]
    Protocol {
        /// The socket that was tried.
        socket: PathBuf,
        /// What was wrong with the answer.
        message: String,
    },
}

/// In which way the engine is down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DownReason {
    /// No such file: the engine was never started, or it was stopped.
    #[error("there is no such socket")]
    NoSocket,
    /// The file is there and nobody listens: the engine died.
    #[error("nobody listens (the engine died and left its socket)")]
    NobodyListens,
    /// It closed the connection before it answered: it died, or is shutting down.
    #[error("it closed the connection without an answer")]
    HungUp,
}
