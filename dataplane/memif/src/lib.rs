// SPDX-License-Identifier: Apache-2.0
//! memif: packets through shared memory, compatible with DPDK, VPP and libmemif; both roles.
//!
//! The *client* connects to the *server*'s unix socket, allocates the memory and passes it over as
//! file descriptors; then both exchange frames through rings in that memory. Protocol 2.0, Ethernet
//! mode, several queue pairs, chained descriptors, polling and interrupts.
//!
//! - [`endpoint::spawn`] runs the control side of one memif on a thread of its own and hands out
//!   the queues of each connection. It reconnects until it is stopped.
//! - [`RxQueue`] and [`TxQueue`] are the data side: what a polling worker holds. No locks, no
//!   allocation, no system calls.
//! - [`Memif`] puts both together for a program that is itself the pod: see `examples/`.
//!
//! The other side is hostile. It may send any message at any moment, any fd, and change any byte
//! of the shared memory at any time. What it does wrong ends its connection with a reason that
//! names the violation: [`Refusal`] for the control side, [`Fault`] for the rings. Shared memory is only
//! touched through [`sluice_mem::SharedRegion`], which forms no reference over it (memmap2 would),
//! so this crate has no unsafe code. Control sockets, interrupts and the pace of peers are sluice-peer's.
//! System calls go through rustix, not through libc. A process that takes memory from peers (a server) should call
//! [`sluice_mem::sigbus::install`] first.
//!
//! ```text
//!  msg, text         bytes of messages           socket, listener   sending and receiving them
//!  handshake         state machines without I/O  region, memory     checking and making memory
//!  queue             rings and packets
//!  endpoint          the thread of one memif     pod                a whole memif for a pod
//! ```
#![forbid(unsafe_code)]

pub mod endpoint;
mod fault;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
pub mod handshake;
pub mod layout;
mod listener;
mod memory;
pub mod msg;
mod pod;
mod queue;
mod refusal;
mod region;
mod socket;
mod text;

pub use endpoint::{
    ConfigError, Connection, ConnectionId, EndpointConfig, EndpointHandle, Event, Opener, Role,
};
pub use fault::Fault;
pub use listener::{Listener, connect, connect_in};
pub use pod::{LinkChange, Memif};
pub use queue::{Pushed, RxCounters, RxQueue, TxCounters, TxQueue};
pub use refusal::Refusal;
pub use sluice_peer::{
    Address, AddressError, BURST, EndpointCounts, FrameList, Kick, Kicker, OpenError, PeerCred,
    Sink,
};
pub use socket::{Channel, Received};
pub use text::{Secret, Text};

/// Name of this program as peers show it.
const PROGRAM: &str = concat!("sluicegate ", env!("CARGO_PKG_VERSION"));
