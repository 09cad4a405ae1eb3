// SPDX-License-Identifier: Apache-2.0
//! AVX2: vectors of 32 bytes, and counts of bits in one instruction.

use std::arch::x86_64::*;

use crate::simd::portable::{few_pairs, first_bit};
use crate::simd::{Isa, Kernel, LANES, Node8, Node16, Pairs};

/// Proof that this CPU has AVX2, BMI1, BMI2, LZCNT and POPCNT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Avx2(());

impl Avx2 {
    pub(super) fn detect() -> Option<Avx2> {
        let has = is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("bmi1")
            && is_x86_feature_detected!("bmi2")
            && is_x86_feature_detected!("lzcnt")
            && is_x86_feature_detected!("popcnt");
        has.then_some(Avx2(()))
    }

    #[inline]
    pub(super) fn run(self, kernel: impl Kernel) {
        #[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt")]
        fn wide(isa: Avx2, kernel: impl Kernel) {
            kernel.run(isa);
        }
        // SAFETY: the token is made by `detect` only, which looked for these features.
        unsafe { wide(self, kernel) }
    }
}

/// Number of bits set, by one `popcnt` that LLVM does not see through. With `count_ones` its vectorisers
/// gather the counts and the loads of neighbouring searches into vectors and scatter them again: measured,
/// the searches of a burst then take nearly twice as long.
#[inline(always)]
pub(super) fn count(bits: u64) -> usize {
    let count: usize;
    // SAFETY: called by holders of a token only, so the CPU has POPCNT; it touches no memory.
    unsafe {
        std::arch::asm!(
            "popcnt {count}, {bits}",
            bits = in(reg) bits,
            count = lateout(reg) count,
            options(pure, nomem, nostack)
        );
    }
    count
}

impl Isa for Avx2 {
    #[inline(always)]
    fn rank16(self, node: &Node16, number: i32) -> usize {
        // SAFETY: the token is proof of AVX2; the loads are of the 64 bytes of `node`, which is aligned
        // to as many.
        let less = unsafe {
            let number = _mm256_set1_epi32(number);
            let low = _mm256_load_si256(node.0.as_ptr().cast());
            let high = _mm256_load_si256(node.0.as_ptr().add(8).cast());
            let low = _mm256_cmpgt_epi32(number, low);
            let high = _mm256_cmpgt_epi32(number, high);
            _mm256_movemask_epi8(_mm256_packs_epi32(low, high))
        };
        // Two bits a number.
        count(less.cast_unsigned().into()) / 2
    }

    #[inline(always)]
    fn rank8(self, node: &Node8, number: i64) -> usize {
        // SAFETY: as in `rank16`.
        let less = unsafe {
            let number = _mm256_set1_epi64x(number);
            let low = _mm256_load_si256(node.0.as_ptr().cast());
            let high = _mm256_load_si256(node.0.as_ptr().add(4).cast());
            let low = _mm256_cmpgt_epi64(number, low);
            let high = _mm256_cmpgt_epi64(number, high);
            _mm256_movemask_epi8(_mm256_packs_epi32(low, high))
        };
        // Four bits a number.
        count(less.cast_unsigned().into()) / 4
    }

    #[inline(always)]
    fn count(self, bits: u64) -> usize {
        count(bits)
    }

    #[inline(always)]
    fn first<const W: usize, const F: usize>(self, rows: [&[u64; W]; F]) -> usize {
        let mut words = *rows[0];
        if !W.is_multiple_of(4) {
            for row in &rows[1..] {
                for (word, with) in words.iter_mut().zip(*row) {
                    *word &= with;
                }
            }
            return first_bit(&words);
        }
        let mut set = 0;
        for part in (0..W).step_by(4) {
            // SAFETY: the token is proof of AVX2; `part + 4` is at most `W`, so that loads and the store
            // are of words of the rows and of `words`, at whatever alignment.
            let empty = unsafe {
                let mut bits = _mm256_loadu_si256(rows[0].as_ptr().add(part).cast());
                for row in &rows[1..] {
                    let with = _mm256_loadu_si256(row.as_ptr().add(part).cast());
                    bits = _mm256_and_si256(bits, with);
                }
                _mm256_storeu_si256(words.as_mut_ptr().add(part).cast(), bits);
                let empty = _mm256_cmpeq_epi64(bits, _mm256_setzero_si256());
                _mm256_movemask_pd(_mm256_castsi256_pd(empty))
            };
            set |= (empty.cast_unsigned() ^ 0xf) << part;
        }
        let index = (set | 1 << W).trailing_zeros() as usize;
        let word = words.get(index).copied().unwrap_or(0);
        index * 64 + word.trailing_zeros() as usize
    }

    #[inline(always)]
    fn pairs(self, live: &[u32; LANES], pairs: &mut Pairs) -> usize {
        few_pairs(live, pairs)
    }
}
