// SPDX-License-Identifier: Apache-2.0
//! Reading of a connection on which the peer may send a file descriptor with the first byte of its request
//! (SCM_RIGHTS, unix(7)).
//!
//! One is kept. The kernel is given room for no more than it has to be; what fits there beside the first is
//! closed at once, and without room it drops the rest itself. So a peer that sends hundreds costs nothing.

use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::UnixStream;

/// File descriptor that a peer sent with its request.
#[derive(Debug, Clone, Default)]
pub(super) struct SentFd(Arc<Mutex<Option<OwnedFd>>>);

impl SentFd {
    /// Takes the file descriptor out, if there is one.
    pub(super) fn take(&self) -> Option<OwnedFd> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn keep(&self, fd: OwnedFd) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(fd);
    }
}

/// Connection that keeps the file descriptor which comes with its first bytes.
pub(super) struct FdIntake {
    stream: UnixStream,
    /// Place of the file descriptor, until the first bytes were read. `None`: those that come are dropped.
    sent: Option<SentFd>,
}

impl FdIntake {
    /// Makes a connection whose first file descriptor goes to `sent`.
    pub(super) fn new(stream: UnixStream, sent: Option<SentFd>) -> FdIntake {
        FdIntake { stream, sent }
    }
}

impl AsyncRead for FdIntake {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let FdIntake { stream, sent } = &mut *self;
        let Some(place) = sent.as_ref().filter(|_| buffer.remaining() > 0) else {
            return Pin::new(stream).poll_read(context, buffer);
        };
        loop {
            ready!(stream.poll_read_ready(context))?;
            let unfilled = buffer.initialize_unfilled();
            match stream.try_io(Interest::READABLE, || receive(stream, unfilled, place)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
                Ok(read) => {
                    buffer.advance(read);
                    *sent = None;
                    return Poll::Ready(Ok(()));
                }
            }
        }
    }
}

fn receive(stream: &UnixStream, bytes: &mut [u8], place: &SentFd) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
    let received = recvmsg(stream, &mut [IoSliceMut::new(bytes)], &mut ancillary, flags)?;
    let rights = ancillary.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(fds) => Some(fds),
        _ => None,
    });
    // Those beside the first are closed as they are dropped.
    let mut fds: Vec<OwnedFd> = rights.flatten().collect();
    if !fds.is_empty() {
        place.keep(fds.swap_remove(0));
    }
    Ok(received.bytes)
}

impl AsyncWrite for FdIntake {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use std::fs::File;
    use std::io::IoSlice;
    use std::os::fd::{AsFd, BorrowedFd};
    use std::os::unix::fs::MetadataExt;

    use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
    use tokio::io::AsyncReadExt;

    use super::*;

    /// Most that the kernel lets one message carry (SCM_MAX_FD).
    const MOST: usize = 253;

    /// Number of times that this process has the file open which is sent: other tests open others.
    fn open_files() -> usize {
        let entries = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
        let files = entries.filter_map(|entry| std::fs::read_link(entry.path()).ok());
        files.filter(|file| file.ends_with("version")).count()
    }

    fn send(stream: &std::os::unix::net::UnixStream, bytes: &[u8], fds: &[BorrowedFd<'_>]) {
        let mut space = vec![MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        assert!(ancillary.push(SendAncillaryMessage::ScmRights(fds)));
        let flags = SendFlags::NOSIGNAL;
        sendmsg(stream, &[IoSlice::new(bytes)], &mut ancillary, flags).unwrap();
    }

    /// Sends `count` files with a first message and as many with a second, and returns the file that
    /// was kept.
    fn kept_of(count: usize, may_send: bool) -> Option<File> {
        let (near, far) = std::os::unix::net::UnixStream::pair().unwrap();
        near.set_nonblocking(true).unwrap();
        let file = File::open("/proc/version").unwrap();
        let fds = vec![file.as_fd(); count];
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .build()
            .unwrap();
        let sent = SentFd::default();
        let before = open_files();
        let text = runtime.block_on(async {
            let stream = UnixStream::from_std(near).unwrap();
            let mut intake = FdIntake::new(stream, may_send.then(|| sent.clone()));
            send(&far, b"POST ", &fds);
            let mut text = vec![0; 5];
            intake.read_exact(&mut text).await.unwrap();
            send(&far, b"/v1", &fds);
            text.resize(8, 0);
            intake.read_exact(&mut text[5..]).await.unwrap();
            let kept = usize::from(may_send);
            assert_eq!(open_files(), before + kept, "of {count} sent twice");
            text
        });
        assert_eq!(text, b"POST /v1");
        sent.take().map(File::from)
    }

    #[test]
    fn one_of_many_is_kept_and_a_strangers_none() {
        // In one test: it counts how often the file is open.
        for count in [1, 2, MOST] {
            let kept = kept_of(count, true).unwrap().metadata().unwrap();
            let version = std::fs::metadata("/proc/version").unwrap();
            assert_eq!((kept.dev(), kept.ino()), (version.dev(), version.ino()));
        }
        assert!(kept_of(MOST, false).is_none());
    }
}
