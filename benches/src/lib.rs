//! What the benches share: an allocator that counts, and traffic that is the same in every run.

mod allocations;
pub mod links;
mod memory;
pub mod scene;
mod traffic;

pub use allocations::{allocations, none_allocated};
pub use memory::pools;
pub use traffic::{Flows, keys, policy_of, splitmix64, udp_frame};
