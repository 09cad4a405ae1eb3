// SPDX-License-Identifier: Apache-2.0
//! Pipeline: the two flows, their stages, and what these work on.
//!
//! A stage is a function over the tables, the worker's state and one burst. Each takes out of the
//! burst the frames that go no further, so that a frame that is still in it is allowed so far.
//!
//! ```text
//!  ingress      uplink.rx ─ parse ─ lookup ─ classify ───────────── judge at receivers ─ dispatch
//!  egress     copy in ───── parse ─ lookup ─ classify ─ judge at ── judge at receivers ─ dispatch
//!                                            anti-spoof   sender
//!  handed_off ring.pop ──── parse ─ lookup ──────────────────────── judge at receivers ─ dispatch
//!                                     │                                                    │
//!                                     └─ all hit: nothing to classify or to judge ─────────┤
//!                                                                                          │
//!  flush        answers from the outbox, then what was ◄─ deliver, flood, uplink, handoff ─┘
//!               delivered, then what goes out of uplinks
//! ```
//!
//! | file | holds |
//! |---|---|
//! | `ingress.rs` | the flow towards the pod |
//! | `egress.rs` | the flow from the pod |
//! | `handed_off.rs` | the rest of a flow that began at another worker |
//! | `parse.rs` | stage: tag, segment, key (`tags.rs`: the outermost tag, `fragments.rs`: ports of later pieces) |
//! | `lookup.rs` | stage: the flow cache, or the connection table (`tracked/`); [`Lookup`](lookup::Lookup) says which frames hit |
//! | `classify.rs` | stage: destination, and `antispoof.rs` for what a pod sends (`claims.rs`: link-local addresses that pods take) |
//! | `learn.rs` | what `classify` learns of MAC addresses beyond the attachments' own; `learned/` holds them |
//! | `judge.rs` | stage: policies (`policy_context.rs`; `by_headers.rs`: by TCP flags and the like; `in_state.rs`: rules with `state`; `stateful/`: by `connections.rs`), and the answer to a reject (`reject.rs`) |
//! | `dispatch/` | stage: `deliver`, `flood` (`snoop`), `uplink`, `handoff` |
//! | `flush.rs` | end of the round; `outbox.rs` holds the answers until then |
//! | `tables.rs`, `macs.rs` | what all workers know: immutable, swapped between bursts |
//! | `identity.rs`, `allowed_pairs.rs` | what an attachment may pose as, through all versions of the tables |
//! | `state.rs`, `attachment.rs`, `event.rs` | what one worker owns, and what it posts to control |
//! | `groups/` | multicast snooping: who is in which group |
//! | `flood_limits.rs`, `rule_limits.rs`, `record_limits.rs`, `token_bucket.rs`, `clock.rs` | rate limits, and the time they go by |
//! | `frame_set.rs` | positions in a burst |
//! | `room.rs` | frames that a pod may send in a visit: `handoff_ring.rs`, `tx_shares.rs` hold its shares |
//!
//! The files import only downwards in this order. The one thing that would close a circle, a
//! reject's answer, waits in the outbox until [`flush`](flush::flush).
//!
//! # Where more hooks in
//!
//! * *Connections in place of the flow cache for stateless policies too*: in [`Lookup::look_up`](lookup::Lookup::look_up).
//!   Today only what stateful policies judge is looked up in [`connections`], and never in the flow cache.
//! * *A trace* of a frame: at the boundaries between the calls in [`ingress`](ingress::ingress),
//!   [`egress`](egress::egress) and [`handed_off`](handed_off::handed_off), where every frame that is
//!   still in the burst has passed the stage before; and in `WorkerState::drop_frame`, `drop_burst`,
//!   `drop_at` and `drop_at_origin` for the frames that have not.
//! * *A capture*: behind `receive` of both flows for what comes in, in
//!   [`deliver_borrowed`](dispatch::deliver::deliver_borrowed) and
//!   [`uplink::send`](dispatch::uplink::send) for what goes out, copied to a ring of the worker's own.

pub(crate) mod allowed_pairs;
pub(crate) mod antispoof;
pub(crate) mod attachment;
mod by_headers;
pub(crate) mod claims;
pub(crate) mod classify;
pub(crate) mod clock;
pub(crate) mod connections;
pub(crate) mod dispatch;
pub(crate) mod egress;
pub(crate) mod event;
pub(crate) mod flood_limits;
pub(crate) mod flush;
pub(crate) mod fragments;
pub(crate) mod frame_set;
pub(crate) mod groups;
pub(crate) mod handed_off;
pub(crate) mod handoff_ring;
pub(crate) mod identity;
mod in_state;
pub(crate) mod ingress;
pub(crate) mod judge;
pub(crate) mod learn;
pub(crate) mod learned;
pub(crate) mod lookup;
pub(crate) mod macs;
pub(crate) mod outbox;
pub(crate) mod parse;
pub(crate) mod policy_context;
pub(crate) mod record_limits;
pub(crate) mod reject;
pub(crate) mod room;
pub(crate) mod rule_limits;
pub(crate) mod state;
pub(crate) mod stateful;
pub(crate) mod tables;
pub(crate) mod tags;
pub(crate) mod token_bucket;
pub(crate) mod tracked;
pub(crate) mod tx_shares;
