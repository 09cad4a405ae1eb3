// SPDX-License-Identifier: Apache-2.0
//! Bounded lock-free queues without I/O: for one producer and one consumer, and, as [`Mpmc`], for many.
//!
//! ```
//! let (mut producer, mut consumer) = sluice_ring::try_spsc(4)?;
//! assert_eq!(producer.push_burst(&mut (1..=9)), 4);
//! assert_eq!(consumer.pop(), Some(1));
//! let mut sum = 0;
//! assert_eq!(consumer.pop_burst(32, |value| sum += value), 3);
//! assert_eq!(sum, 2 + 3 + 4);
//! # Ok::<(), sluice_ring::CapacityError>(())
//! ```
//!
//! # How it works
//!
//! Two indices run freely: `tail` counts what was pushed, `head` what was popped. Value `i` lies in
//! slot `i mod capacity`; slots from `head` to `tail` hold values and belong to the consumer, the
//! others are empty and belong to the producer. Each index is written by one side, on a cache line
//! of its own (128 bytes, as CPUs fetch lines in pairs), and handing slots over is one release
//! store that the other side's acquire load sees.
//!
//! Each side keeps the last value it saw of the other's index and loads it anew only when that does
//! not suffice: in a burst of n the line changes cores once, not n times. This is what makes it
//! faster than a ring that reloads on every call; keep it.
//!
//! # Which way to move values
//!
//! | | producer | consumer |
//! |---|---|---|
//! | one | [`Producer::push`] | [`Consumer::pop`] |
//! | a burst | [`Producer::push_burst`] | [`Consumer::pop_burst`] |
//! | a burst of plain values | [`Producer::push_slice`] | [`Consumer::pop_slice`] |
//! | a burst that may be called off | [`Producer::reserve`] | [`Consumer::peek`] |
//!
//! The last two make a burst visible, or its slots free, only at a commit: what was reserved and
//! not committed never was, what was peeked at and not committed is still there.
//!
//! Frames that are to be read where they lie go through [`bytes_spsc`], a ring of byte strings.
//!
//! Where several threads meet at one end there is [`Mpmc`], at the price of a read-modify-write per burst and
//! a turn per value. crossbeam's `ArrayQueue` has that per value and knows no bursts; its `CachePadded`
//! serves here.
//!
//! All unsafe code is in `shared`, `producer`, `consumer`, `bytes` and `mpmc`: the cells and the promises about them. Loom models in `tests/loom.rs` go
//! through every interleaving of small cases:
//! `RUSTFLAGS="--cfg loom" cargo test -p sluice-ring --release --test loom`.

mod bytes;
mod consumer;
mod mpmc;
mod producer;
mod shared;
mod sync;
mod wake;

pub use bytes::{BytesConsumer, BytesProducer, Space, bytes_spsc};
pub use consumer::{Consumer, Peek};
pub use mpmc::Mpmc;
pub use producer::{Producer, Reservation};
pub use wake::Sleeper;

use shared::Shared;
use sync::Arc;

/// A ring cannot have this capacity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a ring cannot hold {capacity} values: use a power of two from 1 to 2^31")]
pub struct CapacityError {
    /// The capacity asked for.
    pub capacity: usize,
}

/// Most values of a ring.
const MAX_CAPACITY: usize = 1 << 31;

/// A ring that holds up to `capacity` values.
///
/// # Errors
/// [`CapacityError`] unless `capacity` is a power of two from 1 to 2^31.
pub fn try_spsc<T>(capacity: usize) -> Result<(Producer<T>, Consumer<T>), CapacityError> {
    if !capacity.is_power_of_two() || capacity > MAX_CAPACITY {
        return Err(CapacityError { capacity });
    }
    let shared = Arc::new(Shared::new(capacity));
    Ok((Producer::new(Arc::clone(&shared)), Consumer::new(shared)))
}

/// A ring that holds at least `capacity` values: the next power of two, from 1 to 2^31.
pub fn spsc<T>(capacity: usize) -> (Producer<T>, Consumer<T>) {
    let capacity = capacity.clamp(1, MAX_CAPACITY).next_power_of_two();
    let shared = Arc::new(Shared::new(capacity));
    (Producer::new(Arc::clone(&shared)), Consumer::new(shared))
}
