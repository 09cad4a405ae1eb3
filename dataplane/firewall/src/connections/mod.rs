// SPDX-License-Identifier: Apache-2.0
//! Connection tracking.

mod event;
mod frame;
pub mod naive;
mod outcome;
mod phase;
mod pseudo;
mod tcp;
mod timeouts;

#[cfg(test)]
mod testing;

pub use event::Event;
pub use frame::{Reading, Scope, TrackedFrame};
pub use outcome::{Cause, Outcome};
pub use phase::{End, Phase};
pub use tcp::{Segment, Tracking};
pub use timeouts::{TICKS_PER_SECOND, Tick, Timeouts};
