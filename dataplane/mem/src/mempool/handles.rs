// SPDX-License-Identifier: Apache-2.0
//! Conversion of compact handles of free buffers into mbufs and back, the inner loops of allocating and
//! freeing a burst. The compiler vectorises both; from sixteen mbufs on AVX2 is used where the CPU has it.
#![allow(
    unsafe_code,
    reason = "makes mbufs; asks the CPU what it has, then uses it"
)]

use std::mem::MaybeUninit;
use std::num::NonZeroU64;

use super::layout::handle_of;
use super::mbuf::Mbuf;

/// Fewer are through before a call for wider vectors would have begun.
#[cfg(target_arch = "x86_64")]
const MANY: usize = 16;

/// Whether AVX2 pays off for `n` mbufs and is there. The detection is cached: one load.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn has_avx2_for(n: usize) -> bool {
    n >= MANY && is_x86_feature_detected!("avx2")
}

/// Makes the mbufs of `handles`, as many as there are `slots` for.
///
/// # Safety
/// As for [`Mbuf::from_free`], for each of the handles.
#[inline(always)]
pub(crate) unsafe fn to_mbufs(fresh: NonZeroU64, handles: &[u32], slots: &mut [MaybeUninit<Mbuf>]) {
    #[cfg(target_arch = "x86_64")]
    if has_avx2_for(handles.len()) {
        // SAFETY: the caller says that the handles are free buffers' and taken; the CPU has AVX2.
        return unsafe { to_mbufs_avx2(fresh, handles, slots) };
    }
    // SAFETY: the caller says that the handles are those of free buffers, and taken.
    unsafe { to_mbufs_with(fresh, handles, slots) }
}

/// # Safety
/// As for [`to_mbufs`], and the CPU has AVX2.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
unsafe fn to_mbufs_avx2(fresh: NonZeroU64, handles: &[u32], slots: &mut [MaybeUninit<Mbuf>]) {
    // SAFETY: the caller says that the handles are those of free buffers, and taken.
    unsafe { to_mbufs_with(fresh, handles, slots) }
}

/// # Safety
/// As for [`to_mbufs`].
#[inline(always)]
unsafe fn to_mbufs_with(fresh: NonZeroU64, handles: &[u32], slots: &mut [MaybeUninit<Mbuf>]) {
    for (slot, &handle) in slots.iter_mut().zip(handles) {
        // SAFETY: the caller says that the handles are those of free buffers, and taken.
        slot.write(unsafe { Mbuf::from_free(fresh, handle) });
    }
}

/// Copies the handles of `mbufs` to `handles`, and returns the bits in which any of them differs from
/// `fresh`.
#[inline(always)]
pub(crate) fn of_mbufs(mbufs: &[Mbuf], fresh: NonZeroU64, handles: &mut [u32]) -> u64 {
    #[cfg(target_arch = "x86_64")]
    if has_avx2_for(mbufs.len()) {
        // SAFETY: the CPU has it.
        return unsafe { of_mbufs_avx2(mbufs, fresh, handles) };
    }
    of_mbufs_with(mbufs, fresh, handles)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn of_mbufs_avx2(mbufs: &[Mbuf], fresh: NonZeroU64, handles: &mut [u32]) -> u64 {
    of_mbufs_with(mbufs, fresh, handles)
}

#[inline(always)]
fn of_mbufs_with(mbufs: &[Mbuf], fresh: NonZeroU64, handles: &mut [u32]) -> u64 {
    let mut odd = 0;
    for (handle, mbuf) in handles.iter_mut().zip(mbufs) {
        odd |= mbuf.bits() ^ fresh.get();
        *handle = handle_of(mbuf.bits());
    }
    odd
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;
    use crate::{BURST, BufSize, Burst, HugePages, Mempool, PoolConfig};

    #[test]
    fn mbufs_come_out_as_they_went_in_whatever_the_vectors() {
        let pool = Mempool::new(PoolConfig {
            buffers: 512,
            size: BufSize::Small,
            numa_node: None,
            huge_pages: HugePages::Off,
        })
        .unwrap();
        let mut cache = pool.cache(128);
        let fresh = pool.fresh();
        for n in 0..=BURST {
            let mut burst = Burst::new();
            assert_eq!(cache.alloc_burst(&mut burst, n), n);
            let (mut wide, mut narrow) = ([0; BURST], [0; BURST]);
            let odd = of_mbufs(burst.as_slice(), fresh, &mut wide[..n]);
            assert_eq!(
                odd,
                of_mbufs_with(burst.as_slice(), fresh, &mut narrow[..n])
            );
            assert_eq!(wide, narrow);
            let bits: Vec<u64> = burst.iter().map(Mbuf::bits).collect();
            burst.forget_all();
            let mut slots = [const { MaybeUninit::uninit() }; BURST];
            // SAFETY: the burst has forgotten them, so that there is no handle to any.
            unsafe { to_mbufs_with(fresh, &wide[..n], &mut slots[..n]) };
            for (slot, bits) in slots.iter().zip(bits) {
                // SAFETY: the first `n` were made just now, and each is taken once.
                let mbuf = unsafe { slot.assume_init_read() };
                assert_eq!(mbuf.bits(), bits);
                cache.free(mbuf);
            }
        }
        assert!(pool.conservation().holds());
    }
}
