// SPDX-License-Identifier: Apache-2.0
//! The CNI plugins: `sluicegate`, the meta plugin that turns a pod's networks into delegates and
//! runs them, and `sluicegate-vf`, the interface plugin that gives a pod one attachment on the
//! engine. Both are one-shot programs: environment and JSON in, JSON out, state in small files.
//!
//! | module | contents |
//! |---|---|
//! | [`spec`] | the CNI itself: call, configuration, version, result, error, delegate, exec |
//! | [`state`] | the plugins' files below `cniDir`, and the lock of a container |
//! | [`multus`] | `sluicegate`: networks of a pod become delegates (annotation, sources, plan, routes, status) |
//! | [`records`] | the records of both, for an operator: listed, dropped, ended |
//! | [`sriov`] | `sluicegate-vf`: one VF or one attachment on an uplink, by mode kernel, vfio or engine |
//!
//! `state` imports `spec`; `multus` and `sriov` import both and not each other; `records` imports all.
//!
//! Of the crates at hand, `nix` serves for the libc calls that have no system call of their own (names
//! and addresses of interfaces), `rustix` for the rest. `kube` with `k8s-openapi` asks the API server,
//! `tonic` with `prost` the kubelet; both run on an async runtime of one thread, which is made when the
//! first question is asked, so a call that asks nobody has none. The kubelet's messages are five, and
//! are written with prost's derive beside the code that reads them: a build needs no protoc.
#![forbid(unsafe_code)]

pub mod multus;
pub mod records;
pub mod spec;
pub mod sriov;
pub mod state;

pub use spec::error::{Error, PluginError};
