// SPDX-License-Identifier: Apache-2.0
//! Puts the CNI plugins and their configuration on a node, and takes them off again: what `sluicectl install` and
//! the agent do.
//!
//! ```text
//! install    plugins  →  kubeconfig  →  CNI configuration      (the last one makes the runtime call the first)
//! uninstall  CNI configuration  →  kubeconfig  →  plugins
//! ```
//! Every file is written beside its name and renamed, so a reader sees the old one or the new one, and a plugin that
//! runs is never truncated; what is there already with the same content is left alone, so each step may be done again
//! at any time. A [record](InstallRecord) of what was put where, and of what was there before, is on disk before a
//! file is, so that an installer that is killed at any step leaves nothing that an uninstall does not find.
//!
//! | module | contents |
//! |---|---|
//! | [`plan`](Plan) | the folders, the names and what is to be installed |
//! | [`installation`](Installation) | the steps, each of which may be repeated |
//! | `conf` | the CNI configuration, made of the node's primary network |
//! | [`kubeconfig`](Kubeconfig) | address and token of the API server |
//! | [`record`](InstallRecord) | what was installed |
//! | [`error`](InstallError) | which file, why, what to do |
//!
//! Who uninstalls says which pods would lose their networks; this crate does not know them. Hashes are `ring`'s, which
//! is in these programs for TLS.
#![forbid(unsafe_code)]

mod conf;
mod error;
mod installation;
mod kubeconfig;
mod plan;
mod record;

pub use error::InstallError;
pub use installation::{Change, Done, Installation};
pub use kubeconfig::{Kubeconfig, TokenTimes, pem, token_times};
pub use plan::{KUBECONFIG, Mode, PLUGINS, Plan, Primary};
pub use record::{FileKind, InstallRecord, InstalledFile};
