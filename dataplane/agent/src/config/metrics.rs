// SPDX-License-Identifier: Apache-2.0
//! Section `metrics`.

use serde::Deserialize;
use sluice_yaml::Checker;

/// Section `metrics` as written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Raw {}

/// Section `metrics`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MetricsConfig {}

/// Checks the section.
pub(super) fn check(_checker: &mut Checker<'_>, _raw: &Raw) -> MetricsConfig {
    MetricsConfig {}
}
