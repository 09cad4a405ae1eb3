// SPDX-License-Identifier: Apache-2.0
//! Admission to the control socket: uid 0 in the engine's own user namespace. Root of a container's user
//! namespace is not root here.

use std::io;
use std::os::unix::fs::MetadataExt;

use tokio::net::UnixStream;

/// Whether the peer of a control connection may ask; if not, why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Peer {
    /// Peer that may ask.
    Allowed,
    /// Peer that may not, with the reason.
    Refused(PeerError),
}

/// Reason why a peer may not ask the engine, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PeerError {
    /// Credentials that the kernel does not report.
    #[error("the kernel does not say who asks: {why}")]
    Unknown {
        /// Error of the kernel.
        why: String,
    },
    /// Peer that is not root.
    #[error("uid {uid} may not ask the engine: ask as root of the host")]
    NotRoot {
        /// User id of the peer.
        uid: u32,
    },
    /// Root of another user namespace.
    #[error("pid {pid} is root of another user namespace: ask from the engine's")]
    OtherNamespace {
        /// Process id of the peer.
        pid: i32,
    },
    /// User namespace that cannot be looked at.
    #[error(
        "the user namespace of pid {pid} cannot be seen ({why}): the engine must run in the pid \
         namespace of those who ask (`hostPID: true`), and have CAP_SYS_PTRACE"
    )]
    Hidden {
        /// Process id of the peer; 0 for one outside this pid namespace.
        pid: i32,
        /// Error of the system.
        why: String,
    },
}

impl Peer {
    /// Judges the peer of a connection by its credentials.
    pub fn of(stream: &UnixStream) -> Peer {
        match stream.peer_cred() {
            Ok(credentials) => Peer::judge(credentials.uid(), credentials.pid()),
            Err(error) => Peer::Refused(PeerError::Unknown {
                why: error.to_string(),
            }),
        }
    }

    fn judge(uid: u32, pid: Option<i32>) -> Peer {
        if uid != 0 {
            return Peer::Refused(PeerError::NotRoot { uid });
        }
        // 0 stands for a process that this pid namespace cannot see.
        let pid = pid.unwrap_or(0);
        match same_user_namespace(pid) {
            Ok(true) => Peer::Allowed,
            Ok(false) => Peer::Refused(PeerError::OtherNamespace { pid }),
            Err(error) => Peer::Refused(PeerError::Hidden {
                pid,
                why: error.to_string(),
            }),
        }
    }
}

fn same_user_namespace(pid: i32) -> io::Result<bool> {
    let theirs = std::fs::metadata(format!("/proc/{pid}/ns/user"))?;
    let ours = std::fs::metadata("/proc/self/ns/user")?;
    Ok((theirs.dev(), theirs.ino()) == (ours.dev(), ours.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_of_this_user_namespace_alone() {
        let own = i32::try_from(std::process::id()).ok();
        assert_eq!(Peer::judge(0, own), Peer::Allowed);
        assert!(matches!(Peer::judge(65534, own), Peer::Refused(_)));
        // Nobody has this pid: the highest possible is 2^22.
        assert!(matches!(Peer::judge(0, Some(1 << 23)), Peer::Refused(_)));
        assert!(matches!(Peer::judge(0, Some(0)), Peer::Refused(_)));
        assert!(matches!(Peer::judge(0, None), Peer::Refused(_)));
    }
}
