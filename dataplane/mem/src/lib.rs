// SPDX-License-Identifier: Apache-2.0
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
//! - **The kernel's** ([`packet_mmap`], [`xsk`], [`tap`]): packet rings and file descriptors of netdevs,
//!   and their [`offloads`].
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
//! # Rooms
//!
//! | module | holds | unsafe code in |
//! |---|---|---|
//! | `mempool` | pools, their caches, mbufs and bursts | `burst`, `buffer_writer`, `cache`, `handles`, `mbuf`, `posted`, `registry` |
//! | `shared` | regions shared with pods, tables in them, copies, SIGBUS | all |
//! | `kernel` | packet sockets with rings, taps | `packet_mmap::ring`, `packet_mmap::sys`, `xsk::rings`, `xsk::program`, `offloads`, `tap` |
//! | `dma` | addresses and memory as devices see them | the trait |
//! | `array`, `backing` | tables and pools on huge pages | both |
//! | `prefetch`, `lanes`, `cycles` | hints, comparisons and a counter: single instructions | all |

mod array;
mod backing;
mod cycles;
mod dma;
mod error;
mod kernel;
mod lanes;
mod mempool;
mod prefetch;
mod shared;

pub use array::Array;
pub use backing::{Backing, HugePages};
pub use cycles::cycles;
pub use dma::{DmaMemory, Iova};
pub use error::Error;
pub use kernel::{offloads, packet_mmap, tap, xsk};
pub use lanes::equal_lanes;
pub use mempool::buffer_writer::BufferWriter;
pub use mempool::burst::{BURST, Burst, DrainFront};
pub use mempool::cache::Cache;
pub use mempool::conservation::Conservation;
pub use mempool::layout::{BufSize, HEADROOM, SCRATCH_BYTES, Scratch};
pub use mempool::mbuf::Mbuf;
pub use mempool::pool::{Mempool, PoolConfig};
pub use mempool::pools::Pools;
pub use mempool::posted::Posted;
pub use shared::region::{OutOfRange, SharedRegion};
pub use shared::sigbus;
pub use shared::table::SharedTable;
