// SPDX-License-Identifier: Apache-2.0
//! Control socket: a stream of bytes with file descriptors, of which whole messages are made.

use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendFlags};
use sluice_peer::checks::disabled;

use crate::msg::{HEADER_LEN, Header, MAX_PAYLOAD, MAX_TABLE, Name, Request};
use crate::refusal::Refusal;

/// Time in which a message must be whole once its first byte is here.
const MESSAGE_LIMIT: Duration = Duration::from_secs(5);

/// Received message and the file descriptors that came with it.
#[derive(Debug)]
pub(crate) struct Received {
    pub(crate) header: Header,
    pub(crate) request: Request,
    /// File descriptors, close-on-exec; as many as the request can carry.
    pub(crate) fds: Vec<OwnedFd>,
}

/// Connection to a front end. Never blocks.
#[derive(Debug)]
pub(crate) struct Channel {
    socket: OwnedFd,
    bytes: Box<[u8; HEADER_LEN + MAX_PAYLOAD]>,
    /// Bytes of the message that are here.
    have: usize,
    /// File descriptors that came with those bytes.
    fds: Vec<OwnedFd>,
    /// Moment by which the message must be whole, once it has begun.
    deadline: Option<Instant>,
}

impl Channel {
    /// Connection over a connected SOCK_STREAM socket, which should be non-blocking and close-on-exec.
    pub(crate) fn new(socket: OwnedFd) -> Channel {
        Channel {
            socket,
            bytes: Box::new([0; HEADER_LEN + MAX_PAYLOAD]),
            have: 0,
            fds: Vec::new(),
            deadline: None,
        }
    }

    /// Moment by which a message that has begun must be whole.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// Receives a message if it is whole. Every file descriptor that came is either in the result, kept
    /// for the message, or closed.
    ///
    /// # Errors
    /// The peer is gone, its bytes are not a message, the message has more or fewer file descriptors
    /// than its request takes, or it is not whole in time.
    pub(crate) fn receive(&mut self) -> Result<Option<Received>, Refusal> {
        loop {
            let header = match self.bytes.first_chunk::<HEADER_LEN>() {
                Some(bytes) if self.have >= HEADER_LEN => Some(Header::decode(bytes)?),
                _ => None,
            };
            let wanted = HEADER_LEN + header.map_or(0, |header| header.size);
            if let Some(header) = header.filter(|_| self.have == wanted) {
                return self.take(header).map(Some);
            }
            if !self.fill(wanted)? {
                let late = self.deadline.is_some_and(|end| end <= Instant::now());
                if late && !disabled("message-deadline") {
                    return Err(Refusal::Deadline(MESSAGE_LIMIT.as_millis()));
                }
                return Ok(None);
            }
        }
    }

    /// Makes a message of the bytes that are here, all of it.
    fn take(&mut self, header: Header) -> Result<Received, Refusal> {
        let payload = self.bytes.get(HEADER_LEN..self.have).unwrap_or_default();
        let request = Request::decode(header, payload)?;
        let fds = std::mem::take(&mut self.fds);
        (self.have, self.deadline) = (0, None);
        if !request.fds().contains(&fds.len()) && !disabled("fd-count") {
            return Err(Refusal::Fds {
                request: Name(header.request),
                got: fds.len(),
            });
        }
        Ok(Received {
            header,
            request,
            fds,
        })
    }

    /// Receives bytes up to the `wanted` that the message has so far. `false`: none are there.
    fn fill(&mut self, wanted: usize) -> Result<bool, Refusal> {
        let Some(room) = self.bytes.get_mut(self.have..wanted) else {
            return Ok(false);
        };
        // Room for one too many, so that it shows without MSG_CTRUNC; the kernel drops the rest.
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_TABLE + 1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let received = loop {
            let received = rustix::net::recvmsg(
                &self.socket,
                &mut [IoSliceMut::new(room)],
                &mut control,
                RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC,
            );
            match received {
                Ok(received) => break received,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(false),
                Err(Errno::CONNRESET) => return Err(Refusal::Closed),
                Err(error) => return Err(Refusal::Socket(error.into())),
            }
        };
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = message {
                self.fds.extend(rights);
            }
        }
        if received.bytes == 0 {
            return Err(Refusal::Closed);
        }
        let cut = received.flags.contains(ReturnFlags::CTRUNC);
        if cut || self.fds.len() > MAX_TABLE {
            return Err(Refusal::TooManyFds);
        }
        self.have += received.bytes;
        self.deadline
            .get_or_insert_with(|| Instant::now() + MESSAGE_LIMIT);
        Ok(true)
    }

    /// Sends an answer, whole.
    ///
    /// # Errors
    /// [`Refusal::NotReading`] if the peer lets answers pile up, else the socket's failure.
    pub(crate) fn send(&self, answer: &[u8]) -> Result<(), Refusal> {
        loop {
            let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
            return match rustix::net::send(&self.socket, answer, flags) {
                Ok(sent) if sent == answer.len() => Ok(()),
                Ok(_) | Err(Errno::AGAIN) => Err(Refusal::NotReading),
                Err(Errno::INTR) => continue,
                Err(Errno::PIPE | Errno::CONNRESET) => Err(Refusal::Closed),
                Err(error) => Err(Refusal::Socket(error.into())),
            };
        }
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
