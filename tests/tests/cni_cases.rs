// SPDX-License-Identifier: Apache-2.0
//! The conformance cases of the CNI plugins, by number. Each executes the built binary with a
//! cleared environment, in a network namespace that stands for the host, as a container runtime
//! would; delegates and ipam are the reference plugins of `/usr/lib/cni`.
//!
//! Fakes, where the case is about what the meta plugin does rather than what its delegate
//! does: shell scripts of the names that the case has (sriov, flannel, a, b) which note how they
//! were called. See `cni_rig::Host::fake_plugin`.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod cni_answers;
mod cni_cluster;
mod cni_del;
mod cni_delegates;
mod cni_ends;
mod cni_engine;
mod cni_link;
mod cni_matrix;
mod cni_protocol;
mod cni_rig;
