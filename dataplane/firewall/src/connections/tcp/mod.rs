// SPDX-License-Identifier: Apache-2.0
//! TCP as a tracker in the middle sees it: a state machine over the flags of both ends (`machine.rs`), and
//! the windows in which sequence numbers must lie (`window.rs`, `judge.rs`).
//!
//! The machine has the ten states and six events of [`Phase`](super::Phase) and [`Event`](super::Event). What
//! sets it apart is a fourth answer beside new, next state and invalid: *pass without touching anything*
//! ([`Outcome::Untouched`](super::Outcome)), for frames by which the ends may be right and the tracker wrong,
//! such as the challenge ACKs of RFC 5961. The tracker never answers for the ends.
//!
//! The windows are the four bounds of Guido van Rooij ("Real stateful TCP packet filtering in IP Filter",
//! 2001). RST is judged by RFC 5961, section 3.
//!
//! [`Tracking`] says how much of this is checked. A router sees one direction of many connections, hence
//! [`Tracking::Flags`] there.

mod judge;
mod machine;
mod segment;
mod window;

#[cfg(test)]
mod tests;

pub(crate) use judge::{SynSeen, judge, judge_ack};
pub(crate) use machine::by_flags;
pub use segment::Segment;
pub(crate) use window::{Bounds, EndBounds, OwnBounds, UNSCALED};

/// Depth to which TCP connections are tracked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Tracking {
    /// Flags and windows; all that lies outside is invalid.
    Strict,
    /// Flags and windows; what is late, or over the edge by less than a window, passes.
    #[default]
    Window,
    /// Flags alone, for attachments that may see one direction only.
    Flags,
}
