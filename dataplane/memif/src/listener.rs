// SPDX-License-Identifier: Apache-2.0
//! Opening control sockets of memifs: listening and connecting, by abstract name and by path.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use sluice_peer::{Address, OpenError, SocketKind};

use crate::socket::Channel;

/// Listening control socket. Dropping it closes it and removes its path.
#[derive(Debug)]
pub struct Listener(sluice_peer::Listener);

impl Listener {
    /// Listens at `address`; see [`sluice_peer::Listener::bind`].
    ///
    /// # Errors
    /// Somebody listens there, something else is there, or the directory cannot be used.
    pub fn bind(address: &Address) -> Result<Listener, OpenError> {
        sluice_peer::Listener::bind(SocketKind::SeqPacket, address).map(Listener)
    }

    /// Listens at `name` in an open directory.
    ///
    /// # Errors
    /// As [`Listener::bind`]; also if `name` is more than one path component.
    pub fn bind_in(directory: BorrowedFd<'_>, name: &OsStr) -> Result<Listener, OpenError> {
        sluice_peer::Listener::bind_in(SocketKind::SeqPacket, directory, name).map(Listener)
    }

    /// Accepts the next waiting connection, if there is one.
    ///
    /// # Errors
    /// No fd left, or the socket failed.
    pub fn accept(&self) -> std::io::Result<Option<Channel>> {
        Ok(self.0.accept()?.map(Channel::new))
    }
}

impl From<sluice_peer::Listener> for Listener {
    /// Takes over a listener of messages whose bounds are kept.
    fn from(listener: sluice_peer::Listener) -> Listener {
        Listener(listener)
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Connects to a listening control socket; an abstract name is looked up in the network namespace
/// that the calling thread is in.
///
/// # Errors
/// [`OpenError::Nobody`] if nobody listens there, else the failure.
pub fn connect(address: &Address) -> Result<Channel, OpenError> {
    sluice_peer::connect(SocketKind::SeqPacket, address).map(Channel::new)
}

/// Connects to the socket at `path` below an open directory; see [`sluice_peer::connect_in`].
///
/// # Errors
/// As [`connect`]; also if the path does not stay below the directory.
pub fn connect_in(directory: BorrowedFd<'_>, path: &Path) -> Result<Channel, OpenError> {
    sluice_peer::connect_in(SocketKind::SeqPacket, directory, path).map(Channel::new)
}
