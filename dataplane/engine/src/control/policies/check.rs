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
        let in_force = locked(&self.in_force);
        let checked = self
            .policies
            .read()
            .and_then(|old| policies::merge(&old, change));
        Ok(
            match checked.and_then(|files| Ok((self.compile(in_force.version, &files)?, files))) {
                Ok((compiled, files)) => PolicyReport {
                    problems: Vec::new(),
                    warnings: self.warnings(&compiled),
                    changes: self.changes(&in_force.files, &compiled.set, &files),
                    policies: policies::statuses(&compiled.set),
                    version: in_force.version,
                },
                Err(problems) => report(problems, in_force.version),
            },
        )
    }
}
