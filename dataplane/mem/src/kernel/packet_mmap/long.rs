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
            self.fetched = self.fetch(fd);
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
            let _ = self.fetch(fd);
        }
        self.fetched = Fetched::NotYet;
    }

    fn fetch(&mut self, fd: &OwnedFd) -> Fetched {
        let flags = RecvFlags::DONTWAIT | RecvFlags::TRUNC;
        // An error of the netdev is told once, before what was received.
        for _ in 0..2 {
            match rustix::net::recv(fd, &mut *self.buffer, flags) {
                Ok((len, whole)) if len == whole => return Fetched::Whole(len),
                Ok(_) | Err(Errno::AGAIN) => break,
                Err(errno) => self.error = Some(errno),
            }
        }
        Fetched::Lost
    }
}
