// SPDX-License-Identifier: Apache-2.0
//! Packet queues of a connection, one pair per worker.
//!
//! Both kinds are plain structs without locks: one thread owns each. A call does one acquire load and one
//! release store per burst and ring, no system call and no allocation. Every descriptor is read
//! once into a local, checked, then used; no second read is trusted.

mod counters;
mod gather;
mod own_buffers;
mod plain;
mod prefetched;
mod ring;
mod rx;
mod scan;
mod tx;

pub use counters::{Pushed, RxCounters, TxCounters};
pub(crate) use own_buffers::OwnBuffers;
pub(crate) use ring::Ring;
pub(crate) use rx::RxBuffers;
pub use rx::RxQueue;
pub(crate) use tx::TxBuffers;
pub use tx::TxQueue;

#[cfg(test)]
mod tests;
