// SPDX-License-Identifier: Apache-2.0
//! Checking policies.

use sluice_api::{ApiError, PolicyFiles, PolicyReport};

use super::super::{Control, locked};
use super::report;
use sluice_policies as policies;

impl Control {
    /// Checks policies as [`Control::apply_policies`] would, and changes nothing.
    ///
    /// # Errors
    /// The engine is shutting down. Problems of the policies are in the report.
    pub fn check_policies(&self, change: &PolicyFiles) -> Result<PolicyReport, ApiError> {
        let version = locked(&self.policy_version);
        let checked = self
            .policies
            .read()
            .and_then(|old| policies::merge(&old, change));
        Ok(
            match checked.and_then(|files| self.compile(*version, &files)) {
                Ok(compiled) => PolicyReport {
                    problems: Vec::new(),
                    warnings: self.warnings(&compiled),
                    policies: policies::statuses(&compiled.set),
                    version: *version,
                },
                Err(problems) => report(problems, *version),
            },
        )
    }
}
