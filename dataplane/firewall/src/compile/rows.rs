// SPDX-License-Identifier: Apache-2.0
//! Bit vectors with one bit per rule, in the sizes that tables have.

use crate::compile::distinct::Fingerprint;
use crate::simd::Isa;

/// Bit vector of a fixed number of rules, the first rule lowest.
pub(crate) trait Row: Copy + Eq + Fingerprint {
    /// Number of rules that it has a bit for.
    const RULES: usize;
    /// Row in which no bit is set.
    const NONE: Self;

    /// Sets the bit of `rule` if it is clear, else clears it.
    fn flip(&mut self, rule: usize);

    /// Whether any bit is set.
    fn is_live(&self) -> bool;

    /// Index of the lowest bit that is set in all of `rows`; at least [`Row::RULES`] if there is none.
    fn first<I: Isa, const F: usize>(isa: I, rows: [&Self; F]) -> usize;
}

macro_rules! row {
    ($name:ident, $words:literal, $bytes:literal, $doc:literal) => {
        #[doc = $doc]
        #[repr(align($bytes))]
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) struct $name(pub(crate) [u64; $words]);

        impl Row for $name {
            const RULES: usize = 64 * $words;
            const NONE: Self = $name([0; $words]);

            fn flip(&mut self, rule: usize) {
                self.0[rule / 64] ^= 1 << (rule % 64);
            }

            fn is_live(&self) -> bool {
                self.0 != [0; $words]
            }

            #[inline(always)]
            fn first<I: Isa, const F: usize>(isa: I, rows: [&Self; F]) -> usize {
                let mut words = [&rows[0].0; F];
                for (words, row) in words.iter_mut().zip(rows) {
                    *words = &row.0;
                }
                isa.first(words)
            }
        }

        impl Fingerprint for $name {
            fn words(&self) -> impl Iterator<Item = u64> {
                self.0.into_iter()
            }
        }
    };
}

row!(Row1, 1, 8, "Row of up to 64 rules.");
row!(Row2, 2, 16, "Row of up to 128 rules.");
row!(Row4, 4, 32, "Row of up to 256 rules.");
row!(Row8, 8, 64, "Row of up to 512 rules, a cache line.");
row!(Row16, 16, 64, "Row of up to 1024 rules, two cache lines.");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_flip() {
        let mut row = Row2::NONE;
        assert!(!row.is_live());
        row.flip(67);
        assert_eq!((row, row.is_live()), (Row2([0, 0b1000]), true));
        row.flip(67);
        assert_eq!(row, Row2::NONE);
    }
}
