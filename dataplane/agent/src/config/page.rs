// SPDX-License-Identifier: Apache-2.0
//! Section `page`.

use serde::Deserialize;
use sluice_yaml::Checker;

/// Section `page` as written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Raw {}

/// Section `page`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PageConfig {}

/// Checks the section.
pub(super) fn check(_checker: &mut Checker<'_>, _raw: &Raw) -> PageConfig {
    PageConfig {}
}
