// SPDX-License-Identifier: Apache-2.0
//! [`Iova`] and [`DmaMemory`]: addresses as devices see them, and memory that devices may reach.
#![allow(
    unsafe_code,
    reason = "an implementation vouches for memory that devices write"
)]

use std::fmt;
use std::ptr::NonNull;

/// Address as a device sees it: what its descriptors and base registers hold. Never a virtual address
/// of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Iova(pub u64);

impl Iova {
    /// Returns the address `bytes` further on; wraps at 2^64.
    pub const fn offset(self, bytes: u64) -> Iova {
        Iova(self.0.wrapping_add(bytes))
    }
}

impl fmt::Display for Iova {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

/// Memory that a device may be given access to.
///
/// # Safety
/// The range is mapped, readable and writable, of whole pages, and stays so for as long as the
/// process lives; and nobody forms references to those of its bytes that a posted descriptor names.
pub unsafe trait DmaMemory {
    /// First byte of the range, and its length in bytes.
    fn range(&self) -> (NonNull<u8>, usize);
}
