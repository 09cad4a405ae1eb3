//! Where networks' configurations come from: files of the node and objects of the cluster.

mod cluster;
mod disk;
mod kubelet;
mod object;

pub(super) use cluster::{Cluster, Pod};
pub(super) use disk::{Disk, at};
pub(super) use kubelet::{Devices, KUBELET_DIR};
pub(super) use object::{Found, nad, network};
