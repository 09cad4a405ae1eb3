//! Volatile copies for other CPUs; tests compare the two.
#![allow(unsafe_code, reason = "raw copies; callers check bounds")]

const WORD: usize = size_of::<u64>();

/// # Safety
/// As for [`super::from_shared`].
pub(super) unsafe fn from_shared(dst: *mut u8, src: *const u8, n: usize) {
    let head = src.align_offset(WORD).min(n);
    let mut at = 0;
    // SAFETY: every offset is below `n`; word reads are aligned, word writes need not be.
    unsafe {
        while at < head {
            dst.add(at).write(src.add(at).read_volatile());
            at += 1;
        }
        while n - at >= WORD {
            let word = src.add(at).cast::<u64>().read_volatile();
            dst.add(at).cast::<u64>().write_unaligned(word);
            at += WORD;
        }
        while at < n {
            dst.add(at).write(src.add(at).read_volatile());
            at += 1;
        }
    }
}

/// # Safety
/// As for [`super::to_shared`].
pub(super) unsafe fn to_shared(dst: *mut u8, src: *const u8, n: usize) {
    let head = dst.align_offset(WORD).min(n);
    let mut at = 0;
    // SAFETY: every offset is below `n`; word writes are aligned, word reads need not be.
    unsafe {
        while at < head {
            dst.add(at).write_volatile(src.add(at).read());
            at += 1;
        }
        while n - at >= WORD {
            let word = src.add(at).cast::<u64>().read_unaligned();
            dst.add(at).cast::<u64>().write_volatile(word);
            at += WORD;
        }
        while at < n {
            dst.add(at).write_volatile(src.add(at).read());
            at += 1;
        }
    }
}
