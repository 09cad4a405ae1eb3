// SPDX-License-Identifier: Apache-2.0
//! AF_PACKET uplink on a kernel netdev, with frames of a real kernel: veth pairs in network namespaces.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod ports_worker;
mod ports_af_packet {
    mod counts;
    mod link;
    mod offloads;
    mod rig;
    mod tags;
}
