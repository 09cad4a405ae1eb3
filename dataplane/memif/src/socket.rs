// SPDX-License-Identifier: Apache-2.0
//! The control socket: unix, SOCK_SEQPACKET, one message and at most one fd at a time.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags,
};
use sluice_peer::PeerCred;
use sluice_peer::checks::disabled;

use crate::msg::{MESSAGE_LEN, Message};
use crate::refusal::Refusal;

/// Received message and the fd that came with it.
#[derive(Debug)]
pub struct Received {
    /// The message.
    pub message: Message,
    /// File descriptor, close-on-exec. A message that takes none never has one here.
    pub fd: Option<OwnedFd>,
}

/// Control connection. Never blocks.
#[derive(Debug)]
pub struct Channel {
    socket: OwnedFd,
}

impl Channel {
    /// Takes a connected SOCK_SEQPACKET socket, which should be non-blocking and close-on-exec.
    pub fn new(socket: OwnedFd) -> Channel {
        Channel { socket }
    }

    /// Two ends of a new connection without a listener.
    ///
    /// # Errors
    /// No fd left.
    pub fn pair() -> std::io::Result<(Channel, Channel)> {
        let (ours, theirs) = rustix::net::socketpair(
            rustix::net::AddressFamily::UNIX,
            rustix::net::SocketType::SEQPACKET,
            rustix::net::SocketFlags::CLOEXEC | rustix::net::SocketFlags::NONBLOCK,
            None,
        )?;
        Ok((Channel { socket: ours }, Channel { socket: theirs }))
    }

    /// Credentials of the process that connected (on a server) or listens (on a client).
    ///
    /// # Errors
    /// Not a unix socket.
    pub fn peer(&self) -> std::io::Result<PeerCred> {
        PeerCred::of(self.socket.as_fd())
    }

    /// Sends a message, with `fd` if it carries one.
    ///
    /// # Errors
    /// [`Refusal::NotReading`] if the peer lets messages pile up, else the socket's failure.
    pub fn send(&self, message: &Message, fd: Option<BorrowedFd<'_>>) -> Result<(), Refusal> {
        let bytes = message.encode();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let fds = fd.map(|fd| [fd]);
        if let Some(fds) = &fds {
            // The space is for exactly this.
            control.push(SendAncillaryMessage::ScmRights(fds));
        }
        loop {
            let sent = rustix::net::sendmsg(
                &self.socket,
                &[IoSlice::new(&bytes)],
                &mut control,
                SendFlags::NOSIGNAL | SendFlags::DONTWAIT,
            );
            return match sent {
                Ok(_) => Ok(()),
                Err(Errno::INTR) => continue,
                Err(Errno::AGAIN) => Err(Refusal::NotReading),
                Err(Errno::PIPE | Errno::CONNRESET) => Err(Refusal::Closed),
                Err(error) => Err(Refusal::Socket(error.into())),
            };
        }
    }

    /// Receives a message if one is there. Every fd that came is either in the result or closed.
    ///
    /// # Errors
    /// The peer is gone, or its bytes are not a message, or it has more or fewer fds than its type
    /// takes.
    pub fn receive(&self) -> Result<Option<Received>, Refusal> {
        // One byte more than a message, so that a longer one shows.
        let mut bytes = [0_u8; MESSAGE_LEN + 1];
        // Room for one fd too many, so that two show without MSG_CTRUNC; the kernel drops the rest.
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let received = loop {
            let received = rustix::net::recvmsg(
                &self.socket,
                &mut [IoSliceMut::new(&mut bytes)],
                &mut control,
                RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC,
            );
            match received {
                Ok(received) => break received,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(None),
                Err(Errno::CONNRESET) => return Err(Refusal::Closed),
                Err(error) => return Err(Refusal::Socket(error.into())),
            }
        };
        let mut fds = Vec::new();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = message {
                fds.extend(rights);
            }
        }
        if received.bytes == 0 {
            return Err(Refusal::Closed);
        }
        let message = Message::decode(&bytes[..received.bytes])?;
        if received.flags.contains(ReturnFlags::CTRUNC) {
            return Err(Refusal::ControlTruncated);
        }
        let fd = fds.pop();
        match (&fd, message.carries_fd()) {
            (None, true) => Err(Refusal::MissingFd(message.kind())),
            (Some(_), false) if !disabled("unwanted-fd") => {
                Err(Refusal::UnwantedFd(message.kind()))
            }
            _ if !fds.is_empty() && !disabled("extra-fds") => {
                Err(Refusal::UnwantedFd(message.kind()))
            }
            _ => Ok(Some(Received { message, fd })),
        }
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use rustix::event::{EventfdFlags, eventfd};
    use rustix::io::{FdFlags, fcntl_getfd};

    fn send_raw(channel: &Channel, bytes: &[u8], fds: &[BorrowedFd<'_>]) {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !fds.is_empty() {
            assert!(control.push(SendAncillaryMessage::ScmRights(fds)));
        }
        let slice = [IoSlice::new(bytes)];
        rustix::net::sendmsg(channel, &slice, &mut control, SendFlags::NOSIGNAL).unwrap();
    }

    #[test]
    fn an_fd_arrives_with_its_message_and_close_on_exec() {
        let (a, b) = Channel::pair().unwrap();
        assert!(b.receive().unwrap().is_none());
        let event = eventfd(0, EventfdFlags::empty()).unwrap();
        a.send(
            &Message::AddRegion { index: 0, size: 1 },
            Some(event.as_fd()),
        )
        .unwrap();
        let received = b.receive().unwrap().unwrap();
        assert_eq!(received.message, Message::AddRegion { index: 0, size: 1 });
        assert!(
            fcntl_getfd(received.fd.unwrap())
                .unwrap()
                .contains(FdFlags::CLOEXEC)
        );
        a.send(&Message::Ack, None).unwrap();
        assert!(b.receive().unwrap().unwrap().fd.is_none());
        drop(a);
        assert!(matches!(b.receive(), Err(Refusal::Closed)));
        assert!(matches!(b.send(&Message::Ack, None), Err(Refusal::Closed)));
    }

    #[test]
    fn wrong_lengths_and_wrong_numbers_of_fds_are_refused() {
        let (a, b) = Channel::pair().unwrap();
        let event = eventfd(0, EventfdFlags::empty()).unwrap();
        let fd = event.as_fd();
        send_raw(&a, &[1, 0, 0], &[]);
        assert!(matches!(b.receive(), Err(Refusal::Malformed(_))));
        send_raw(&a, &[0; 4000], &[fd]);
        assert!(matches!(b.receive(), Err(Refusal::Malformed(_))));
        a.send(&Message::Ack, Some(fd)).unwrap();
        assert!(matches!(b.receive(), Err(Refusal::UnwantedFd("ACK"))));
        let region = Message::AddRegion { index: 0, size: 1 };
        a.send(&region, None).unwrap();
        assert!(matches!(b.receive(), Err(Refusal::MissingFd("ADD_REGION"))));
        send_raw(&a, &region.encode(), &[fd, fd]);
        assert!(matches!(
            b.receive(),
            Err(Refusal::UnwantedFd("ADD_REGION"))
        ));
        send_raw(&a, &region.encode(), &[fd; 5]);
        assert!(matches!(b.receive(), Err(Refusal::ControlTruncated)));
    }

    #[test]
    fn no_fd_is_kept_of_a_refused_message() {
        // The peer of an eventfd cannot tell who holds it; a socket's can: its other end sees the
        // hang-up once the last copy is closed.
        let (a, b) = Channel::pair().unwrap();
        let (held, watched) = Channel::pair().unwrap();
        send_raw(&a, &Message::Ack.encode(), &[held.as_fd(); 2]);
        send_raw(&a, &[0; 7], &[held.as_fd(); 8]);
        drop(held);
        assert!(watched.receive().unwrap().is_none(), "still in flight");
        assert!(b.receive().is_err());
        assert!(b.receive().is_err());
        assert!(matches!(watched.receive(), Err(Refusal::Closed)));
    }

    #[test]
    fn a_peer_that_does_not_read_is_noticed() {
        let (a, _b) = Channel::pair().unwrap();
        let refused = (0..10_000).find_map(|_| a.send(&Message::Ack, None).err());
        assert!(matches!(refused, Some(Refusal::NotReading)));
    }

    #[test]
    fn peer_credentials_are_ours_on_a_pair() {
        let (a, _b) = Channel::pair().unwrap();
        let peer = a.peer().unwrap();
        assert_eq!(peer.pid, std::process::id());
    }
}
