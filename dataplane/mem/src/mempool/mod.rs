// SPDX-License-Identifier: Apache-2.0
//! Mempools: equal buffers on huge pages, handed to workers as mbufs.
//!
//! From the bottom up: [`layout`] has the sizes and the bits of a handle, [`free_list`] and [`depot`] the
//! free buffers, [`registry`] finds a buffer's memory from its handle, [`mbuf`] is that handle, and
//! [`pool`] makes pools. A worker allocates through a [`cache`], a burst at a time.

pub(crate) mod buffer_writer;
pub(crate) mod burst;
pub(crate) mod cache;
pub(crate) mod conservation;
pub(crate) mod depot;
pub(crate) mod free_list;
pub(crate) mod handles;
pub(crate) mod layout;
pub(crate) mod mbuf;
pub(crate) mod pool;
pub(crate) mod pools;
pub(crate) mod posted;
pub(crate) mod registry;
pub(crate) mod sync;
