// SPDX-License-Identifier: Apache-2.0
//! Section `reaper`.

use serde::Deserialize;
use sluice_yaml::Checker;

/// Section `reaper` as written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Raw {}

/// Section `reaper`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReaperConfig {}

/// Checks the section.
pub(super) fn check(_checker: &mut Checker<'_>, _raw: &Raw) -> ReaperConfig {
    ReaperConfig {}
}
