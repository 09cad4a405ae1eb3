// SPDX-License-Identifier: Apache-2.0
//! Front end for tests and fuzzing: the driver's side of rings and protocol, and every way to get both
//! wrong. Not built into any program.
#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a test fails by panicking, and its numbers are small"
)]

mod driver_ring;
mod front_end;
mod guest_memory;

pub use driver_ring::DriverRing;
pub use front_end::{FrontEnd, Setup};
pub use guest_memory::{GUEST, GuestMemory, USER};

/// Flags of descriptors.
pub mod flags {
    use crate::queue;

    /// The chain goes on.
    pub const NEXT: u16 = queue::NEXT;
    /// The device writes the buffer.
    pub const WRITE: u16 = queue::WRITE;
    /// The buffer is a table of descriptors.
    pub const INDIRECT: u16 = queue::INDIRECT;
}
