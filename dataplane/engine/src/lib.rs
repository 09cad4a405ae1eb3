// SPDX-License-Identifier: Apache-2.0
//! Control side of the engine `sluiced`.
//!
//! | module | what it is for |
//! |---|---|
//! | [`daemon`] | start in order, serve, end in reverse |
//! | [`config`] | the configuration file, checked as a whole |
//! | [`control`] | attach, detach, policies, reports: what the API asks for |
//! | [`links`] | memif endpoints and taps: what stands between an attachment and its pod |
//! | [`uplinks`] | netdevs taken from the host and given back |
//! | [`records`] | the records of attachments, which outlive an engine; locks and namespaces are `sluice-host`'s |
//! | [`server`], [`peer`], [`refusal`] | the control socket, who may ask, and what is refused |
//! | [`sysctl`] | settings below `/proc/sys/net`, also where that is read-only |
//! | [`log_limit`] | the log lines that a pod or a peer can cause |
//!
//! Nothing here runs per packet. What does is in `sluice-datapath`, behind [`engine`].
//!
//! Packages: `rtnetlink` for netdevs; `rustix` for system calls, whose safe wrappers keep the crate free of
//! `unsafe`, where `libc` would not; `serde-saphyr` for YAML, which names the line of every problem, beside
//! `serde_json` for the control API and records; `axum` serves that API over a unix socket.
#![forbid(unsafe_code)]

pub mod config;
pub mod control;
pub mod daemon;
pub mod engine;
pub mod links;
mod log_identity;
pub mod log_limit;
pub mod peer;
pub mod records;
pub mod refusal;
pub mod server;
pub mod sysctl;
pub mod uplinks;
pub mod vfs;
