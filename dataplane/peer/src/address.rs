// SPDX-License-Identifier: Apache-2.0
//! Addresses of control sockets, and the credentials of who is behind one.

use std::fmt;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Address of a control socket.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Address {
    /// A name in the abstract namespace of the network namespace that the calling thread is in,
    /// without the leading zero byte. At most 107 bytes.
    Abstract(String),
    /// Path in the file system.
    Path(PathBuf),
}

impl FromStr for Address {
    type Err = AddressError;

    /// Parses `@name` as an abstract name, anything else as a path.
    fn from_str(text: &str) -> Result<Address, AddressError> {
        match text.strip_prefix('@') {
            Some("") => Err(AddressError::Empty),
            Some(name) if name.len() > Address::MAX_ABSTRACT => Err(AddressError::Long(name.len())),
            Some(name) if name.contains('\0') => Err(AddressError::Zero),
            Some(name) => Ok(Address::Abstract(name.to_owned())),
            None if text.is_empty() => Err(AddressError::Empty),
            None if text.contains('\0') => Err(AddressError::Zero),
            None => Ok(Address::Path(PathBuf::from(text))),
        }
    }
}

/// Reason why a text is not a socket address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Empty text.
    #[error("empty socket address: write @name for an abstract socket, or a path")]
    Empty,
    /// Abstract name longer than the kernel's limit.
    #[error("abstract socket name of {0} bytes: at most 107 are possible")]
    Long(usize),
    /// Text with a zero byte.
    #[error("a socket address cannot hold a zero byte")]
    Zero,
}

impl Address {
    /// Longest abstract name, in bytes.
    pub const MAX_ABSTRACT: usize = 107;

    /// Path of the socket; `None` for an abstract name.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Address::Abstract(_) => None,
            Address::Path(path) => Some(path),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Abstract(name) => write!(f, "@{name}"),
            Address::Path(path) => write!(f, "{}", path.display()),
        }
    }
}

/// Credentials of the peer's process, as the kernel noted them when the connection was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerCred {
    /// Process id in our pid namespace; 0 if it is not visible from there.
    pub pid: u32,
    /// User id in our user namespace.
    pub uid: u32,
    /// Group id in our user namespace.
    pub gid: u32,
}

impl PeerCred {
    /// Reads the credentials of the process that connected (on a server) or listens (on a client).
    ///
    /// # Errors
    /// Not a unix socket.
    pub fn of(socket: BorrowedFd<'_>) -> std::io::Result<PeerCred> {
        // Not rustix's call: its pid cannot be 0, which is what a pid of another namespace is.
        let cred =
            nix::sys::socket::getsockopt(&socket, nix::sys::socket::sockopt::PeerCredentials)?;
        Ok(PeerCred {
            pid: u32::try_from(cred.pid()).unwrap_or(0),
            uid: cred.uid(),
            gid: cred.gid(),
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn addresses_parse() {
        assert_eq!("@a/b".parse(), Ok(Address::Abstract("a/b".into())));
        assert_eq!("/run/x".parse(), Ok(Address::Path("/run/x".into())));
        assert_eq!("@".parse::<Address>(), Err(AddressError::Empty));
        assert_eq!("".parse::<Address>(), Err(AddressError::Empty));
        let long = format!("@{}", "x".repeat(108));
        assert_eq!(long.parse::<Address>(), Err(AddressError::Long(108)));
        assert_eq!(Address::Abstract("a".into()).to_string(), "@a");
    }
}
