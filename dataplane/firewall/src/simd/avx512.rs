// SPDX-License-Identifier: Apache-2.0
//! AVX-512: a node or a row of 512 bits in one load, and masks in place of vectors.

use std::arch::x86_64::*;

use crate::simd::avx2::count;
use crate::simd::portable::first_bit;
use crate::simd::{Isa, Kernel, LANES, Node8, Node16, Pairs};

/// Proof that this CPU has AVX-512 F, BW, CD, DQ and VL, and what AVX2's token is proof of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Avx512(());

impl Avx512 {
    pub(super) fn detect() -> Option<Avx512> {
        let has = super::avx2::Avx2::detect().is_some()
            && is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512cd")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl");
        has.then_some(Avx512(()))
    }

    #[inline]
    pub(super) fn run(self, kernel: impl Kernel) {
        #[target_feature(
            enable = "avx512f,avx512bw,avx512cd,avx512dq,avx512vl,avx2,bmi1,bmi2,lzcnt,popcnt"
        )]
        fn wide(isa: Avx512, kernel: impl Kernel) {
            kernel.run(isa);
        }
        // SAFETY: the token is made by `detect` only, which looked for these features.
        unsafe { wide(self, kernel) }
    }
}

impl Isa for Avx512 {
    #[inline(always)]
    fn rank16(self, node: &Node16, number: i32) -> usize {
        // SAFETY: the token is proof of AVX-512; the load is of the 64 bytes of `node`, which is aligned to
        // as many.
        let below = unsafe {
            let starts = _mm512_load_si512(node.0.as_ptr().cast());
            _mm512_cmplt_epi32_mask(starts, _mm512_set1_epi32(number))
        };
        count(below.into())
    }

    #[inline(always)]
    fn rank8(self, node: &Node8, number: i64) -> usize {
        // SAFETY: as in `rank16`.
        let below = unsafe {
            let starts = _mm512_load_si512(node.0.as_ptr().cast());
            _mm512_cmplt_epi64_mask(starts, _mm512_set1_epi64(number))
        };
        count(below.into())
    }

    #[inline(always)]
    fn count(self, bits: u64) -> usize {
        count(bits)
    }

    #[inline(always)]
    fn first<const W: usize, const F: usize>(self, rows: [&[u64; W]; F]) -> usize {
        if W == 4 {
            // SAFETY: the token is proof of AVX-512 VL; the loads are of the rows' four words.
            return unsafe {
                let load = |row: &[u64; W]| _mm256_loadu_si256(row.as_ptr().cast());
                let mut bits = load(rows[0]);
                for row in &rows[1..] {
                    bits = _mm256_and_si256(bits, load(row));
                }
                let set = _mm256_test_epi64_mask(bits, bits);
                let word = _mm256_maskz_compress_epi64(set, bits);
                let word = _mm_cvtsi128_si64(_mm256_castsi256_si128(word));
                (u32::from(set) | 1 << 4).trailing_zeros() as usize * 64
                    + word.trailing_zeros() as usize
            };
        }
        if W == 8 {
            // SAFETY: the token is proof of AVX-512; the loads are of the rows' eight words.
            return unsafe {
                let bits = and_at(rows, 0);
                let set = _mm512_test_epi64_mask(bits, bits);
                // The lowest word that is not zero comes first, zero if there is none.
                let word = _mm512_maskz_compress_epi64(set, bits);
                let word = _mm_cvtsi128_si64(_mm512_castsi512_si128(word));
                (u32::from(set) | 1 << 8).trailing_zeros() as usize * 64
                    + word.trailing_zeros() as usize
            };
        }
        let mut words = *rows[0];
        if !W.is_multiple_of(8) {
            for row in &rows[1..] {
                for (word, with) in words.iter_mut().zip(*row) {
                    *word &= with;
                }
            }
            return first_bit(&words);
        }
        let mut set = 0;
        for part in (0..W).step_by(8) {
            // SAFETY: the token is proof of AVX-512; `part + 8` is at most `W`, so that loads and the store
            // are of words of the rows and of `words`.
            let some = unsafe {
                let bits = and_at(rows, part);
                _mm512_storeu_si512(words.as_mut_ptr().add(part).cast(), bits);
                _mm512_test_epi64_mask(bits, bits)
            };
            set |= u32::from(some) << part;
        }
        let index = (set | 1 << W).trailing_zeros() as usize;
        let word = words.get(index).copied().unwrap_or(0);
        index * 64 + word.trailing_zeros() as usize
    }

    #[inline(always)]
    fn pairs(self, live: &[u32; LANES], pairs: &mut Pairs) -> usize {
        let mut total = 0;
        for (half, first) in live.as_chunks::<16>().0.iter().zip([0, 16 * 32]) {
            // SAFETY: the token is proof of AVX-512 F, BW, CD and VL; the load is of the sixteen words of
            // `half`.
            unsafe {
                let mut left = _mm512_loadu_si512(half.as_ptr().cast());
                let steps = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
                let lanes =
                    _mm512_add_epi32(_mm512_slli_epi32::<5>(steps), _mm512_set1_epi32(first));
                let one = _mm512_set1_epi32(1);
                loop {
                    let some = _mm512_test_epi32_mask(left, left);
                    if some == 0 {
                        break;
                    }
                    // The lowest bit's index, from the number of zeros above it when it is alone.
                    let less = _mm512_sub_epi32(left, one);
                    let lowest = _mm512_andnot_si512(less, left);
                    let child = _mm512_sub_epi32(_mm512_set1_epi32(31), _mm512_lzcnt_epi32(lowest));
                    let pair = _mm512_or_si512(lanes, child);
                    let packed = _mm512_cvtepi32_epi16(_mm512_maskz_compress_epi32(some, pair));
                    let Some(room) = pairs.0.get_mut(total..total + 16) else {
                        break;
                    };
                    // Sixteen numbers of two bytes, as `room` has.
                    _mm256_storeu_si256(room.as_mut_ptr().cast(), packed);
                    total += count(some.into());
                    left = _mm512_and_si512(left, less);
                }
            }
        }
        total
    }
}

/// AND of eight words of each row, from word `part` on.
///
/// # Safety
/// The CPU has AVX-512 F, and `part + 8` is at most `W`.
#[inline(always)]
unsafe fn and_at<const W: usize, const F: usize>(rows: [&[u64; W]; F], part: usize) -> __m512i {
    // SAFETY: as the caller says; a load may lie at any address.
    unsafe {
        let mut bits = _mm512_loadu_si512(rows[0].as_ptr().add(part).cast());
        for row in &rows[1..] {
            let with = _mm512_loadu_si512(row.as_ptr().add(part).cast());
            bits = _mm512_and_si512(bits, with);
        }
        bits
    }
}
