// SPDX-License-Identifier: Apache-2.0
//! Loading the folder of policies, at the start and on SIGHUP.

use sluice_api::{ApiError, PolicyReport};

use super::super::{Control, locked};
use super::{InForce, POLICIES, list, not_in_force, report};

impl Control {
    /// Reads the folder of policies and puts them into force.
    ///
    /// # Errors
    /// The engine is shutting down, or a worker does not answer. Problems of the policies are in the
    /// report; then the old ones stay in force.
    pub fn load_policies(&self) -> Result<PolicyReport, ApiError> {
        self.load(&mut locked(&self.in_force))
    }

    fn load(&self, in_force: &mut InForce) -> Result<PolicyReport, ApiError> {
        let read = self.policies.read();
        let compiled = read.and_then(|files| Ok((self.compile(in_force.version, &files)?, files)));
        match compiled {
            Ok((compiled, files)) => self.put_into_force(compiled, &files, in_force),
            Err(problems) => Ok(report(problems, in_force.version)),
        }
    }

    /// Reads the folder again after somebody changed it. A failure is logged and kept as a problem; the old
    /// policies stay in force. Returns the number of those in force.
    ///
    /// # Errors
    /// That problem.
    pub fn reload_policies(&self) -> Result<usize, String> {
        // Held until the outcome is kept: of two reloads at once the later one's must stay.
        let mut in_force = locked(&self.in_force);
        let outcome = match self.load(&mut in_force) {
            Ok(report) if report.problems.is_empty() => {
                let count = report.policies.len();
                tracing::info!("{count} policies reloaded, version {}", report.version);
                Ok(count)
            }
            Ok(report) => Err(not_in_force(&list(&report.problems))),
            Err(error) => Err(not_in_force(&error)),
        };
        match &outcome {
            Err(problem) => self.report_problem(POLICIES, problem.clone()),
            Ok(_) => self.clear_problem(POLICIES),
        }
        outcome
    }
}
