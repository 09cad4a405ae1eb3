// SPDX-License-Identifier: Apache-2.0
//! Frames kept back to back in one allocation: what a capture file held, what a generator repeats.

/// A list of frames.
#[derive(Debug, Clone, Default)]
pub(super) struct FrameList {
    bytes: Vec<u8>,
    /// End of each frame in `bytes`; a frame begins where the one before it ends.
    ends: Vec<usize>,
}

impl FrameList {
    /// Adds a frame.
    pub(super) fn push(&mut self, frame: &[u8]) {
        self.bytes.extend_from_slice(frame);
        self.ends.push(self.bytes.len());
    }

    /// Returns the number of frames.
    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    /// The frame at `index`, from 0.
    pub(super) fn get(&self, index: usize) -> Option<&[u8]> {
        let end = *self.ends.get(index)?;
        let start = index.checked_sub(1).map_or(0, |before| self.ends[before]);
        self.bytes.get(start..end)
    }
}

#[cfg(test)]
mod tests {
    use super::FrameList;

    #[test]
    fn frames_come_out_as_they_went_in() {
        let mut list = FrameList::default();
        let frames: [&[u8]; 4] = [&[1, 2, 3], &[], &[4], &[5, 6]];
        for frame in frames {
            list.push(frame);
        }
        assert_eq!(list.len(), 4);
        for (index, frame) in frames.iter().enumerate() {
            assert_eq!(list.get(index), Some(*frame));
        }
        assert_eq!(list.get(4), None);
    }
}
