// SPDX-License-Identifier: Apache-2.0
//! The engine as control's threads see it: specifications in, snapshots and events out.

pub(crate) mod balance;
pub(crate) mod engine;
pub(crate) mod figures;
pub(crate) mod learned_tables;
pub(crate) mod link;
pub(crate) mod memory;
pub(crate) mod snapshot;
pub(crate) mod topology;
