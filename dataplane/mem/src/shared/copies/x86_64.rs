// SPDX-License-Identifier: Apache-2.0
//! Copies in inline assembly, of which the compiler knows only that memory changes.
#![allow(unsafe_code, reason = "raw copies; callers check bounds")]

use std::arch::asm;

use super::Width;

/// From here on `rep movsb`, where it is fast, gains what its start costs.
const REP_MIN: usize = 4096;

/// Copies up to 64 bytes here, where the caller's length is often known, and calls for more.
///
/// # Safety
/// As for [`super::from_shared`].
#[inline(always)]
pub(super) unsafe fn copy(dst: *mut u8, src: *const u8, n: usize, width: Width) {
    match n {
        33..=64 => match width {
            // SAFETY: the caller says that `n` bytes may be copied, and the width is this CPU's.
            Width::Avx512 => unsafe { two_of_32(dst, src, n) },
            // SAFETY: the caller says that `n` bytes may be copied; 33 to 64.
            _ => unsafe { quad(dst, src, n) },
        },
        // SAFETY: as above; 17 to 32.
        17..=32 => unsafe { pair(dst, src, n) },
        // SAFETY: as above; at most 16.
        0..=16 => unsafe { tiny(dst, src, n) },
        // SAFETY: as above; above 64.
        _ => unsafe { long(dst, src, n, width) },
    }
}

/// # Safety
/// As for [`super::from_shared`], and `n` is 32 to 64.
#[inline(always)]
unsafe fn quad(dst: *mut u8, src: *const u8, n: usize) {
    // SAFETY: reads and writes at 0, 16, n - 32 and n - 16, 16 bytes each: within `n`.
    unsafe {
        asm!(
            "movdqu {a}, [{s}]",
            "movdqu {b}, [{s} + 16]",
            "movdqu {c}, [{s} + {n} - 32]",
            "movdqu {e}, [{s} + {n} - 16]",
            "movdqu [{d}], {a}",
            "movdqu [{d} + 16], {b}",
            "movdqu [{d} + {n} - 32], {c}",
            "movdqu [{d} + {n} - 16], {e}",
            s = in(reg) src, d = in(reg) dst, n = in(reg) n,
            a = out(xmm_reg) _, b = out(xmm_reg) _, c = out(xmm_reg) _, e = out(xmm_reg) _,
            options(nostack, preserves_flags),
        );
    }
}

/// # Safety
/// As for [`super::from_shared`], `n` is 32 to 64, and the CPU has AVX-512VL.
#[inline(always)]
unsafe fn two_of_32(dst: *mut u8, src: *const u8, n: usize) {
    // SAFETY: reads and writes at 0 and n - 32, 32 bytes each: within `n`. Registers from 16 on have
    // no part in what older vector code waits for, so nothing has to be cleared after them.
    unsafe {
        asm!(
            "vmovdqu64 ymm16, [{s}]",
            "vmovdqu64 ymm17, [{s} + {n} - 32]",
            "vmovdqu64 [{d}], ymm16",
            "vmovdqu64 [{d} + {n} - 32], ymm17",
            s = in(reg) src, d = in(reg) dst, n = in(reg) n,
            out("xmm16") _, out("xmm17") _,
            options(nostack, preserves_flags),
        );
    }
}

/// # Safety
/// As for [`super::from_shared`], `n` is 64 to 128, and the CPU has AVX-512.
#[inline(always)]
unsafe fn two_of_64(dst: *mut u8, src: *const u8, n: usize) {
    // SAFETY: reads and writes at 0 and n - 64, 64 bytes each: within `n`.
    unsafe {
        asm!(
            "vmovdqu64 zmm16, [{s}]",
            "vmovdqu64 zmm17, [{s} + {n} - 64]",
            "vmovdqu64 [{d}], zmm16",
            "vmovdqu64 [{d} + {n} - 64], zmm17",
            s = in(reg) src, d = in(reg) dst, n = in(reg) n,
            out("xmm16") _, out("xmm17") _,
            options(nostack, preserves_flags),
        );
    }
}

/// # Safety
/// As for [`super::from_shared`], and `n` is 16 to 32.
#[inline(always)]
unsafe fn pair(dst: *mut u8, src: *const u8, n: usize) {
    // SAFETY: reads and writes at 0 and n - 16, 16 bytes each: within `n`.
    unsafe {
        asm!(
            "movdqu {a}, [{s}]",
            "movdqu {b}, [{s} + {n} - 16]",
            "movdqu [{d}], {a}",
            "movdqu [{d} + {n} - 16], {b}",
            s = in(reg) src, d = in(reg) dst, n = in(reg) n,
            a = out(xmm_reg) _, b = out(xmm_reg) _,
            options(nostack, preserves_flags),
        );
    }
}

/// # Safety
/// As for [`super::from_shared`], and `n` is at most 16.
#[inline]
unsafe fn tiny(dst: *mut u8, src: *const u8, n: usize) {
    match n {
        // SAFETY: reads and writes 8 bytes at 0 and at n - 8: within `n`.
        8..=16 => unsafe {
            asm!(
                "mov {a}, [{s}]",
                "mov {b}, [{s} + {n} - 8]",
                "mov [{d}], {a}",
                "mov [{d} + {n} - 8], {b}",
                s = in(reg) src, d = in(reg) dst, n = in(reg) n,
                a = out(reg) _, b = out(reg) _,
                options(nostack, preserves_flags),
            )
        },
        // SAFETY: reads and writes 4 bytes at 0 and at n - 4: within `n`.
        4..=7 => unsafe {
            asm!(
                "mov {a:e}, [{s}]",
                "mov {b:e}, [{s} + {n} - 4]",
                "mov [{d}], {a:e}",
                "mov [{d} + {n} - 4], {b:e}",
                s = in(reg) src, d = in(reg) dst, n = in(reg) n,
                a = out(reg) _, b = out(reg) _,
                options(nostack, preserves_flags),
            )
        },
        // SAFETY: reads and writes 2 bytes at 0 and at n - 2: within `n`.
        2..=3 => unsafe {
            asm!(
                "mov {a:x}, [{s}]",
                "mov {b:x}, [{s} + {n} - 2]",
                "mov [{d}], {a:x}",
                "mov [{d} + {n} - 2], {b:x}",
                s = in(reg) src, d = in(reg) dst, n = in(reg) n,
                a = out(reg) _, b = out(reg) _,
                options(nostack, preserves_flags),
            )
        },
        // SAFETY: reads and writes 1 byte: within `n`.
        1 => unsafe {
            asm!(
                "mov {a}, [{s}]",
                "mov [{d}], {a}",
                s = in(reg) src, d = in(reg) dst, a = out(reg_byte) _,
                options(nostack, preserves_flags),
            )
        },
        _ => {}
    }
}

/// # Safety
/// As for [`super::from_shared`], and `n` is above 64.
#[inline(never)]
unsafe fn long(dst: *mut u8, src: *const u8, n: usize, width: Width) {
    let last = |bytes: usize| (dst.wrapping_add(n - bytes), src.wrapping_add(n - bytes));
    match n {
        // SAFETY: the caller says that `n` bytes may be copied, 65 to 128, and the width is this CPU's.
        0..=128 if width == Width::Avx512 => unsafe { two_of_64(dst, src, n) },
        129..=256 if width == Width::Avx512 => {
            // SAFETY: as above; the first 128 of 129 to 256 bytes.
            unsafe { two_of_64(dst, src, 128) };
            let (dst, src) = last(128);
            // SAFETY: as above; the last 128, over their end.
            unsafe { two_of_64(dst, src, 128) };
        }
        0..=128 => {
            // SAFETY: the caller says that `n` bytes may be copied; the first 64 of 65 to 128.
            unsafe { quad(dst, src, 64) };
            let (dst, src) = last(64);
            // SAFETY: as above; the last 64, over their end.
            unsafe { quad(dst, src, 64) };
        }
        129..=256 => {
            // SAFETY: the caller says that `n` bytes may be copied; the first 64 of 129 to 256.
            unsafe { quad(dst, src, 64) };
            // SAFETY: as above; the next 64.
            unsafe { quad(dst.wrapping_add(64), src.wrapping_add(64), 64) };
            let (to, from) = last(128);
            // SAFETY: as above; 64 bytes that end 64 before the end.
            unsafe { quad(to, from, 64) };
            let (to, from) = last(64);
            // SAFETY: as above; the last 64.
            unsafe { quad(to, from, 64) };
        }
        _ => match width {
            // SAFETY: the caller says that `n` bytes may be copied.
            Width::AvxRep | Width::Avx512 if n >= REP_MIN => unsafe { rep(dst, src, n) },
            // SAFETY: as above, more than 256, and the width is this CPU's.
            Width::Avx | Width::AvxRep | Width::Avx512 => unsafe { avx(dst, src, n) },
            // SAFETY: as above, more than 256.
            Width::Baseline => unsafe { sse(dst, src, n) },
        },
    }
}

/// # Safety
/// As for [`super::from_shared`], and `n` is at least 64.
pub(super) unsafe fn sse(dst: *mut u8, src: *const u8, n: usize) {
    let last = n - 64;
    let mut at = 0;
    while at < last {
        // SAFETY: 64 bytes at an offset below `n - 64`.
        unsafe { quad(dst.wrapping_add(at), src.wrapping_add(at), 64) };
        at += 64;
    }
    // SAFETY: the last 64 bytes.
    unsafe { quad(dst.wrapping_add(last), src.wrapping_add(last), 64) };
}

/// # Safety
/// As for [`super::from_shared`], `n` is at least 128, and the CPU has AVX.
pub(super) unsafe fn avx(dst: *mut u8, src: *const u8, n: usize) {
    // SAFETY: the loop copies 128 bytes at offsets below n - 128, the last block ends at `n`.
    unsafe {
        asm!(
            "vmovdqu ymm4, [{s} + {last}]",
            "vmovdqu ymm5, [{s} + {last} + 32]",
            "vmovdqu ymm6, [{s} + {last} + 64]",
            "vmovdqu ymm7, [{s} + {last} + 96]",
            "2:",
            "vmovdqu ymm0, [{s} + {at}]",
            "vmovdqu ymm1, [{s} + {at} + 32]",
            "vmovdqu ymm2, [{s} + {at} + 64]",
            "vmovdqu ymm3, [{s} + {at} + 96]",
            "vmovdqu [{d} + {at}], ymm0",
            "vmovdqu [{d} + {at} + 32], ymm1",
            "vmovdqu [{d} + {at} + 64], ymm2",
            "vmovdqu [{d} + {at} + 96], ymm3",
            "sub {at}, -128",
            "cmp {at}, {last}",
            "jb 2b",
            "vmovdqu [{d} + {last}], ymm4",
            "vmovdqu [{d} + {last} + 32], ymm5",
            "vmovdqu [{d} + {last} + 64], ymm6",
            "vmovdqu [{d} + {last} + 96], ymm7",
            "vzeroupper",
            s = in(reg) src, d = in(reg) dst, last = in(reg) n - 128,
            at = inout(reg) 0usize => _,
            out("ymm0") _, out("ymm1") _, out("ymm2") _, out("ymm3") _,
            out("ymm4") _, out("ymm5") _, out("ymm6") _, out("ymm7") _,
            out("ymm8") _, out("ymm9") _, out("ymm10") _, out("ymm11") _,
            out("ymm12") _, out("ymm13") _, out("ymm14") _, out("ymm15") _,
            options(nostack),
        );
    }
}

/// # Safety
/// As for [`super::from_shared`].
pub(super) unsafe fn rep(dst: *mut u8, src: *const u8, n: usize) {
    // SAFETY: copies `n` bytes; the direction flag is clear by the ABI.
    unsafe {
        asm!(
            "rep movsb",
            inout("rsi") src => _, inout("rdi") dst => _, inout("rcx") n => _,
            options(nostack, preserves_flags),
        );
    }
}

/// # Safety
/// As for [`super::load16`].
#[inline(always)]
pub(super) unsafe fn load16(src: *const u8) -> [u8; 16] {
    let (low, high): (u64, u64);
    // SAFETY: reads 16 bytes, which the caller says are mapped and aligned. Two halves in general registers, as callers take
    // a descriptor apart; through memory its parts would wait for the store.
    unsafe {
        asm!(
            "mov {low}, [{s}]",
            "mov {high}, [{s} + 8]",
            s = in(reg) src, low = out(reg) low, high = lateout(reg) high,
            options(nostack, preserves_flags, readonly),
        );
    }
    (u128::from(high) << 64 | u128::from(low)).to_le_bytes()
}

/// # Safety
/// As for [`super::store16`].
#[inline(always)]
pub(super) unsafe fn store16(dst: *mut u8, bytes: [u8; 16]) {
    let both = u128::from_le_bytes(bytes);
    // SAFETY: writes 16 bytes, which the caller says are mapped and aligned.
    unsafe {
        asm!(
            "mov [{d}], {low}",
            "mov [{d} + 8], {high}",
            d = in(reg) dst, low = in(reg) low_half(both), high = in(reg) low_half(both >> 64),
            options(nostack, preserves_flags),
        );
    }
}

#[inline(always)]
#[allow(
    clippy::cast_possible_truncation,
    reason = "the lower half is what is asked for"
)]
fn low_half(both: u128) -> u64 {
    both as u64
}
