// SPDX-License-Identifier: Apache-2.0
//! Memory that we, as a client, give to a connection: one sealed region with all rings and all
//! buffers.

use std::os::fd::OwnedFd;

use sluice_mem::SharedRegion;

use crate::handshake::ring_order;
use crate::layout::{Direction, RingSpec, ring_bytes};
use crate::queue::{OwnBuffers, Ring};
use crate::refusal::Refusal;

/// Bytes of a cache line.
const CACHE_LINE: u64 = 64;
const PAGE: u64 = 4096;

/// Layout of a client's region.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Rings in the order in which they are announced.
    pub(crate) rings: Vec<RingSpec>,
    /// Start of the buffers of each ring.
    first_buffers: Vec<u32>,
    stride: u32,
    capacity: u32,
    pub(crate) bytes: u64,
}

impl Plan {
    /// Plans the layout for that many pairs of rings of `1 << log2` descriptors with a buffer of
    /// `buffer_size` bytes for each.
    ///
    /// # Errors
    /// [`Refusal::MemoryLimit`] if it takes more than `max_bytes`, or more than the 4 GiB that
    /// descriptors can reach.
    pub(crate) fn new(
        queue_pairs: u16,
        log2: u8,
        buffer_size: u32,
        max_bytes: u64,
    ) -> Result<Plan, Refusal> {
        let stride = stride(buffer_size);
        let buffers = u64::from(stride) << log2;
        // Our rings share no cache line.
        let ring = ring_bytes(log2).next_multiple_of(CACHE_LINE);
        let count = 2 * u64::from(queue_pairs);
        let first = (ring * count).next_multiple_of(PAGE);
        let bytes = (first + buffers * count).next_multiple_of(PAGE);
        let limit = max_bytes.min(u64::from(u32::MAX));
        if bytes > limit {
            return Err(Refusal::MemoryLimit {
                asked: bytes,
                limit,
            });
        }
        // Below 4 GiB, as just seen.
        let at = |offset: u64| u32::try_from(offset).unwrap_or(u32::MAX);
        let mut plan = Plan {
            rings: Vec::new(),
            first_buffers: Vec::new(),
            stride,
            capacity: buffer_size,
            bytes,
        };
        for (n, (direction, index)) in (0_u64..).zip(ring_order(queue_pairs)) {
            let offset = at(n * ring);
            plan.rings.push(RingSpec {
                direction,
                index,
                region: 0,
                offset,
                log2,
            });
            plan.first_buffers.push(at(first + n * buffers));
        }
        Ok(plan)
    }

    /// Allocates and seals it, every page present, and formats the rings.
    ///
    /// # Errors
    /// [`Refusal::Allocation`].
    pub(crate) fn allocate(&self, interrupts: bool) -> Result<(SharedRegion, OwnedFd), Refusal> {
        let failed = |error: &dyn ToString| Refusal::Allocation(error.to_string());
        let len = usize::try_from(self.bytes).map_err(|error| failed(&error))?;
        let (region, fd) =
            SharedRegion::create_sealed("sluice-memif", len).map_err(|error| failed(&error))?;
        for spec in &self.rings {
            // The consumer owns the flag, but until it is there somebody has to set it: the
            // server's interrupts are on, as reference peers start, ours as configured.
            let masked = spec.direction == Direction::ServerToClient && !interrupts;
            Ring::new(region.clone(), spec)
                .and_then(|ring| ring.format(masked))
                .map_err(|fault| failed(&fault))?;
        }
        Ok((region, fd))
    }

    /// Buffers of the ring at this index of [`Plan::rings`].
    pub(crate) fn buffers(&self, ring: usize) -> Option<OwnBuffers> {
        let first = *self.first_buffers.get(ring)?;
        Some(OwnBuffers {
            first,
            stride: self.stride,
            capacity: self.capacity,
        })
    }
}

/// Distance of buffers: whole cache lines, and an odd number of them. At the usual 2048 bytes, the
/// first lines of all buffers would otherwise fall into two of a core's 64 first-level sets.
fn stride(buffer_size: u32) -> u32 {
    let lines = buffer_size.div_ceil(64);
    64 * (lines | 1)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn nothing_overlaps_and_all_is_inside() {
        for (pairs, log2, size) in [(1, 1, 256), (1, 10, 2048), (4, 10, 2048), (3, 5, 9000)] {
            let plan = Plan::new(pairs, log2, size, u64::MAX).unwrap();
            let mut ranges: Vec<(u64, u64)> = Vec::new();
            for (at, ring) in plan.rings.iter().enumerate() {
                assert_eq!(u64::from(ring.offset) % CACHE_LINE, 0);
                ranges.push((u64::from(ring.offset), ring.end()));
                let buffers = plan.buffers(at).unwrap();
                for slot in 0..1_u16 << log2 {
                    let start = u64::from(buffers.offset(slot));
                    ranges.push((start, start + u64::from(buffers.capacity)));
                }
            }
            ranges.sort_unstable();
            assert!(ranges.windows(2).all(|pair| pair[0].1 <= pair[1].0));
            assert!(ranges.last().unwrap().1 <= plan.bytes);
            assert_eq!(plan.rings.len(), 2 * usize::from(pairs));
            assert!(plan.buffers(plan.rings.len()).is_none());
        }
    }

    #[test]
    fn the_limits_hold() {
        let refused = Plan::new(1, 10, 2048, 1 << 20).unwrap_err();
        assert!(matches!(
            refused,
            Refusal::MemoryLimit {
                limit: 0x10_0000,
                ..
            }
        ));
        let refused = Plan::new(16, 14, 16_384, u64::MAX).unwrap_err();
        assert!(matches!(
            refused,
            Refusal::MemoryLimit {
                limit: 0xffff_ffff,
                ..
            }
        ));
    }

    #[test]
    fn strides_are_odd_numbers_of_lines() {
        assert_eq!(stride(2048), 2112);
        assert_eq!(stride(2112), 2112);
        assert_eq!(stride(1), 64);
        assert_eq!(stride(9000), 9024);
    }

    #[test]
    fn memory_is_sealed_and_formatted() {
        let plan = Plan::new(2, 3, 2048, 1 << 20).unwrap();
        let (region, fd) = plan.allocate(false).unwrap();
        assert_eq!(region.len() as u64, plan.bytes);
        let seals = rustix::fs::fcntl_get_seals(&fd).unwrap();
        assert!(seals.contains(rustix::fs::SealFlags::SHRINK));
        for (at, spec) in plan.rings.iter().enumerate() {
            let ring = Ring::new(region.clone(), spec).unwrap();
            assert_eq!(ring.cookie(), Ok(crate::layout::COOKIE));
            assert_eq!(ring.wants_interrupt(), Ok(at < 2));
        }
    }
}
