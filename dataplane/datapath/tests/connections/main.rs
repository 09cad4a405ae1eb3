// SPDX-License-Identifier: Apache-2.0
//! Connections in the pipeline, by a clock that the tests set: bursts, kinds of traffic, and time.
#![allow(clippy::unwrap_used, reason = "a test says what it expects, plainly")]

#[path = "../lab/mod.rs"]
mod lab;

mod bench;
mod bursts;
mod kinds;
mod time;
