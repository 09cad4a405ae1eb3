//! Who may ask the engine: uid 0, and in the engine's own user namespace (root of a container's
//! user namespace is not root here).

use std::io;
use std::os::unix::fs::MetadataExt;

use tokio::net::UnixStream;

/// Whether the peer of a control connection may ask; if not, why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Peer {
    /// It may.
    Allowed,
    /// It may not.
    Refused(String),
}

impl Peer {
    /// Looks at who connected.
    pub fn of(stream: &UnixStream) -> Peer {
        match stream.peer_cred() {
            Ok(credentials) => Peer::judge(credentials.uid(), credentials.pid()),
            Err(error) => Peer::Refused(format!("the kernel does not say who asks: {error}")),
        }
    }

    fn judge(uid: u32, pid: Option<i32>) -> Peer {
        if uid != 0 {
            return Peer::Refused(format!(
                "uid {uid} may not ask the engine: ask as root of the host"
            ));
        }
        // 0 stands for a process that this pid namespace cannot see.
        let pid = pid.unwrap_or(0);
        match same_user_namespace(pid) {
            Ok(true) => Peer::Allowed,
            Ok(false) => Peer::Refused(format!(
                "pid {pid} is root of another user namespace: ask from the engine's"
            )),
            Err(error) => Peer::Refused(format!(
                "the user namespace of pid {pid} cannot be seen ({error}): the engine must run in \
                 the pid namespace of those who ask (`hostPID: true`)"
            )),
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
