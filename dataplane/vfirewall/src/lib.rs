// SPDX-License-Identifier: Apache-2.0
//! A virtual firewall in a pod: routes and filters between memifs.
//!
//! The pod has two or more data-plane interfaces; this program routes IPv4 and IPv6 between them and
//! judges every packet by the policy of the interface that it comes in on and of the one that it
//! leaves on. Policy files and compiled tables are the engine's own. It needs no privilege, no
//! device and no mount.
//!
//! ```text
//!  bin/vfirewall   args   config   what is asked for
//!  control         signals, reloading          worker   the loop that polls the legs
//!  forward         one burst through the stages, each a file in `stages`
//!  interfaces  routes  neighbours  tables      what stages look up
//!  answer  ask  hear  fragment                 what the firewall makes, and what it is told
//!  log  counters  drops  report                what operators see
//! ```
//!
//! The forwarding path allocates nothing per packet, reads the clock once a turn, and writes no log:
//! records go to a thread of their own, at a limited rate.
#![forbid(unsafe_code)]

pub mod answer;
pub mod args;
pub mod ask;
pub mod burst;
pub mod config;
pub mod context;
pub mod control;
pub mod counters;
pub mod drops;
pub mod forward;
pub mod fragment;
pub mod frame;
mod hear;
pub mod interfaces;
pub mod legs;
pub mod log;
pub mod neighbours;
pub mod report;
pub mod routes;
pub mod stages;
pub mod tables;
pub mod token_bucket;
pub mod worker;
