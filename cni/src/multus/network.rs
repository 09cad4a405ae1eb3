//! A network that a pod gets, before it has an interface name: where it comes from and what was asked.

use serde_json::{Map, Value};

use super::annotation::NetworkSelectionElement;
use super::source::Found;

/// One network of a pod.
#[derive(Debug, Clone, Default)]
pub(super) struct ResolvedNetwork {
    /// Its configuration as its author wrote it.
    pub(super) conf: Map<String, Value>,
    /// Name for a configuration that has none; absent: made of ours, the type and the position.
    pub(super) name: Option<String>,
    /// Name in network-status; absent: the configuration's.
    pub(super) label: Option<String>,
    /// What the pod asked for with it.
    pub(super) selection: NetworkSelectionElement,
    /// Resource that it needs a device of.
    pub(super) resource: Option<String>,
}

impl ResolvedNetwork {
    /// One of the configuration's `delegates`.
    pub(super) fn inline(conf: &Map<String, Value>) -> ResolvedNetwork {
        ResolvedNetwork {
            conf: conf.clone(),
            ..ResolvedNetwork::default()
        }
    }

    /// One that was looked up, for what the pod said of it.
    pub(super) fn looked_up(found: Found, selection: NetworkSelectionElement) -> ResolvedNetwork {
        ResolvedNetwork {
            label: Some(found.label()),
            name: Some(found.name),
            conf: found.conf,
            resource: found.resource,
            selection,
        }
    }
}
