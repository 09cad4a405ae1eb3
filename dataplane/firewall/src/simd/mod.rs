// SPDX-License-Identifier: Apache-2.0
//! Vector instructions of the classifier, chosen at run time, behind one safe trait.
//!
//! An [`Isa`] is a token: whoever holds one has proof that this CPU has its instructions, since only
//! [`Simd::available`] makes tokens. Its methods are therefore safe to call, and the algorithms in
//! `compile`, generic over it, have no unsafe code. [`Simd::run`] enters a function that is compiled for
//! the token's instructions; everything of the algorithm is `#[inline(always)]` into it, else it would be
//! compiled for the baseline and call each vector operation as a function.
//!
//! [`portable::Portable`] is the twin of all others in plain Rust: it is what runs on other CPUs, and what
//! the tests compare every path with.
#![allow(
    unsafe_code,
    reason = "loads of vectors, prefetches, indices in range by construction, and calls of functions compiled \
              for wider instructions"
)]
#![allow(
    clippy::multiple_unsafe_ops_per_block,
    reason = "every intrinsic is an unsafe operation where its instructions are not in the baseline, and the \
              same token is the reason for all of a block"
)]

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod dense;
mod portable;
mod search;
#[cfg(test)]
mod tests;

pub(crate) use dense::Dense;
use portable::Portable;
pub(crate) use search::Tree;

/// Number of keys that are looked up side by side.
pub(crate) const LANES: usize = 32;
/// Number of low bits of a live word that may be set: one for each child of a line.
pub(crate) const CHILDREN: usize = 30;

/// Sixteen ascending numbers in a cache line. Signed, as that is what vectors compare.
#[repr(align(64))]
#[derive(Debug, Clone, Copy)]
pub(crate) struct Node16([i32; 16]);

/// Eight ascending numbers in a cache line. Signed, as that is what vectors compare.
#[repr(align(64))]
#[derive(Debug, Clone, Copy)]
pub(crate) struct Node8([i64; 8]);

/// Pairs of a lane and one of its live children, `lane * 32 + child`, in no particular order.
pub(crate) struct Pairs([u16; Pairs::ROOM]);

impl Pairs {
    /// Room for every pair there can be, and a vector more that a store may touch behind the last.
    const ROOM: usize = LANES * CHILDREN + 16;

    /// List without pairs.
    #[inline(always)]
    pub(crate) fn new() -> Pairs {
        Pairs([0; Pairs::ROOM])
    }

    /// First `count` pairs.
    #[inline(always)]
    pub(crate) fn first(&self, count: usize) -> &[u16] {
        &self.0[..count]
    }
}

/// Instructions of one kind of CPU. A value is proof that this CPU has them.
pub(crate) trait Isa: Copy {
    /// Number of `node`'s numbers that are less than `number`, 0 to 16.
    fn rank16(self, node: &Node16, number: i32) -> usize;

    /// Number of `node`'s numbers that are less than `number`, 0 to 8.
    fn rank8(self, node: &Node8, number: i64) -> usize;

    /// Number of bits set.
    fn count(self, bits: u64) -> usize;

    /// Index of the lowest bit that is set in all of `rows`; at least `64 * W` if there is none.
    fn first<const W: usize, const F: usize>(self, rows: [&[u64; W]; F]) -> usize;

    /// Writes a pair for every bit set in `live`, whose bits from [`CHILDREN`] on are not set. Returns
    /// how many there are.
    fn pairs(self, live: &[u32; LANES], pairs: &mut Pairs) -> usize;
}

/// Algorithm over a burst, generic over the instructions that it runs with.
pub(crate) trait Kernel {
    /// Runs it. Implementations are `#[inline(always)]`, as is all they call.
    fn run<I: Isa>(self, isa: I);
}

/// Set of vector instructions that this CPU has: how a table is searched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Simd(Path);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Path {
    Portable(Portable),
    #[cfg(target_arch = "x86_64")]
    Avx2(avx2::Avx2),
    #[cfg(target_arch = "x86_64")]
    Avx512(avx512::Avx512),
}

impl Simd {
    /// Sets that this CPU has, the widest first. The last one is plain Rust and on every CPU.
    pub fn available() -> impl Iterator<Item = Simd> {
        #[cfg(target_arch = "x86_64")]
        let wide = [
            avx512::Avx512::detect().map(Path::Avx512),
            avx2::Avx2::detect().map(Path::Avx2),
        ];
        #[cfg(not(target_arch = "x86_64"))]
        let wide = [];
        let portable = [Some(Path::Portable(Portable))];
        wide.into_iter().chain(portable).flatten().map(Simd)
    }

    /// Widest set that this CPU has.
    #[must_use]
    pub fn widest() -> Simd {
        Simd::available()
            .next()
            .unwrap_or(Simd(Path::Portable(Portable)))
    }

    /// Name for a log or a figure: `avx512`, `avx2` or `portable`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self.0 {
            Path::Portable(_) => "portable",
            #[cfg(target_arch = "x86_64")]
            Path::Avx2(_) => "avx2",
            #[cfg(target_arch = "x86_64")]
            Path::Avx512(_) => "avx512",
        }
    }

    /// Runs `kernel` with these instructions.
    #[inline]
    pub(crate) fn run(self, kernel: impl Kernel) {
        match self.0 {
            Path::Portable(isa) => kernel.run(isa),
            #[cfg(target_arch = "x86_64")]
            Path::Avx2(isa) => isa.run(kernel),
            #[cfg(target_arch = "x86_64")]
            Path::Avx512(isa) => isa.run(kernel),
        }
    }
}

/// Asks for the cache line in which `value` begins.
#[inline(always)]
pub(crate) fn prefetch<T>(value: &T) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: SSE is in the baseline, and a prefetch reads nothing that a program could see; the
        // address is that of a live reference besides.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(value).cast()) }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = value;
}
