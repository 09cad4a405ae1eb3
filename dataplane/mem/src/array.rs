// SPDX-License-Identifier: Apache-2.0
//! [`Array`]: a table as large as a cache of flows, on huge pages.
#![allow(unsafe_code, reason = "forms slices over a mapping that it owns")]

use std::fmt;
use std::io;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::slice;

use zerocopy::FromZeros;

use crate::backing::{HUGE_PAGE, map_ordinary, unmap_ordinary};
use crate::mempool::layout::CACHE_LINE;
use crate::prefetch::prefetch_line;

/// A fixed number of values, all zero at first, on transparent huge pages where the kernel has them
/// to give, every page present. A lookup in a table of some megabytes touches another page each
/// time: on ordinary pages that is a walk of the page tables (in a virtual machine, of two), which
/// costs more than the memory itself.
pub struct Array<T> {
    base: NonNull<T>,
    len: usize,
}

// SAFETY: it owns its values, as a Vec does.
unsafe impl<T: Send> Send for Array<T> {}
// SAFETY: likewise.
unsafe impl<T: Sync> Sync for Array<T> {}

impl<T: FromZeros + Copy> Array<T> {
    /// `len` values; with 0, no memory.
    ///
    /// # Errors
    /// The kernel has not so much memory.
    pub fn zeroed(len: usize) -> io::Result<Array<T>> {
        const { assert!(size_of::<T>() > 0 && align_of::<T>() <= 4096) };
        if len == 0 {
            return Ok(Array {
                base: NonNull::dangling(),
                len,
            });
        }
        let too_large = || io::Error::from(io::ErrorKind::OutOfMemory);
        let bytes = len.checked_mul(size_of::<T>()).ok_or_else(too_large)?;
        let base = map_ordinary(rounded(bytes), None)?;
        let base = NonNull::new(base.cast()).ok_or_else(too_large)?;
        Ok(Array { base, len })
    }
}

impl<T> Array<T> {
    /// Hints that value `at` will be used soon, all of its cache lines. If there is no such value,
    /// nothing comes of it.
    #[inline(always)]
    pub fn prefetch(&self, at: usize) {
        let value = self.base.as_ptr().wrapping_add(at).cast::<u8>();
        for line in (0..size_of::<T>()).step_by(CACHE_LINE) {
            prefetch_line(value.wrapping_add(line));
        }
    }
}

/// From an eighth of a huge page on, what is asked for is a whole one.
fn rounded(bytes: usize) -> usize {
    if bytes >= HUGE_PAGE / 8 {
        bytes.max(HUGE_PAGE)
    } else {
        bytes
    }
}

impl<T> Deref for Array<T> {
    type Target = [T];

    #[inline(always)]
    fn deref(&self) -> &[T] {
        // SAFETY: `zeroed` mapped so many values, aligned to a page, for which zeros are a value;
        // they are this array's own as long as it lives.
        unsafe { slice::from_raw_parts(self.base.as_ptr(), self.len) }
    }
}

impl<T> DerefMut for Array<T> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as in `deref`; `self` is borrowed mutably.
        unsafe { slice::from_raw_parts_mut(self.base.as_ptr(), self.len) }
    }
}

impl<T> Drop for Array<T> {
    fn drop(&mut self) {
        if self.len > 0 {
            // SAFETY: what `zeroed` mapped; the values are Copy, so none has to be dropped.
            unsafe {
                unmap_ordinary(
                    self.base.as_ptr().cast(),
                    rounded(self.len * size_of::<T>()),
                )
            };
        }
    }
}

impl<T> fmt::Debug for Array<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Array").field("len", &self.len).finish()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    #[test]
    fn it_is_zero_and_keeps_what_it_is_told() {
        for len in [0, 1, 1000, 300_000] {
            let mut array = Array::<u64>::zeroed(len).unwrap();
            assert_eq!(array.len(), len);
            assert!(array.iter().all(|&value| value == 0));
            for (value, n) in array.iter_mut().zip(1..) {
                *value = n;
            }
            assert!(array.iter().zip(1..).all(|(&value, n)| value == n));
        }
        let too_many = Array::<u64>::zeroed(usize::MAX / 4).unwrap_err();
        assert_eq!(too_many.kind(), io::ErrorKind::OutOfMemory);
    }
}
