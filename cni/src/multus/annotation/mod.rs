//! What a pod asks for: its annotations, and the elements in them.

mod element;
mod keys;

pub(super) use element::{NetworkSelectionElement, is_label, parse};
pub(super) use keys::{
    Annotations, NETWORKS, NetworksAnnotation, Style, TKE_NETWORKS, default_network, read,
};
