// SPDX-License-Identifier: Apache-2.0
//! Parts that the benches share: an allocator that counts, and traffic that is the same in every run.
//!
//! Figures come from criterion, which is built without plots and without rayon. memmap2 is used here alone, for
//! a page that two programs share through a file; the product maps its memory in `sluice-mem`.

mod allocations;
pub mod links;
mod memory;
pub mod scene;
mod traffic;

pub use allocations::{allocations, allocations_elsewhere, may_allocate_here, none_allocated};
pub use memory::pools;
pub use traffic::{Flows, keys, policy_of, splitmix64, stateful_policy_of, udp_frame};
