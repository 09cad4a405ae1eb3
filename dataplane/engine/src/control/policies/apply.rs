// SPDX-License-Identifier: Apache-2.0
//! Applying policies.

use sluice_api::{ApiError, PolicyFiles, PolicyReport};

use super::super::{Control, locked};
use super::{InForce, POLICIES, not_in_force, report};
use sluice_policies::{self as policies, Files};

impl Control {
    /// Writes policies to the folder and puts them into force, all or none.
    ///
    /// # Errors
    /// The folder cannot be written, or a worker does not answer; nothing was changed. Problems of the
    /// policies are in the report.
    pub fn apply_policies(&self, change: &PolicyFiles) -> Result<PolicyReport, ApiError> {
        let mut in_force = locked(&self.in_force);
        let old = match self.policies.read() {
            Ok(old) => old,
            Err(problems) => return Ok(report(problems, in_force.version)),
        };
        match policies::merge(&old, change) {
            Ok(new) => self.replace_policies(&old, new, &mut in_force),
            Err(problems) => Ok(report(problems, in_force.version)),
        }
    }

    /// Makes the folder hold `new` where it held `old`, and puts `new` into force.
    pub(super) fn replace_policies(
        &self,
        old: &Files,
        new: Files,
        in_force: &mut InForce,
    ) -> Result<PolicyReport, ApiError> {
        let compiled = match self.compile(in_force.version, &new) {
            Ok(compiled) => compiled,
            Err(problems) => return Ok(report(problems, in_force.version)),
        };
        self.policies.replace(old, &new)?;
        let applied = self.put_into_force(compiled, &new, in_force);
        match &applied {
            Ok(report) => {
                self.clear_problem(POLICIES);
                tracing::info!(
                    "{} policies applied, {} of them new or changed, version {}",
                    report.policies.len(),
                    report.changes.len(),
                    report.version
                );
            }
            Err(_) => {
                if let Err(error) = self.policies.replace(&new, old) {
                    self.report_problem(POLICIES, not_in_force(&error));
                }
            }
        }
        applied
    }
}
