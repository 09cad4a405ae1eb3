// SPDX-License-Identifier: Apache-2.0
//! Volatile copies for other CPUs; tests compare the two.
#![allow(unsafe_code, reason = "raw copies; callers check bounds")]

const WORD: usize = size_of::<u64>();

/// # Safety
/// As for [`super::from_shared`].
pub(super) unsafe fn from_shared(dst: *mut u8, src: *const u8, n: usize) {
    let head = src.align_offset(WORD).min(n);
    let byte = |at: usize| {
        // SAFETY: the caller says that `n` bytes may be read, and `at` is below `n`.
        let byte = unsafe { src.wrapping_add(at).read_volatile() };
        // SAFETY: likewise written.
        unsafe { dst.wrapping_add(at).write(byte) };
    };
    let mut at = 0;
    while at < head {
        byte(at);
        at += 1;
    }
    while n - at >= WORD {
        // SAFETY: as above for the eight bytes from `at` on; reads are aligned.
        let word = unsafe { src.wrapping_add(at).cast::<u64>().read_volatile() };
        // SAFETY: likewise.
        unsafe { dst.wrapping_add(at).cast::<u64>().write_unaligned(word) };
        at += WORD;
    }
    while at < n {
        byte(at);
        at += 1;
    }
}

/// # Safety
/// As for [`super::to_shared`].
pub(super) unsafe fn to_shared(dst: *mut u8, src: *const u8, n: usize) {
    let head = dst.align_offset(WORD).min(n);
    let byte = |at: usize| {
        // SAFETY: the caller says that `n` bytes may be read, and `at` is below `n`.
        let byte = unsafe { src.wrapping_add(at).read() };
        // SAFETY: likewise written.
        unsafe { dst.wrapping_add(at).write_volatile(byte) };
    };
    let mut at = 0;
    while at < head {
        byte(at);
        at += 1;
    }
    while n - at >= WORD {
        // SAFETY: as above for the eight bytes from `at` on; writes are aligned.
        let word = unsafe { src.wrapping_add(at).cast::<u64>().read_unaligned() };
        // SAFETY: likewise.
        unsafe { dst.wrapping_add(at).cast::<u64>().write_volatile(word) };
        at += WORD;
    }
    while at < n {
        byte(at);
        at += 1;
    }
}
