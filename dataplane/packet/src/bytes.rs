// SPDX-License-Identifier: Apache-2.0
//! Fields of headers held as arrays: offsets are checked at compile time.

/// Reads `N` bytes of `head` from `AT` on.
#[inline(always)]
pub(crate) fn part<const AT: usize, const N: usize, const H: usize>(head: &[u8; H]) -> [u8; N] {
    const { assert!(AT + N <= H, "field beyond its header") };
    let mut out = [0; N];
    out.copy_from_slice(&head[AT..AT + N]);
    out
}

/// Reads the big-endian 16-bit field of `head` at `AT`.
#[inline(always)]
pub(crate) fn be16<const AT: usize, const H: usize>(head: &[u8; H]) -> u16 {
    u16::from_be_bytes(part::<AT, 2, H>(head))
}

/// Reads the big-endian 32-bit field of `head` at `AT`.
#[inline(always)]
pub(crate) fn be32<const AT: usize, const H: usize>(head: &[u8; H]) -> u32 {
    u32::from_be_bytes(part::<AT, 4, H>(head))
}

/// Writes `value` over the bytes of `head` from `AT` on.
#[inline(always)]
pub(crate) fn put<const AT: usize, const N: usize, const H: usize>(
    head: &mut [u8; H],
    value: [u8; N],
) {
    const { assert!(AT + N <= H, "field beyond its header") };
    head[AT..AT + N].copy_from_slice(&value);
}
