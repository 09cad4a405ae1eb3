// SPDX-License-Identifier: Apache-2.0
//! Stages of the forwarding path, in its order. Each takes a burst and removes what goes no further.

pub mod filter;
pub mod local;
pub mod receive;
pub mod resolve;
pub mod route;
pub mod transmit;
