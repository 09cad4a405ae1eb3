// SPDX-License-Identifier: Apache-2.0
//! [`Conservation`]: the count of a pool's buffers, by which lost and doubled ones are found.

/// Count of all buffers of a pool: `all == free + in_flight`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Conservation {
    /// Buffers of the pool.
    pub all: u32,
    /// Buffers found free: in the depot and in caches.
    pub free: u32,
    /// Mbufs handed out and not yet given back, by the caches' books.
    pub in_flight: u32,
    /// Mbufs that came back by being dropped rather than freed, so far. They are free now; the
    /// number says how often a path forgot [`Cache::free`](crate::Cache::free).
    pub strays: u64,
}

impl Conservation {
    /// Whether every buffer is accounted for. `free` and `in_flight` come from different books, so
    /// this is a check and not a tautology.
    pub fn holds(&self) -> bool {
        u64::from(self.all) == u64::from(self.free) + u64::from(self.in_flight)
    }
}
