// SPDX-License-Identifier: Apache-2.0
//! The ports, one file per driver. Each stands behind a trait of [`crate::PodPort`] or
//! [`crate::Uplink`]; nothing outside this folder knows one from another.
//!
//! | driver | uplink | pod port |
//! |---|---|---|
//! | [`absent`] | a device that is not there | |
//! | [`af_packet`] | a kernel netdev | |
//! | [`af_xdp`] | a kernel netdev, past its stack | |
//! | [`igbvf`] | a VF of an Intel 82576, by DMA | |
//! | `dpdk` | a device of DPDK's, by its driver; feature `dpdk` | |
//! | [`memif`] | | shared memory: DPDK, VPP, libmemif, and pods written in Rust |
//! | [`vhost`] | | virtio rings: DPDK and virtual machines |
//! | [`tap`] | | a kernel netdev in the pod, for pods without memif |
//! | [`pcap`] | files | files |
//! | [`generator`] | frames from templates | the same |
//! | [`null`] | swallows everything | the same |

pub mod absent;
pub mod af_packet;
pub mod af_xdp;
#[cfg(feature = "dpdk")]
pub mod dpdk;
pub mod generator;
pub mod igbvf;
pub mod memif;
pub mod null;
pub mod pcap;
pub mod tap;
pub mod vhost;

mod arrival;
mod crc32c;
mod frame_list;
mod into_burst;
mod kernel_drops;
mod queue_of_flow;
pub(crate) mod seam;
mod tagged;
mod watched_link;
