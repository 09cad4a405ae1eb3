// SPDX-License-Identifier: Apache-2.0
//! Section `devices`.

use serde::Deserialize;
use sluice_yaml::Checker;

/// Section `devices` as written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Raw {}

/// Section `devices`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DevicesConfig {}

/// Checks the section.
pub(super) fn check(_checker: &mut Checker<'_>, _raw: &Raw) -> DevicesConfig {
    DevicesConfig {}
}
