// SPDX-License-Identifier: Apache-2.0
//! Copies between private and pod-shared memory.
//!
//! A peer writes to shared memory while it is read here. An ordinary load of it would be a data
//! race, and worse: the compiler may repeat an ordinary load after a check. On x86-64 every access
//! is in inline assembly, of which the compiler knows nothing but that memory changes; elsewhere it
//! is volatile. `memcpy` is neither.
//!
//! Up to 256 bytes a copy is a few loads and stores that overlap at the tail, without a loop. A
//! byte under the overlap may be read twice; the last read is what the destination holds.
//!
//! The stores are as wide as the CPU has them: what a core sends to another waits in its store buffer
//! for the other's lines, and the fewer entries a frame takes there the more frames wait at once.
#![allow(unsafe_code, reason = "raw copies; callers check bounds")]

#[cfg(any(test, not(target_arch = "x86_64")))]
mod portable;
#[cfg(target_arch = "x86_64")]
mod x86_64;

/// Instructions that the long copies use, found once per region and never per copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Width {
    /// Instructions that every x86-64 has, or portable code.
    Baseline,
    /// 32-byte vectors.
    Avx,
    /// Baseline, and `rep movsb` for long copies.
    AvxRep,
    /// Fast strings, and 64-byte vectors in registers of their own.
    Avx512,
}

impl Width {
    /// Detects the instructions of this CPU.
    pub(crate) fn detect() -> Width {
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx") {
            let wide = is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512vl");
            return match is_x86_feature_detected!("ermsb") {
                true if wide => Width::Avx512,
                true => Width::AvxRep,
                false => Width::Avx,
            };
        }
        Width::Baseline
    }
}

/// Copies `n` bytes out of shared memory.
///
/// # Safety
/// `src` is readable and `dst` writable for `n` bytes, the two do not overlap, and nobody else
/// accesses `dst`. Others may write to `src` meanwhile. The CPU has what `width` names.
#[inline(always)]
pub(crate) unsafe fn from_shared(dst: *mut u8, src: *const u8, n: usize, width: Width) {
    // SAFETY: the caller says that both are valid for `n` bytes and the CPU has the width.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        x86_64::copy(dst, src, n, width);
    }
    // SAFETY: the caller says that both are valid for `n` bytes and the CPU has the width.
    #[cfg(not(target_arch = "x86_64"))]
    unsafe {
        let _ = width;
        portable::from_shared(dst, src, n);
    }
}

/// Copies `n` bytes into shared memory.
///
/// # Safety
/// As for [`from_shared`], with the roles of the two reversed.
#[inline(always)]
pub(crate) unsafe fn to_shared(dst: *mut u8, src: *const u8, n: usize, width: Width) {
    // SAFETY: the caller says that both are valid for `n` bytes and the CPU has the width.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        x86_64::copy(dst, src, n, width);
    }
    // SAFETY: the caller says that both are valid for `n` bytes and the CPU has the width.
    #[cfg(not(target_arch = "x86_64"))]
    unsafe {
        let _ = width;
        portable::to_shared(dst, src, n);
    }
}

/// Reads 16 bytes of shared memory, each once, into registers.
///
/// # Safety
/// `src` is readable for 16 bytes.
#[inline(always)]
pub(crate) unsafe fn load16(src: *const u8) -> [u8; 16] {
    // SAFETY: the caller says that 16 bytes are readable.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        x86_64::load16(src)
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        let mut bytes = [0; 16];
        // SAFETY: the caller says that 16 bytes are readable.
        unsafe { portable::from_shared(bytes.as_mut_ptr(), src, 16) };
        bytes
    }
}

/// Writes 16 bytes of shared memory.
///
/// # Safety
/// `dst` is writable for 16 bytes.
#[inline(always)]
pub(crate) unsafe fn store16(dst: *mut u8, bytes: [u8; 16]) {
    // SAFETY: the caller says that 16 bytes are writable.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        x86_64::store16(dst, bytes);
    }
    // SAFETY: the caller says that 16 bytes are writable.
    #[cfg(not(target_arch = "x86_64"))]
    unsafe {
        portable::to_shared(dst, bytes.as_ptr(), 16);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Copy = unsafe fn(*mut u8, *const u8, usize);

    /// Copies every length at every alignment and looks at every byte, those around included.
    fn check(name: &str, copy: Copy, lengths: impl Iterator<Item = usize>) {
        let src: Vec<u8> = (0..=250).cycle().take(9000).collect();
        for n in lengths {
            for (from, to) in [(0, 0), (1, 0), (0, 1), (7, 13), (16, 3), (31, 32)] {
                let mut dst = vec![0xa5; to + n + 40];
                let (to_ptr, from_ptr) = (dst[to..].as_mut_ptr(), src[from..].as_ptr());
                // SAFETY: both vectors are long enough.
                unsafe { copy(to_ptr, from_ptr, n) };
                assert_eq!(
                    &dst[to..to + n],
                    &src[from..from + n],
                    "{name} {n} {from} {to}"
                );
                assert!(dst[..to].iter().all(|&b| b == 0xa5), "{name} {n} before");
                assert!(
                    dst[to + n..].iter().all(|&b| b == 0xa5),
                    "{name} {n} behind"
                );
            }
        }
    }

    fn lengths() -> impl Iterator<Item = usize> {
        (0..=520).chain([1023, 1024, 1500, 1514, 2048, 4095, 4096, 4097, 8192])
    }

    #[test]
    fn every_width_copies_exactly() {
        check("portable in", portable::from_shared, lengths());
        check("portable out", portable::to_shared, lengths());
        check("baseline in", baseline_in, lengths());
        check("detected in", detected_in, lengths());
        check("detected out", detected_out, lengths());
    }

    unsafe fn baseline_in(dst: *mut u8, src: *const u8, n: usize) {
        // SAFETY: the caller says that both are valid for `n` bytes.
        unsafe { from_shared(dst, src, n, Width::Baseline) }
    }

    unsafe fn detected_in(dst: *mut u8, src: *const u8, n: usize) {
        // SAFETY: the caller says that both are valid for `n` bytes.
        unsafe { from_shared(dst, src, n, Width::detect()) }
    }

    unsafe fn detected_out(dst: *mut u8, src: *const u8, n: usize) {
        // SAFETY: the caller says that both are valid for `n` bytes.
        unsafe { to_shared(dst, src, n, Width::detect()) }
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn every_loop_copies_exactly_from_its_least_length_on() {
        check("sse", x86_64::sse, lengths().filter(|&n| n >= 64));
        check("rep", x86_64::rep, lengths());
        if Width::detect() != Width::Baseline {
            check("avx", x86_64::avx, lengths().filter(|&n| n >= 128));
        }
    }
}
