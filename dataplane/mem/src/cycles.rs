// SPDX-License-Identifier: Apache-2.0
//! The CPU's counter of time, which costs a few nanoseconds to read and no system call.
#![allow(unsafe_code, reason = "an instruction that reads a register")]

/// Reads the counter of the CPU that the caller runs on. It goes forward at a constant rate that the
/// reader has to find out: the time stamp counter of x86-64, the virtual counter of arm64, and
/// nanoseconds elsewhere.
///
/// Two readings on two CPUs may differ a little: a difference of two readings is to be taken with
/// `wrapping_sub`, and one that is huge is none.
#[inline(always)]
#[must_use]
pub fn cycles() -> u64 {
    #[cfg(target_arch = "x86_64")]
    {
        // SAFETY: every x86-64 has the instruction; it reads a counter and touches no memory.
        unsafe { std::arch::x86_64::_rdtsc() }
    }
    #[cfg(target_arch = "aarch64")]
    {
        let count: u64;
        // SAFETY: the kernel lets every process read the virtual counter; no memory is touched.
        unsafe {
            std::arch::asm!(
                "mrs {0}, cntvct_el0",
                out(reg) count,
                options(nomem, nostack, preserves_flags)
            );
        }
        count
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    portable()
}

/// Nanoseconds since the first call.
#[cfg(any(test, not(any(target_arch = "x86_64", target_arch = "aarch64"))))]
fn portable() -> u64 {
    static START: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
    let start = START.get_or_init(std::time::Instant::now);
    u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_counters_go_forward() {
        for count in [cycles, portable] {
            let start = count();
            let mut last = start;
            while last == start {
                last = count();
            }
            assert!(last.wrapping_sub(start) < u64::MAX / 2);
        }
    }
}
