//! Policies: what is on disk is what is in force, and it changes as a whole.

use std::sync::Arc;

use sluice_api::{ApiError, PolicyFiles, PolicyProblem, PolicyReport, PolicyStatus};
use sluice_firewall::PolicySet;

use super::{Control, locked};
use crate::policies::{self, Compiled, Files, problem};
use crate::refusal;

/// What problems of the folder of policies are kept under: no record has this name.
const POLICIES: &str = "policies/";

impl Control {
    /// Reads the folder of policies and has the workers judge by it.
    ///
    /// # Errors
    /// Everything that is wrong; what was in force stays in force.
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

    /// Reads the folder again, because somebody changed it.
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
            Some(problem) => self.problem(POLICIES, not_in_force(&problem)),
            None => self.put_right(POLICIES),
        }
    }

    /// Checks policies as [`Control::apply_policies`] would.
    ///
    /// # Errors
    /// The engine is stopping. What is wrong with the policies is in the report.
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

    /// Writes policies to the folder and has the workers judge by them: all or none.
    ///
    /// # Errors
    /// The folder cannot be written, or a worker does not answer; nothing was changed. What is
    /// wrong with the policies is in the report.
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
                    self.problem(POLICIES, not_in_force(&error));
                }
            }
        }
        if applied.is_ok() {
            self.put_right(POLICIES);
        }
        applied
    }

    /// The policies in force.
    ///
    /// # Errors
    /// The engine is stopping.
    pub fn policies(&self) -> Result<Vec<PolicyStatus>, ApiError> {
        let set = self.engine.ask(|engine| engine.policies())?;
        Ok(policies::statuses(&set))
    }

    /// Compiles files, and sees to it that no attachment loses its own policy.
    fn compile(&self, version: u64, files: &Files) -> Result<Compiled, Vec<PolicyProblem>> {
        let previous = self.engine.ask(|engine| engine.policies()).ok();
        let compiled = policies::compile(version + 1, files, previous.as_deref())?;
        let problems = self.orphans(&compiled.set);
        if problems.is_empty() {
            Ok(compiled)
        } else {
            Err(problems)
        }
    }

    /// Attachments whose own policy a set does not have.
    fn orphans(&self, set: &PolicySet) -> Vec<PolicyProblem> {
        let folder = self.policies.path().display().to_string();
        let attachments = self.attachments.all();
        let orphans = attachments.iter().filter_map(|(key, attachment)| {
            let name = attachment.request.firewall.as_ref()?;
            set.named(name).is_none().then(|| {
                problem(
                    &folder,
                    format!(
                        "policy `{name}` would be gone, and attachment {key} is judged by it: keep \
                         it, or detach {key} first"
                    ),
                )
            })
        });
        orphans.collect()
    }

    /// What is probably a mistake, besides what the policies show by themselves.
    fn warnings(&self, compiled: &Compiled) -> Vec<PolicyProblem> {
        let mut warnings = compiled.warnings.clone();
        for (_, policy) in compiled.set.iter() {
            if let Some(uplink) = policy.uplink()
                && !self.uplinks.contains_key(uplink)
                && !self.has_vfs_of(uplink)
            {
                warnings.push(problem(
                    policy.file(),
                    format!(
                        "this engine has no uplink {uplink}, and no VF of a PF of that name: the \
                         policy applies to nothing as long as there is none"
                    ),
                ));
            }
        }
        warnings
    }

    fn put_into_force(
        &self,
        compiled: Compiled,
        version: &mut u64,
    ) -> Result<PolicyReport, ApiError> {
        let warnings = self.warnings(&compiled);
        let set = Arc::new(compiled.set);
        let next = set.version();
        // Used up, whatever becomes of it: log records of two sets are told apart by it.
        *version = next;
        // The old set dies here, on control's thread.
        drop(
            self.engine
                .order(|engine| engine.set_policies(Arc::clone(&set)))?,
        );
        Ok(PolicyReport {
            problems: Vec::new(),
            warnings,
            policies: policies::statuses(&set),
            version: next,
        })
    }
}

fn not_in_force(why: &dyn std::fmt::Display) -> String {
    format!("the policies on disk are not those in force: {why}")
}

/// A report that says that nothing was applied.
fn report(problems: Vec<PolicyProblem>, version: u64) -> PolicyReport {
    PolicyReport {
        problems,
        warnings: Vec::new(),
        policies: Vec::new(),
        version,
    }
}

/// Problems on one line.
fn list(problems: &[PolicyProblem]) -> String {
    let lines = problems.iter().map(|problem| match problem.line {
        0 => format!("{}: {}", problem.file, problem.message),
        line => format!(
            "{}:{line}:{}: {}",
            problem.file, problem.column, problem.message
        ),
    });
    lines.collect::<Vec<_>>().join("; ")
}

/// A report's problems as one refusal, for a start that they prevent.
///
/// # Errors
/// The report has problems.
pub fn no_problems(report: &PolicyReport) -> Result<(), ApiError> {
    if report.problems.is_empty() {
        Ok(())
    } else {
        Err(refusal::invalid(list(&report.problems)))
    }
}
