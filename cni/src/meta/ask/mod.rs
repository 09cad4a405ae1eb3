//! What a pod asks for: its annotations, and the elements in them.

mod annotations;
mod selection;

pub(super) use annotations::{
    Annotations, Asked, NETWORKS, Style, TKE_NETWORKS, default_network, read,
};
pub(super) use selection::{Selection, is_label, parse};
