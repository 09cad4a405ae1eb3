// SPDX-License-Identifier: Apache-2.0
//! The handshake as two state machines that do no input or output.
//!
//! ```text
//! server                      client
//! HELLO               ->
//!                     <-      INIT
//! ACK                 ->
//!                     <-      ADD_REGION 0 + memfd
//! ACK                 ->      ... one for each region
//!                     <-      ADD_RING + eventfd
//! ACK                 ->      ... one for each ring, client-to-server first
//!                     <-      CONNECT
//! CONNECTED           ->
//! ```
//! A machine is fed messages and says what to do and what to answer. Whoever drives it does what
//! it says (checks an fd, maps memory), and only then sends the answer; if that fails it sends
//! DISCONNECT instead. After an error a machine accepts nothing more.

mod client;
mod server;

pub(crate) use client::ring_order;
pub use client::{CarriedFd, ClientMachine, ClientParams, ClientStep};
pub use server::{ServerMachine, ServerParams, ServerStep, ServerWork};

#[cfg(test)]
mod tests;
