// SPDX-License-Identifier: Apache-2.0
//! Tables that a burst is handled by: interfaces, routes and policies, as one immutable value.

use sluice_firewall::{PolicyIndex, PolicySet};

use crate::interfaces::{InterfaceId, InterfaceTable};
use crate::routes::RouteTable;

/// Tables of one configuration. A reload makes new ones; a burst is handled by exactly one.
#[derive(Debug, Default)]
pub struct Tables {
    /// Names of the legs.
    pub legs: Vec<String>,
    /// Interfaces.
    pub interfaces: InterfaceTable,
    /// Routes.
    pub routes: RouteTable,
    /// Policies.
    pub policies: PolicySet,
    /// Policy of each interface; `None`: nothing passes.
    pub policy_of: Vec<Option<PolicyIndex>>,
    /// Bytes that a frame's buffer needs.
    pub frame_capacity: usize,
}

impl Tables {
    /// Policy of an interface.
    #[inline]
    #[must_use]
    pub fn policy(&self, id: InterfaceId) -> Option<PolicyIndex> {
        self.policy_of.get(usize::from(id)).copied().flatten()
    }

    /// Name of a leg.
    #[must_use]
    pub fn leg_name(&self, leg: usize) -> &str {
        self.legs.get(leg).map_or("?", String::as_str)
    }
}
