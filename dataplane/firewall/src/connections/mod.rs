// SPDX-License-Identifier: Apache-2.0
//! Connection tracking, as a library that one worker uses: one entry for both directions of a flow, which knows
//! the flow's state and where its frames go.
//!
//! * [`TrackedFrame::read`] says what a parsed frame is for a tracker: something to look up ([`Reading`]), an ICMP
//!   error, nothing at all (ARP, neighbour discovery, groups), or invalid.
//! * [`Tracker`] has the tables, one for each IP version. [`Tracker::lookup_v4`] takes a burst.
//! * [`Phase`] and [`Outcome`] are the state machines: of TCP with windows by [`Tracking`], of UDP, ICMP queries, SCTP
//!   and all others by who has sent.
//! * [`naive`]: the same in a map and plain words; the tests' oracle.
//!
//! # In a pipeline
//!
//! An attachment's owner has one tracker; a frame is looked up once for each attachment that judges it, under the
//! [`Scope`] of that attachment and its segment. Each round begins with [`Tracker::expire`], with the tick that the
//! worker has read from its clock. Then, for each burst:
//!
//! 1. *Parse*: `TrackedFrame::read`, then a [`Probe`] of each tracked frame and its [`Segment`] into two arrays, one
//!    pair of arrays for each IP version.
//! 2. *Lookup*: [`Tracker::lookup_v4`] and [`Tracker::lookup_v6`]. [`Answer::Known`] names a [`Pair`]:
//!    [`Tracker::path`] has the frame's destination and its rules, and the frame is counted there. Nothing else is to
//!    be asked.
//! 3. *Classify and judge* the rest. [`Answer::New`] goes through the tables of rules as state `new`; what they accept
//!    is inserted by [`Tracker::insert`] in the order of the burst, so that a second datagram of a new flow finds what
//!    the first has opened. What they refuse leaves nothing. [`Answer::Stale`] is judged as it was opened, and
//!    answered by [`Tracker::revalidate`] or [`Tracker::revoke`]. [`Answer::Invalid`] and [`Answer::Revoked`] are
//!    dropped, never rejected: an RST in answer to a frame that is merely late kills a good connection. Only where
//!    rules match `invalid`, or an attachment is in its grace time ([`Tracker::pick_up`]), are they judged.
//! 4. *ICMP errors*: [`Tracker::relate`]. A related one passes without a rule.
//!
//! # Bounds
//!
//! * *An entry is not a permission.* What the policy would let the remote open again can be given up at any time
//!   ([`Opening::rederivable`]); what only the pod may open is never given up for another ([`Class`]).
//! * Each attachment has quotas of its own ([`Quotas`]) and makes room among its own connections alone.
//! * A flood of SYNs from outside fills the embryonic quota and is then refused
//!   ([`Refusal::EmbryonicQuota`]): the pipeline lets such a SYN pass by its rule alone, and the opener's ACK makes
//!   the entry.
//! * The hash is keyed. [`Counts::moved`] tells an attack on it.
//! * [`Tracker::expire`], [`Tracker::sweep_pairs`] and [`Tracker::remove_attachment`] work in bounded steps.

mod answer;
mod event;
mod frame;
mod key;
pub mod naive;
mod outcome;
mod pairs;
mod phase;
mod pseudo;
mod queries;
mod related;
mod table;
mod tcp;
mod timeouts;
mod tracker;

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

pub use answer::{Answer, ConnectionState, Counts, Inserted, Opening, Refusal};
pub use event::Event;
pub use frame::{Layers, Reading, Scope, TrackedFrame};
pub use key::{Key, Probe, V4Key, V6Key};
pub use outcome::{Cause, Outcome};
pub use pairs::{Pair, Path, PathCounts, Paths};
pub use phase::{End, Phase};
pub use queries::reversed;
pub use table::{Class, Quotas};
pub use tcp::{Segment, Tracking};
pub use timeouts::{TICKS_PER_SECOND, Tick, Timeouts};
pub use tracker::{Config, Tracker};
