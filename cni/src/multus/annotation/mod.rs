// SPDX-License-Identifier: Apache-2.0
//! Annotations of a pod that name its networks, and the network selection elements in them.

mod element;
mod keys;

pub(super) use element::{NetworkSelectionElement, is_label, parse};
pub(super) use keys::{
    Annotations, NETWORKS, NetworksAnnotation, Style, TKE_NETWORKS, default_network, read,
};
