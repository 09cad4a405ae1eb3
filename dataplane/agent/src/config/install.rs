// SPDX-License-Identifier: Apache-2.0
//! Section `install`.

use serde::Deserialize;
use sluice_yaml::Checker;

/// Section `install` as written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Raw {}

/// Section `install`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InstallConfig {}

/// Checks the section.
pub(super) fn check(_checker: &mut Checker<'_>, _raw: &Raw) -> InstallConfig {
    InstallConfig {}
}
