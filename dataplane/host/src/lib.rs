// SPDX-License-Identifier: Apache-2.0
//! State and identity on the host, for every process of a node: a leaf crate.
//!
//! | module | contents |
//! |---|---|
//! | [`store`] | files written whole or not at all, durable or not, read as whole, absent or torn |
//! | [`lock`] | locks on files: who holds one, waiting for one, giving one to children |
//! | [`netns`] | network namespaces: identity (path, device, inode, moment, boot), opening, running code inside |
//! | [`boot`] | identity of this boot of the machine |
//! | [`error`] | failure at a file: what was being done, which path, what the kernel said |
//! | [`topology`] | NUMA nodes, and cores that are threads of one physical core |
//! | [`engine`] | the engine's files: their names, its lock, its records |
//! | [`operations`] | reports of the CNI plugins to the agent |
#![forbid(unsafe_code)]

pub mod boot;
pub mod engine;
pub mod error;
pub mod lock;
pub mod netns;
pub mod operations;
pub mod store;
pub mod topology;

pub use boot::boot_id;
pub use error::FileError;
pub use lock::FileLock;
pub use netns::{Netns, NetnsError, NetnsIdentity, NetnsRef};
pub use store::{Durability, Staged, Stored};
