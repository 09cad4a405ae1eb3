// SPDX-License-Identifier: Apache-2.0
//! Ports of DPDK's drivers over the engine's own packet memory: any device that DPDK drives becomes an uplink.
//!
//! | file | holds |
//! |---|---|
//! | [`device`] | names of devices: PCI addresses and vdevs, checked before DPDK sees them |
//! | `eal` | EAL, started once, and what it must not do to the process |
//! | `log` | DPDK's log, as lines of the engine's |
//! | `memory` | the engine's mempools, registered with DPDK and mapped for devices |
//! | `headers` | a mempool of `rte_mbuf` headers whose buffers are the engine's: zero copy |
//! | `port` | a port: opening, bursts, closing |
//! | `watch` | link and statistics, read on EAL's thread, never on a worker |
//!
//! # Zero copy
//!
//! The engine's mempools stay the only packet memory. A port has headers (`rte_mbuf`) in DPDK's memory; a driver
//! that takes one from the port's mempool gets it with a buffer of the engine's behind it, and the handle of the
//! [`Mbuf`](sluice_mem::Mbuf) in a field that nobody reads meanwhile. A frame that was received, or that was sent
//! and is freed, gives the handle back. So no byte is copied, and both sides count the same buffers.
//!
//! # Feature
//!
//! All but [`device`] needs the feature `libdpdk`, and a program that is linked dynamically: DPDK's drivers are
//! plugins, which a static program cannot load.
//!
//! # Packages
//!
//! dpdk-sys for the bindings; libc for what crosses to C. The DPDK crates of crates.io are unmaintained or under
//! the AGPL.

pub mod device;

#[cfg(feature = "libdpdk")]
mod eal;
#[cfg(feature = "libdpdk")]
mod error;
#[cfg(feature = "libdpdk")]
mod headers;
#[cfg(feature = "libdpdk")]
mod log;
#[cfg(feature = "libdpdk")]
mod memory;
#[cfg(feature = "libdpdk")]
mod port;
#[cfg(feature = "libdpdk")]
mod watch;

pub use device::{Device, DeviceError};
#[cfg(feature = "libdpdk")]
pub use eal::{Eal, EalConfig};
#[cfg(feature = "libdpdk")]
pub use error::Error;
#[cfg(feature = "libdpdk")]
pub use port::{Port, PortConfig, Transmitted};
