// SPDX-License-Identifier: Apache-2.0
//! Memory shared with a pod: hostile, copied in and out, never referenced.

pub(crate) mod copies;
pub(crate) mod region;
pub mod sigbus;
pub(crate) mod table;
