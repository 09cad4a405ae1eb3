// SPDX-License-Identifier: Apache-2.0
//! Applying policies.

use sluice_api::{ApiError, PolicyFiles, PolicyReport};

use super::super::{Control, locked};
use super::{POLICIES, not_in_force, report};
use sluice_policies as policies;

impl Control {
    /// Writes policies to the folder and puts them into force, all or none.
    ///
    /// # Errors
    /// The folder cannot be written, or a worker does not answer; nothing was changed. Problems of the
    /// policies are in the report.
    pub fn apply_policies(&self, change: &PolicyFiles) -> Result<PolicyReport, ApiError> {
        let mut version = locked(&self.policy_version);
        let old = match self.policies.read() {
            Ok(old) => old,
            Err(problems) => return Ok(report(problems, *version)),
        };
        let new = policies::merge(&old, change);
        let compiled = new.and_then(|new| Ok((self.compile(*version, &new)?, new)));
        let (compiled, new) = match compiled {
            Ok(good) => good,
            Err(problems) => return Ok(report(problems, *version)),
        };
        self.policies.replace(&old, &new)?;
        let applied = self.put_into_force(compiled, &mut version);
        match &applied {
            Ok(report) => tracing::info!(
                "{} policies applied, version {}",
                report.policies.len(),
                report.version
            ),
            Err(_) => {
                if let Err(error) = self.policies.replace(&new, &old) {
                    self.report_problem(POLICIES, not_in_force(&error));
                }
            }
        }
        if applied.is_ok() {
            self.clear_problem(POLICIES);
        }
        applied
    }
}
