// SPDX-License-Identifier: Apache-2.0
//! Packet rings and file descriptors of the kernel's netdevs.

pub mod offloads;
pub mod packet_mmap;
pub mod tap;
pub mod xsk;
