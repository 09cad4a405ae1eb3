// SPDX-License-Identifier: Apache-2.0
//! The steps, one file each.

pub(super) mod allowed;
pub(super) mod change;
pub(super) mod denied;
pub(super) mod end;
pub(super) mod needs;
pub(super) mod pair;
pub(super) mod pod;
pub(super) mod primary;
pub(super) mod rate;
pub(super) mod testbed;
pub(super) mod vfirewall;
pub(super) mod vnf;
