// SPDX-License-Identifier: Apache-2.0
//! Sources of networks' configurations: files of the node and objects of the cluster.

mod cluster;
mod credentials;
mod disk;
mod kubelet;
mod names;
mod object;
mod proxy;
mod transport;
mod unauthorized;

pub use cluster::api_client;
pub(super) use cluster::{Cluster, Pod};
pub(super) use disk::{Disk, at};
pub(super) use kubelet::{Devices, KUBELET_DIR};
pub(super) use object::{Found, nad, network};

/// An error with what led to it: the outermost message alone says little.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        source = error.source();
    }
    text
}
