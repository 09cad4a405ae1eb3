// SPDX-License-Identifier: Apache-2.0
//! Frames that are longer than their receive slot: the kernel keeps them whole beside the ring
//! (PACKET_COPY_THRESH), to be fetched by `recv`, one for each slot that bears TP_STATUS_COPY, in the
//! order of the slots.
//!
//! So a slot need not be as large as the largest super-frame, and a ring of thousands of slots takes a
//! few megabytes. The system call is for these frames alone.

use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::RecvFlags;

use super::frame::{RxFrame, VNET_HDR_BYTES, VnetHdr};

/// Longest frame that is kept whole, in bytes: 64 KiB of IP packet and the headers of the link.
const LONGEST: usize = (1 << 16) + 64;
/// Frames and errors read for one slot at most.
const READS: usize = 32;

/// Fetches long frames, one at a time.
#[derive(Debug)]
pub(super) struct LongFrames {
    /// virtio_net_hdr and frame.
    buffer: Box<[u8]>,
    fetched: Fetched,
    /// Error of the netdev that `recv` was told in place of the socket's owner.
    error: Option<Errno>,
}

/// State of the frame of the slot that is being read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fetched {
    NotYet,
    /// Bytes of the buffer in use.
    Whole(usize),
    /// Longer than the buffer, or not there.
    Lost,
}

impl LongFrames {
    pub(super) fn new() -> LongFrames {
        LongFrames {
            buffer: vec![0; VNET_HDR_BYTES + LONGEST].into(),
            fetched: Fetched::NotYet,
            error: None,
        }
    }

    /// Takes the error that was met while fetching.
    pub(super) fn take_error(&mut self) -> Option<Errno> {
        self.error.take()
    }

    /// Returns the frame of the current slot as a whole; `None` if it cannot be had.
    pub(super) fn whole<'a>(&'a mut self, fd: &OwnedFd, cut: &RxFrame<'_>) -> Option<RxFrame<'a>> {
        // A frame that was left in the ring is asked for again.
        if self.fetched == Fetched::NotYet {
            self.fetched = self.fetch(fd, cut);
        }
        let Fetched::Whole(len) = self.fetched else {
            return None;
        };
        let (header, data) = self
            .buffer
            .get(..len)?
            .split_first_chunk::<VNET_HDR_BYTES>()?;
        let VnetHdr {
            csum_not_ready,
            gso,
        } = VnetHdr::parse(*header);
        Some(RxFrame {
            data,
            wire_len: data.len(),
            vlan: cut.vlan,
            csum_not_ready,
            gso,
            truncated: false,
            losing: cut.losing,
        })
    }

    /// The current slot goes back to the kernel: so does its long frame, read or not.
    pub(super) fn taken(&mut self, fd: &OwnedFd) {
        if self.fetched == Fetched::NotYet {
            // A longer one is cut, and gone all the same.
            let _ = self.read(fd);
        }
        self.fetched = Fetched::NotYet;
    }

    /// Reads on until the frame of the slot is there. One that is not the slot's was left behind by
    /// an error: with the tag of this slot it would be another VLAN's frame.
    fn fetch(&mut self, fd: &OwnedFd, cut: &RxFrame<'_>) -> Fetched {
        for _ in 0..READS {
            match self.read(fd) {
                Ok((len, whole)) if whole == VNET_HDR_BYTES + cut.wire_len => {
                    let read = self.buffer.get(VNET_HDR_BYTES..len);
                    if read.is_some_and(|read| read.starts_with(cut.data)) {
                        return if len == whole {
                            Fetched::Whole(len)
                        } else {
                            Fetched::Lost
                        };
                    }
                }
                Ok(_) => {}
                Err(Errno::AGAIN) => break,
                // An error of the netdev is told once, before what was received.
                Err(errno) => self.error = Some(errno),
            }
        }
        Fetched::Lost
    }

    /// Reads one frame into the buffer. Returns the bytes read, the virtio_net_hdr among them, and
    /// those that there were.
    fn read(&mut self, fd: &OwnedFd) -> Result<(usize, usize), Errno> {
        let flags = RecvFlags::DONTWAIT | RecvFlags::TRUNC;
        rustix::net::recv(fd, &mut *self.buffer, flags)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType, send, socketpair};

    use super::*;

    /// Slot that has the first bytes of a frame.
    fn slot(data: &[u8], wire_len: usize) -> RxFrame<'_> {
        RxFrame {
            data,
            wire_len,
            vlan: Some((0x8100, 210)),
            csum_not_ready: None,
            gso: None,
            truncated: true,
            losing: false,
        }
    }

    #[test]
    fn a_frame_that_was_left_behind_is_not_taken_for_that_of_a_later_slot() {
        let flags = SocketFlags::NONBLOCK;
        let (kernel, ours) =
            socketpair(AddressFamily::UNIX, SocketType::DGRAM, flags, None).unwrap();
        let queue = |frame: &[u8]| {
            let kept = [&[0; VNET_HDR_BYTES], frame].concat();
            send(&kernel, &kept, SendFlags::empty()).unwrap();
        };
        let mut long = LongFrames::new();
        queue(b"first frame, left behind");
        queue(b"other frame, of the slot");
        let second = slot(b"other frame", 24);
        let whole = long.whole(&ours, &second).unwrap();
        assert_eq!(whole.data, b"other frame, of the slot");
        assert_eq!(whole.vlan, Some((0x8100, 210)));
        long.taken(&ours);
        queue(b"a frame of another length");
        assert_eq!(long.whole(&ours, &slot(b"a frame", 24)), None);
        long.taken(&ours);
        queue(&vec![7; LONGEST + 1]);
        queue(b"the one behind it");
        assert_eq!(long.whole(&ours, &slot(&[7; 100], LONGEST + 1)), None);
        long.taken(&ours);
        let behind = slot(b"the one", 17);
        assert!(
            long.whole(&ours, &behind).is_some(),
            "a frame too long costs no other"
        );
    }
}
