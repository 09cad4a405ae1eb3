// SPDX-License-Identifier: Apache-2.0
//! [`Error`]: failures of setting memory up. After set-up nothing here fails but by `None`.

use std::io;

/// Reason why memory could not be set up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A pool of no buffers, or of more than an index can name.
    #[error("a mempool of {buffers} buffers is not possible: ask for 1 to {max}")]
    BufferCount {
        /// Buffers asked for.
        buffers: u32,
        /// Most buffers of one pool.
        max: u32,
    },
    /// More pools than a handle can name.
    #[error(
        "this process has {max} mempools already: use the existing ones, pools are never freed"
    )]
    TooManyPools {
        /// Most pools of one process.
        max: u32,
    },
    /// The NUMA node is not there.
    #[error("NUMA node {node} does not exist on this machine: see /sys/devices/system/node")]
    NoSuchNode {
        /// The node asked for.
        node: u32,
    },
    /// The kernel refused the memory.
    #[error(
        "mapping {bytes} bytes for a mempool failed: {source}; configure fewer buffers, or give the process more memory (cgroup memory.max, ulimit -v)"
    )]
    Map {
        /// Bytes asked for.
        bytes: usize,
        /// Answer of the kernel.
        source: io::Error,
    },
    /// A shared region of no bytes, or of more than the file behind it has.
    #[error(
        "a shared region of {bytes} bytes is not possible over a file of {file_bytes}: the peer must size its memory before it shares it"
    )]
    RegionLength {
        /// Bytes asked for.
        bytes: usize,
        /// Bytes of the file.
        file_bytes: u64,
    },
    /// The kernel refused a step in setting up a shared region.
    #[error(
        "{step} for a shared region of {bytes} bytes failed: {source}; the limits on memory (cgroup memory.max) and open files (ulimit -n) apply"
    )]
    Region {
        /// The step, by its system call.
        step: &'static str,
        /// Bytes of the region.
        bytes: usize,
        /// Answer of the kernel.
        source: io::Error,
    },
    /// The table of regions that SIGBUS protects is full.
    #[error("{max} shared regions are mapped already: detach pods first")]
    TooManyRegions {
        /// Most regions of one process.
        max: usize,
    },
    /// The SIGBUS action could not be changed.
    #[error("sigaction(SIGBUS) failed: {source}; report this as a bug")]
    Sigbus {
        /// Answer of the kernel.
        source: io::Error,
    },
    /// A packet ring of a size that is not possible.
    #[error(
        "a {ring} ring of {slots} slots of {slot_bytes} bytes is not possible: use 1 to 65536 slots of 128 to 262144 bytes, less than 2 GiB in all"
    )]
    PacketSlots {
        /// Name of the ring, `receive` or `transmit`.
        ring: &'static str,
        /// Slots asked for.
        slots: u32,
        /// Bytes of each.
        slot_bytes: u32,
    },
    /// The kernel refused a step in opening a packet socket.
    #[error(
        "{step} for the packet socket on netdev {ifindex} failed: {source}; it needs CAP_NET_RAW, Linux 4.6 or later, a netdev that exists, and memory for its rings (fewer or smaller slots need less)"
    )]
    Packet {
        /// The netdev's index.
        ifindex: u32,
        /// The step, by its system call or socket option.
        step: &'static str,
        /// Answer of the kernel.
        source: io::Error,
    },
    /// The kernel refused a step in opening AF_XDP sockets.
    #[error(
        "{step} for AF_XDP on netdev {ifindex} failed: {source}; it needs CAP_NET_RAW, CAP_NET_ADMIN and CAP_BPF, Linux 5.9 or later, a netdev without another XDP program (`ip link set dev DEVICE xdp off` takes one off), and as much locked memory as the mempool has (ulimit -l, or CAP_IPC_LOCK)"
    )]
    Xdp {
        /// The netdev's index.
        ifindex: u32,
        /// The step, by its system call or socket option.
        step: &'static str,
        /// Answer of the kernel.
        source: io::Error,
    },
    /// The kernel refused a step in opening a tap.
    #[error(
        "{step} for tap {name} failed: {source}; it needs CAP_NET_ADMIN, /dev/net/tun, and a name that no other netdev has"
    )]
    Tap {
        /// Name asked for.
        name: String,
        /// The step, by its system call.
        step: &'static str,
        /// Answer of the kernel.
        source: io::Error,
    },
}
