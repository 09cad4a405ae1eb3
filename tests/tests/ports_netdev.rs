// SPDX-License-Identifier: Apache-2.0
//! Uplinks on a kernel netdev, AF_PACKET and AF_XDP in both modes, with frames of a real kernel: veth pairs
//! in network namespaces. One list of tests for all of them; what only one driver does is said there.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod ports_worker;
mod ports_netdev {
    mod counts;
    mod link;
    mod offloads;
    mod rig;
    mod tags;
}
