// SPDX-License-Identifier: Apache-2.0
//! Raw bindings to libdpdk: bindgen over the headers that pkg-config names, inline functions wrapped in C.
//!
//! Only what `sluice-dpdk` uses is bound; everything here is unsafe and nothing is checked. Written against
//! 22.11 (Debian 12) and 24.11 (Debian 13): fields whose place differs are reached by the functions `sg_*` of
//! `wrapper.h`. A program runs with the version of DPDK that it was built with. Layouts of all bound structures
//! are asserted when the crate is compiled.
//!
//! Without the feature `libdpdk` the crate is empty, and neither a C library nor a compiler is needed.
//!
//! bindgen makes the bindings, cc compiles the wrappers, pkg-config finds the library; the DPDK crates of
//! crates.io bind other versions, are no longer kept, or are under the AGPL.

#[cfg(feature = "libdpdk")]
#[allow(
    unsafe_code,
    non_upper_case_globals,
    non_camel_case_types,
    non_snake_case,
    missing_docs,
    missing_debug_implementations,
    unreachable_pub,
    dead_code,
    unsafe_op_in_unsafe_fn,
    clippy::all,
    clippy::allow_attributes_without_reason,
    clippy::pedantic,
    clippy::undocumented_unsafe_blocks,
    clippy::multiple_unsafe_ops_per_block,
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    rustdoc::all,
    reason = "generated from C headers"
)]
mod bindings {
    include!(concat!(env!("OUT_DIR"), "/bindings.rs"));
}

#[cfg(feature = "libdpdk")]
pub use bindings::*;

/// Handles travel in an `rte_mbuf`'s pointer to the data of external buffers.
#[cfg(feature = "libdpdk")]
const _: () = assert!(size_of::<sg_buffer>() == 40 && usize::BITS == 64);
