//! Packet memory: mempools of mbufs, memory shared with pods, and rings shared with the kernel.
//!
//! Three kinds of memory live here, each behind a safe face, so that the rest of the dataplane can
//! forbid unsafe code:
//!
//! - **The engine's own** ([`Mempool`], [`Cache`], [`Mbuf`], [`Burst`]): a pool is one mapping that
//!   lives as long as the process, an [`Mbuf`] is an eight-byte handle that exists once, and
//!   `&[u8]` over its bytes is sound because nobody else has the handle. A driver that lets a device
//!   at an mbuf's bytes gives the handle up for a [`Posted`] first. An [`Array`] is a table of some
//!   megabytes on huge pages.
//! - **A pod's** ([`SharedRegion`]): hostile. No reference is ever formed over it; every access is
//!   one bounds check and one copy into or out of private memory.
//! - **The kernel's** ([`packet_mmap`], [`tap`]): packet rings and file descriptors of netdevs.
//!
//! # Packages not used, and why
//!
//! - hugepage-rs hands out huge pages as a private allocation: the memory has no fd that could be
//!   mapped by a device driver or bound to a NUMA node before its first page is touched. Pools are
//!   a hugetlb memfd instead.
//! - memmap2 gives `&[u8]` over a shared mapping. A peer that writes meanwhile makes such a slice
//!   undefined behaviour, so [`SharedRegion`] maps with rustix and hands out copies only.
//! - sluice-ring's `Mpmc` holds the pool's free batches; crossbeam's `CachePadded` keeps counters
//!   of different workers apart.
//!
//! # Where the unsafe code is
//!
//! `backing`, `burst`, `mbuf`, `words`, `filler`, `pool`, `cache`, `dma`: the pool. `array`: tables. `prefetch`:
//! hints. `lanes`: comparisons. `copy`, `region`, `table`, `sigbus`: pod-shared memory. `packet_mmap::{ring, sys}` and `tap`: the kernel. All else is safe.

mod array;
mod backing;
mod burst;
mod cache;
mod copy;
mod depot;
mod dma;
mod error;
mod filler;
mod lanes;
mod loose;
mod mbuf;
pub mod packet_mmap;
mod pool;
mod pools;
mod prefetch;
mod region;
pub mod sigbus;
mod sync;
mod table;
pub mod tap;
mod words;

pub use array::Array;
pub use backing::{Backing, HugePages};
pub use burst::{BURST, Burst, DrainFront};
pub use cache::Cache;
pub use dma::Posted;
pub use error::Error;
pub use filler::Filler;
pub use lanes::equal_lanes;
pub use mbuf::{HEADROOM, Mbuf, SCRATCH_BYTES, Scratch};
pub use pool::{BufSize, Conservation, Mempool, PoolConfig};
pub use pools::Pools;
pub use region::{OutOfRange, SharedRegion};
pub use table::SharedTable;
