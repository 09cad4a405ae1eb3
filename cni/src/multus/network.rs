// SPDX-License-Identifier: Apache-2.0
//! [`ResolvedNetwork`]: a pod's network with its configuration, before it has an interface name.

use serde_json::{Map, Value};

use super::annotation::NetworkSelectionElement;
use super::source::Found;

/// Network of a pod: its configuration, and the selection element that named it.
#[derive(Debug, Clone, Default)]
pub(super) struct ResolvedNetwork {
    /// Configuration as its author wrote it.
    pub(super) conf: Map<String, Value>,
    /// Name for a configuration that has none; absent: made of ours, the type and the position.
    pub(super) name: Option<String>,
    /// Name in network-status; absent: the configuration's.
    pub(super) label: Option<String>,
    /// Network selection element of the pod; empty for a default network.
    pub(super) selection: NetworkSelectionElement,
    /// Resource that it needs a device of.
    pub(super) resource: Option<String>,
}

impl ResolvedNetwork {
    /// Returns a network that is written in the configuration's `delegates`.
    pub(super) fn inline(conf: &Map<String, Value>) -> ResolvedNetwork {
        ResolvedNetwork {
            conf: conf.clone(),
            ..ResolvedNetwork::default()
        }
    }

    /// Returns a network that was looked up for a selection element.
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
