// SPDX-License-Identifier: Apache-2.0
//! vhost-user back end: the device side of virtio-net over a unix socket and shared memory, as QEMU's
//! `vhost-user` netdev and DPDK's `net_virtio_user` speak to it.
//!
//! The *front end* (a virtual machine monitor, or a DPDK process in a pod) owns the memory and the
//! rings, and passes both over a socket; this crate is the *back end*, which moves frames between
//! those rings and the owner of the queues. Either may be the one that listens.
//!
//! - [`endpoint::spawn`] runs the control side of one device on a thread of its own and hands out the
//!   queues whenever rings run.
//! - [`RxQueue`] and [`TxQueue`] are the data side: what a polling worker holds. No locks, no
//!   allocation, no system calls.
//!
//! The front end is hostile. It may send any message at any moment, any fd, and change any byte of the
//! shared memory at any time; what it does wrong ends its connection with a reason that names the
//! violation: [`Refusal`] for the control side, [`Fault`] for the rings. Its memory is only touched
//! through [`sluice_mem::SharedRegion`], which forms no reference over it, so this crate has no unsafe
//! code. Memory on huge pages cannot be sealed against truncation: call [`sluice_mem::sigbus::install`]
//! first.
//!
//! Split rings only, with mergeable buffers, indirect descriptors and buffers used in order; see
//! [`features`] for what is offered and why the rest is not. The crates `vhost`, `virtio-queue` and
//! `vm-memory` are not used: the first refuses SET_VRING_ENABLE before SET_FEATURES, which QEMU and
//! DPDK send, the second looks each address up anew, at fifteen times the cost of a frame here, and the
//! third maps files without looking at their size.
//!
//! ```text
//!  msg               bytes of messages          socket             receiving and sending them
//!  device            state, without I/O         region, memory     checking and finding memory
//!  queue             rings and frames           endpoint           the thread of one device
//! ```
#![forbid(unsafe_code)]

mod device;
pub mod endpoint;
mod fault;
pub mod features;
mod memory;
pub mod msg;
mod queue;
mod refusal;
mod region;
mod socket;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
#[cfg(test)]
mod tests;

pub use endpoint::{
    ConfigError, Connection, ConnectionId, EndpointConfig, EndpointHandle, Event, Opener, Role,
};
pub use fault::{Direction, Fault};
pub use memory::MAX_REGIONS;
pub use queue::{
    MAX_FRAME, MAX_PIECES, MAX_TABLE, Pushed, RxCounters, RxQueue, TxCounters, TxQueue,
};
pub use refusal::Refusal;
pub use region::RegionSpec;
