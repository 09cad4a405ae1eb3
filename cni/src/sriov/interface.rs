// SPDX-License-Identifier: Apache-2.0
//! The interface of one call: [`Invocation`], what was asked for, and [`Acquired`], what an ADD has for
//! it so far.

use sluice_sriov::claim::Record as VfRecord;

use crate::spec::call::Call;
use crate::spec::conf::NetConf;
use crate::spec::result::CniResult;

/// Call of the plugin, with the configuration that goes with it: the one from standard input, or
/// on DEL the recorded one.
#[derive(Debug, Clone, Copy)]
pub(super) struct Invocation<'a> {
    /// Call, from the environment.
    pub(super) call: &'a Call,
    /// Configuration of the network.
    pub(super) net: &'a NetConf,
}

/// VF and addresses that an ADD has acquired before it makes the attachment or the link.
#[derive(Debug)]
pub(super) struct Acquired {
    /// VF that was claimed; `None` on an uplink of the engine.
    pub(super) vf: Option<VfRecord>,
    /// Result of ipam, with the configuration's own DNS settings; empty without ipam.
    pub(super) addresses: CniResult,
}
