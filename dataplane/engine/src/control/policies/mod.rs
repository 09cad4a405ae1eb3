// SPDX-License-Identifier: Apache-2.0
//! Policies: those on disk are those in force, and they change as a whole.

mod apply;
mod check;
mod reload;
mod remove;

use std::collections::BTreeMap;
use std::sync::Arc;

use sluice_api::{ApiError, ChangeKind, PolicyChange, PolicyProblem, PolicyReport, PolicyStatus};
use sluice_firewall::PolicySet;

use super::Control;
use crate::refusal;
use sluice_policies::{self as policies, Compiled, Files, problem};

/// Key of the problem of the folder of policies. No record has this name.
const POLICIES: &str = "policies/";

/// Policies in force: the version of the set, and the files that it was compiled from.
#[derive(Debug, Default)]
pub(super) struct InForce {
    /// 0 before the first set.
    version: u64,
    files: Files,
}

impl Control {
    /// Returns the policies in force.
    ///
    /// # Errors
    /// The engine is shutting down.
    pub fn policies(&self) -> Result<Vec<PolicyStatus>, ApiError> {
        let set = self.engine.with(|engine| engine.policies())?;
        Ok(policies::statuses(&set))
    }

    /// Compiles files, and refuses them if an attachment would lose its own policy.
    fn compile(&self, version: u64, files: &Files) -> Result<Compiled, Vec<PolicyProblem>> {
        let previous = self.engine.with(|engine| engine.policies()).ok();
        let compiled = policies::compile(version + 1, files, previous.as_deref())?;
        let problems = self.orphans(&compiled.set);
        if problems.is_empty() {
            Ok(compiled)
        } else {
            Err(problems)
        }
    }

    /// Problems of attachments whose own policy is not in `set`.
    fn orphans(&self, set: &PolicySet) -> Vec<PolicyProblem> {
        let folder = self.policies.path().display().to_string();
        let attachments = self.attachments.all();
        let orphans = attachments.iter().filter_map(|(key, attachment)| {
            let name = attachment.request().firewall.as_ref()?;
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

    /// Warnings of the compiler, and of uplinks that this engine does not have.
    fn warnings(&self, compiled: &Compiled) -> Vec<PolicyProblem> {
        let mut warnings = compiled.warnings.clone();
        for (_, policy) in compiled.set.iter() {
            if let Some(uplink) = policy.uplink()
                && self.uplinks.get(uplink).is_none()
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

    /// Returns how the policies of `new`, made of `new_files`, differ from those in force.
    fn changes(&self, old_files: &Files, new: &PolicySet, new_files: &Files) -> Vec<PolicyChange> {
        let old = self.engine.with(|engine| engine.policies()).ok();
        let old = old
            .as_deref()
            .map_or_else(BTreeMap::new, |old| texts(old, old_files));
        let new = texts(new, new_files);
        let change = |policy: &str, file: &str, kind| PolicyChange {
            policy: policy.to_owned(),
            file: file.to_owned(),
            kind,
        };
        let removed = old.iter().filter(|(name, _)| !new.contains_key(*name));
        let mut changes: Vec<PolicyChange> = removed
            .map(|(name, (file, _))| change(name, file, ChangeKind::Removed))
            .collect();
        for (name, (file, texts)) in &new {
            match old.get(name) {
                None => changes.push(change(name, file, ChangeKind::Added)),
                Some((_, before)) if before != texts => {
                    changes.push(change(name, file, ChangeKind::Changed));
                }
                Some(_) => {}
            }
        }
        changes.sort_by(|a, b| a.policy.cmp(&b.policy));
        changes
    }

    /// Hands a compiled set to the workers and returns its report.
    fn put_into_force(
        &self,
        compiled: Compiled,
        files: &Files,
        in_force: &mut InForce,
    ) -> Result<PolicyReport, ApiError> {
        let warnings = self.warnings(&compiled);
        let changes = self.changes(&in_force.files, &compiled.set, files);
        let set = Arc::new(compiled.set);
        let next = set.version();
        // Used up, whatever becomes of it: log records of two sets are told apart by it.
        in_force.version = next;
        // The old set dies here, on control's thread.
        drop(
            self.engine
                .try_with(|engine| engine.set_policies(Arc::clone(&set)))?,
        );
        in_force.files.clone_from(files);
        Ok(PolicyReport {
            problems: Vec::new(),
            warnings,
            changes,
            policies: policies::statuses(&set),
            version: next,
        })
    }
}

/// File of each policy of a set, by its name, with its text and those of the named sets that it uses.
fn texts<'s>(set: &'s PolicySet, files: &'s Files) -> BTreeMap<&'s str, (&'s str, Vec<&'s str>)> {
    let text = |file: &str| files.get(file).map_or("", String::as_str);
    let policies = set.iter().map(|(_, policy)| {
        let sets = policy.sets().iter().map(|used| text(&used.file));
        let texts = [text(policy.file())].into_iter().chain(sets);
        (policy.name(), (policy.file(), texts.collect()))
    });
    policies.collect()
}

fn not_in_force(why: &dyn std::fmt::Display) -> String {
    format!("the policies on disk are not those in force: {why}")
}

/// Report of policies that were refused.
fn report(problems: Vec<PolicyProblem>, version: u64) -> PolicyReport {
    PolicyReport {
        problems,
        warnings: Vec::new(),
        changes: Vec::new(),
        policies: Vec::new(),
        version,
    }
}

/// Joins problems on one line, each as compilers write it.
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

/// Turns the problems of a report into an error, for a start that they prevent.
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

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    #[test]
    fn a_changed_set_changes_the_policies_that_use_it() {
        let files = |prefix: &str| -> Files {
            let files = [
                (
                    "a.yaml",
                    "name: a\nrules: [{direction: both, from: $n, verdict: drop}]\n".to_owned(),
                ),
                ("b.yaml", "name: b\n".to_owned()),
                ("sets/n.yaml", format!("name: n\nprefixes: {prefix}\n")),
            ];
            files.map(|(name, text)| (name.to_owned(), text)).into()
        };
        let (before, after) = (files("10.0.0.0/8"), files("11.0.0.0/8"));
        let old = policies::compile(1, &before, None).unwrap().set;
        let new = policies::compile(2, &after, Some(&old)).unwrap().set;
        let (old, new) = (texts(&old, &before), texts(&new, &after));
        assert_ne!(old["a"], new["a"]);
        assert_eq!(old["b"], new["b"]);
        assert_eq!(new["a"].0, "a.yaml");
    }
}
