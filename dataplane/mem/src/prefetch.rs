// SPDX-License-Identifier: Apache-2.0
//! Hints to the CPU that memory will be wanted soon.
#![allow(unsafe_code, reason = "an instruction that faults on no address")]

/// Hints that a line will be read soon.
#[inline(always)]
pub(crate) fn prefetch_line(_line: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch is a hint and faults on no address; SSE is part of x86-64.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(_line.cast());
    }
}

/// Hints that a line will be written soon: it is asked for as this core's own at once.
#[inline(always)]
pub(crate) fn prefetch_line_to_write(_line: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: as above; CPUs that do not know the instruction take it for one that does nothing.
    unsafe {
        std::arch::asm!(
            "prefetchw [{0}]",
            in(reg) _line,
            options(nostack, preserves_flags, readonly)
        );
    }
}
