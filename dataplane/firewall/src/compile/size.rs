// SPDX-License-Identifier: Apache-2.0
//! Size of compiled rules.

use std::iter::Sum;

/// Counts of what compiled rules are made of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Size {
    /// Blocks of rules; none of a flat table.
    pub(crate) blocks: usize,
    /// Rows and lines of all coordinates.
    pub(crate) lines: usize,
    /// Rules left out, as an earlier one hides them.
    pub(crate) hidden: usize,
    /// Bytes of searches, rows and lines.
    pub(crate) bytes: usize,
}

impl Sum for Size {
    fn sum<I: Iterator<Item = Size>>(sizes: I) -> Size {
        sizes.fold(Size::default(), |sum, size| Size {
            blocks: sum.blocks + size.blocks,
            lines: sum.lines + size.lines,
            hidden: sum.hidden + size.hidden,
            bytes: sum.bytes + size.bytes,
        })
    }
}
