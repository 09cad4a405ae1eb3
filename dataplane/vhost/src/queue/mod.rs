// SPDX-License-Identifier: Apache-2.0
//! Rings of a connection, a pair for each worker: split virtqueues (virtio 1.2, section 2.7), from the
//! device's side.
//!
//! Both kinds are plain structs without locks: one thread owns each. A call reads the available index
//! once, the numbers of a burst of buffers by one copy, and stores the used index once: no system call
//! and no allocation. Every descriptor is read once into a local, checked, then used; no second read
//! is trusted.

mod chain;
mod counters;
mod plain;
mod ring;
mod rx;
mod tx;

pub use counters::{Pushed, RxCounters, TxCounters};
pub(crate) use ring::{Parts, Ring};
pub use rx::RxQueue;
pub use tx::TxQueue;

#[cfg(any(test, feature = "testing"))]
pub(crate) use ring::{INDIRECT, NEXT, WRITE};

/// Longest frame in bytes.
pub const MAX_FRAME: usize = 65_535;
/// Most descriptors of one chain, and most buffers of one merged frame.
pub const MAX_PIECES: usize = 64;
/// Most descriptors of an indirect table.
pub const MAX_TABLE: u16 = 1024;

#[cfg(test)]
#[allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a test fails by panicking, and its numbers are small"
)]
mod tests;
