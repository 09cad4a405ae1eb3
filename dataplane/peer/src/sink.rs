// SPDX-License-Identifier: Apache-2.0
//! Receiver of the packets that a queue copies out.

use std::collections::VecDeque;

/// Most packets that a queue hands out at once.
pub const BURST: usize = 64;

/// Receiver of packets: gives room for each, into which the queue copies it.
pub trait Sink {
    /// Announces the number of packets that come next, unless a violation is found in them.
    fn expect(&mut self, packets: usize) {
        let _ = packets;
    }

    /// Reserves room for the next packet of `len` bytes (1 to 65535): exactly that many. It is filled before
    /// the next call. `None`, or a slice of another length, drops the packet, which is counted.
    fn reserve(&mut self, len: usize) -> Option<&mut [u8]>;

    /// Reserves room for several packets one by one, each as from [`Sink::reserve`], which `fill` fills
    /// at once. Returns the number of those that had room.
    ///
    /// # Errors
    /// What `fill` returns; the packets behind get no room.
    #[inline(always)]
    fn reserve_each<P, E>(
        &mut self,
        packets: &[P],
        len: impl Fn(&P) -> usize,
        mut fill: impl FnMut(&P, &mut [u8]) -> Result<(), E>,
    ) -> Result<usize, E> {
        let mut filled = 0;
        for packet in packets {
            let len = len(packet);
            if let Some(to) = self.reserve(len).filter(|to| to.len() == len) {
                fill(packet, to)?;
                filled += 1;
            }
        }
        Ok(filled)
    }
}

/// Sink that keeps each frame in a vector of its own, and recycles the vectors. For pods and tests, where
/// an allocation now and then does not matter.
#[derive(Debug, Default)]
pub struct FrameList {
    frames: VecDeque<Vec<u8>>,
    spare: Vec<Vec<u8>>,
}

impl FrameList {
    /// Takes the oldest frame. Give it back to [`FrameList::recycle`] after use.
    pub fn pop(&mut self) -> Option<Vec<u8>> {
        self.frames.pop_front()
    }

    /// Keeps a vector for a later frame.
    pub fn recycle(&mut self, frame: Vec<u8>) {
        if self.spare.len() < 4 * BURST {
            self.spare.push(frame);
        }
    }

    /// Number of frames waiting.
    pub fn len(&self) -> usize {
        self.frames.len()
    }

    /// Whether no frame waits.
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }
}

impl Sink for FrameList {
    fn reserve(&mut self, len: usize) -> Option<&mut [u8]> {
        let mut frame = self.spare.pop().unwrap_or_default();
        frame.clear();
        frame.resize(len, 0);
        self.frames.push_back(frame);
        self.frames.back_mut().map(Vec::as_mut_slice)
    }
}
