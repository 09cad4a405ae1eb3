// SPDX-License-Identifier: Apache-2.0
//! The node's agent: the only part of Sluicegate that speaks to the API server, the kubelet and Prometheus. It has no
//! devices and no packet memory; traffic does not notice when it ends, restarts or is upgraded.
//!
//! ```text
//!                    ┌ install   plugins, kubeconfig, then the CNI configuration
//! sluice-agent.yaml  │ devices   device plugins of the kubelet
//!      └─ config ──► ├ reaper    what pods that are gone left behind
//!         (context)  ├ metrics   OpenMetrics for Prometheus
//!                    └ page      picture of the node for people
//! ```
//! Each part is one task that [`parts`] starts again when it fails; a part that is not configured does not run. What
//! parts share is in [`context`]: the configuration, the engine's client and every part's health. They do not call
//! one another.
#![forbid(unsafe_code)]

pub mod cluster;
pub mod config;
pub mod context;
pub mod devices;
pub mod engine;
mod http;
pub mod install;
pub mod metrics;
mod node;
pub mod page;
pub mod parts;
pub mod reaper;
