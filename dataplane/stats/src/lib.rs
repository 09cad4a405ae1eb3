// SPDX-License-Identifier: Apache-2.0
//! Figures that a port reports, one type each from its driver to the control API.
//!
//! | type | filled by | shown in |
//! |---|---|---|
//! | [`Traffic`] | the worker, for every port | counters of uplinks and attachments |
//! | [`NicCounters`] | a NIC's driver, from its registers | `nic` of an uplink |
//! | [`LinkState`] | a port's driver, or an attachment's back end | `link` of uplinks and attachments |
//!
//! Nothing here allocates. The feature `serde` adds the JSON forms, whose field names are those of the
//! control API and do not change.
#![forbid(unsafe_code)]

mod link;
mod nic;
mod traffic;

pub use link::LinkState;
pub use nic::NicCounters;
pub use traffic::Traffic;
