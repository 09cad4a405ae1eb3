// SPDX-License-Identifier: Apache-2.0
//! Frames that the kernel dropped for want of room in the ring: when to ask for their number.

/// Loops without a frame, after some with, until the kernel is asked what it dropped.
const QUIET_LOOPS: u32 = 16;
/// Loops between two such questions while the kernel says that it is dropping.
const LOSING_LOOPS: u32 = 256;

/// Schedule of the question what the kernel dropped: seldom, as it costs a system call.
#[derive(Debug, Default)]
pub(super) struct KernelDrops {
    pub(super) counted: u64,
    /// Loops since the last question.
    loops: u32,
    /// Loops since the last frame.
    quiet: u32,
    /// Frames came since the last question.
    fresh: bool,
    /// The kernel said that it is dropping.
    losing: bool,
}

impl KernelDrops {
    /// Counts one loop and returns whether the question is due.
    pub(super) fn due(&mut self, frames: usize, losing: bool) -> bool {
        self.loops = self.loops.saturating_add(1);
        self.losing |= losing;
        if frames > 0 {
            self.fresh = true;
            self.quiet = 0;
        } else {
            self.quiet = self.quiet.saturating_add(1);
        }
        let due =
            self.losing && self.loops >= LOSING_LOOPS || self.fresh && self.quiet == QUIET_LOOPS;
        if due {
            (self.loops, self.fresh, self.losing) = (0, false, false);
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_is_asked_after_traffic_and_seldom_during_losses() {
        let mut kernel = KernelDrops::default();
        assert!(
            (0..10_000).all(|_| !kernel.due(0, false)),
            "nothing came, so nothing was lost"
        );
        assert!(!kernel.due(64, false));
        let asked = (0..10_000).filter(|_| kernel.due(0, false)).count();
        assert_eq!(asked, 1, "once when it falls quiet");
        let asked = (0..2560).filter(|_| kernel.due(64, true)).count();
        assert_eq!(asked, 10);
    }
}
