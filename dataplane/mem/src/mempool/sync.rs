// SPDX-License-Identifier: Apache-2.0
//! Atomics of the shared part of a mempool: from std, or from loom when it is being modelled.

#[cfg(not(loom))]
pub(crate) use std::sync::atomic::{AtomicI64, AtomicU32, AtomicU64, Ordering};

#[cfg(loom)]
pub(crate) use loom::sync::atomic::{AtomicI64, AtomicU32, AtomicU64, Ordering};
