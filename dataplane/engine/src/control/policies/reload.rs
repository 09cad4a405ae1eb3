// SPDX-License-Identifier: Apache-2.0
//! Loading the folder of policies, at the start and on SIGHUP.

use sluice_api::{ApiError, PolicyReport};

use super::super::{Control, locked};
use super::{POLICIES, list, not_in_force, report};

impl Control {
    /// Reads the folder of policies and puts them into force.
    ///
    /// # Errors
    /// The engine is shutting down, or a worker does not answer. Problems of the policies are in the
    /// report; then the old ones stay in force.
    pub fn load_policies(&self) -> Result<PolicyReport, ApiError> {
        self.load(&mut locked(&self.policy_version))
    }

    fn load(&self, version: &mut u64) -> Result<PolicyReport, ApiError> {
        let compiled = match self
            .policies
            .read()
            .and_then(|files| self.compile(*version, &files))
        {
            Ok(compiled) => compiled,
            Err(problems) => return Ok(report(problems, *version)),
        };
        self.put_into_force(compiled, version)
    }

    /// Reads the folder again after somebody changed it. A failure is logged and kept as a problem; the old
    /// policies stay in force.
    pub fn reload_policies(&self) {
        // Held until the outcome is kept: of two reloads at once the later one's must stay.
        let mut version = locked(&self.policy_version);
        let outcome = match self.load(&mut version) {
            Ok(report) if report.problems.is_empty() => {
                let count = report.policies.len();
                tracing::info!("{count} policies reloaded, version {}", report.version);
                None
            }
            Ok(report) => Some(list(&report.problems)),
            Err(error) => Some(error.to_string()),
        };
        match outcome {
            Some(problem) => self.report_problem(POLICIES, not_in_force(&problem)),
            None => self.clear_problem(POLICIES),
        }
    }
}
