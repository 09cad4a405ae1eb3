// SPDX-License-Identifier: Apache-2.0
//! Fake of the parts of a worker that a port uses, for the ports' tests.
#![allow(clippy::expect_used, reason = "a test fails by panicking")]

use sluice_mem::{BufSize, Conservation, HugePages, Mempool, PoolConfig, Pools};

use crate::drops::DropCounts;
use crate::ports::seam::PortContext;

/// Mempools, caches and drop counts of a worker that is not there.
#[derive(Debug)]
pub(crate) struct Lent {
    pub(crate) pools: Pools,
    pub(crate) drops: DropCounts,
    small: Mempool,
    large: Mempool,
}

impl Lent {
    /// With `buffers` buffers of each size.
    pub(crate) fn new(buffers: u32) -> Lent {
        let pool = |size| {
            let config = PoolConfig {
                buffers,
                size,
                numa_node: None,
                huge_pages: HugePages::Off,
            };
            Mempool::new(config).expect("a small mempool can be made")
        };
        let (small, large) = (pool(BufSize::Small), pool(BufSize::Large));
        let pools = Pools::new(small, large, 128);
        Lent {
            pools,
            drops: DropCounts::new(),
            small,
            large,
        }
    }

    pub(crate) fn context(&mut self) -> PortContext<'_> {
        PortContext {
            pools: &mut self.pools,
            drops: &self.drops,
        }
    }

    /// Makes the caches of another worker, over the same mempools.
    pub(crate) fn more_pools(&self) -> Pools {
        Pools::new(self.small, self.large, 128)
    }

    /// Every buffer is back, and none came by the slow way.
    pub(crate) fn assert_all_free(&self) {
        for pool in [self.small, self.large] {
            let Conservation { all, free, .. } = pool.conservation();
            assert_eq!(all, free, "buffers are missing: {:?}", pool.conservation());
        }
    }
}
