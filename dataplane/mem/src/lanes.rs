// SPDX-License-Identifier: Apache-2.0
//! Comparing many small numbers with one.
#![allow(
    unsafe_code,
    reason = "instructions that every CPU of this architecture has, on values"
)]

/// Bit `n` for each lane `n` that is `wanted`.
#[inline(always)]
#[must_use]
pub fn equal_lanes(lanes: &[u16; 8], wanted: u16) -> u8 {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64 as cpu;
        let [low, high]: [i64; 2] = zerocopy::transmute!(*lanes);
        // Lanes of all ones and of none are narrowed to bytes, of which each gives its upper bit;
        // those of the other half are zero.
        // SAFETY: every x86-64 has SSE2.
        let wanted = unsafe { cpu::_mm_set1_epi16(wanted.cast_signed()) };
        // SAFETY: as above.
        let lanes = unsafe { cpu::_mm_set_epi64x(high, low) };
        // SAFETY: as above.
        let equal = unsafe { cpu::_mm_cmpeq_epi16(lanes, wanted) };
        // SAFETY: as above.
        let zero = unsafe { cpu::_mm_setzero_si128() };
        // SAFETY: as above.
        let bytes = unsafe { cpu::_mm_packs_epi16(equal, zero) };
        // SAFETY: as above.
        let bits = unsafe { cpu::_mm_movemask_epi8(bytes) };
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "eight bits"
        )]
        {
            bits as u8
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    portable(lanes, wanted)
}

/// Compares lane by lane.
#[cfg(any(test, not(target_arch = "x86_64")))]
fn portable(lanes: &[u16; 8], wanted: u16) -> u8 {
    let each = lanes.iter().enumerate();
    each.fold(0, |bits, (n, &lane)| bits | u8::from(lane == wanted) << n)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_say_the_same() {
        for wanted in [0, 1, 0x7fff, 0x8000, 0xff00, 0x00ff, u16::MAX] {
            for pattern in 0..=255_u8 {
                let lane = |n| wanted ^ u16::from(pattern >> n & 1 == 0) << (n + 3);
                let lanes = std::array::from_fn(lane);
                assert_eq!(equal_lanes(&lanes, wanted), pattern);
                assert_eq!(portable(&lanes, wanted), pattern);
            }
        }
    }
}
