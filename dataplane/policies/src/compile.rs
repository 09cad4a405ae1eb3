// SPDX-License-Identifier: Apache-2.0
//! [`compile`]: policy files to the set that workers judge by.

use std::collections::BTreeSet;

use sluice_api::{PolicyProblem, PolicyStatus};
use sluice_firewall::{Direction, NamedSet, NamedSets, Policy, PolicySet};

use crate::problem::{from_problem, problem};
use crate::{Files, is_set};

/// Result of compiling policy files.
#[derive(Debug)]
pub struct Compiled {
    /// Compiled policies, for the workers.
    pub set: PolicySet,
    /// Probable mistakes that do not keep the policies from being applied.
    pub warnings: Vec<PolicyProblem>,
}

/// Checks and compiles files together. Tables that `previous` has already are taken from there.
///
/// # Errors
/// Every problem of the files.
pub fn compile(
    version: u64,
    files: &Files,
    previous: Option<&PolicySet>,
) -> Result<Compiled, Vec<PolicyProblem>> {
    let mut problems = Vec::new();
    let sets = read_sets(files, &mut problems);
    // A policy's own problems with a set that is wrong would only repeat that set's.
    if !problems.is_empty() {
        return Err(problems);
    }
    let mut policies = Vec::new();
    for (name, text) in files.iter().filter(|(name, _)| !is_set(name)) {
        match Policy::parse_with(name, text, &sets) {
            Ok(policy) => policies.push(policy),
            Err(found) => problems.extend(found.into_iter().map(from_problem)),
        }
    }
    policies.sort_by(|a, b| (&a.name, &a.file).cmp(&(&b.name, &b.file)));
    if !problems.is_empty() {
        return Err(problems);
    }
    let set = PolicySet::build_from(version, &policies, previous)
        .map_err(|problems| problems.into_iter().map(from_problem).collect::<Vec<_>>())?;
    let warnings = policies
        .iter()
        .flat_map(|policy| [policy.warnings(), policy.one_way_warnings()].concat())
        .map(from_problem)
        .chain(unused(&sets, &policies))
        .collect();
    Ok(Compiled { set, warnings })
}

/// Reads the named sets among files. Sets that are wrong are left out, with their problems.
fn read_sets(files: &Files, problems: &mut Vec<PolicyProblem>) -> NamedSets {
    let mut sets = Vec::new();
    for (name, text) in files.iter().filter(|(name, _)| is_set(name)) {
        match NamedSet::parse(name, text) {
            Ok(set) => sets.push(set),
            Err(found) => problems.extend(found.into_iter().map(from_problem)),
        }
    }
    NamedSets::new(sets).unwrap_or_else(|found| {
        problems.extend(found.into_iter().map(from_problem));
        NamedSets::default()
    })
}

/// Warnings of sets that no policy uses.
fn unused(sets: &NamedSets, policies: &[Policy]) -> Vec<PolicyProblem> {
    let used: BTreeSet<&str> = policies
        .iter()
        .flat_map(|policy| policy.sets.iter().map(|used| &*used.name))
        .collect();
    let unused = sets.iter().filter(|set| !used.contains(&*set.name));
    let warnings = unused.map(|set| {
        let message = format!(
            "no policy uses set `{}`; name it as `${}`",
            set.name, set.name
        );
        problem(&set.file, message)
    });
    warnings.collect()
}

/// Status of each policy of a set, in order of name.
pub fn statuses(set: &PolicySet) -> Vec<PolicyStatus> {
    let mut statuses: Vec<PolicyStatus> = set
        .iter()
        .map(|(_, policy)| PolicyStatus {
            name: policy.name().to_owned(),
            file: policy.file().to_owned(),
            uplink: policy.uplink().map(str::to_owned),
            vids: {
                let ranges = policy.vlans().iter();
                let mut vids: Vec<u16> = ranges
                    .flat_map(|range| range.vids())
                    .map(u16::from)
                    .collect();
                vids.sort_unstable();
                vids.dedup();
                vids
            },
            rules: policy.written_rules(),
            sets: {
                let sets = policy.sets().iter();
                sets.map(|used| used.name.clone()).collect()
            },
            default_ingress: policy.default_verdict(Direction::Ingress).to_string(),
            audit: policy.is_audited(),
            default_egress: policy.default_verdict(Direction::Egress).to_string(),
        })
        .collect();
    statuses.sort_by(|a, b| a.name.cmp(&b.name));
    statuses
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;
    use std::path::Path;

    use crate::PolicyFolder;

    fn policy(name: &str, vlan: u16) -> String {
        format!("name: {name}\nvlans: [{vlan}]\ndefault: {{ingress: drop, egress: accept}}\n")
    }

    fn files(list: &[(&str, &str)]) -> Files {
        list.iter()
            .map(|(name, text)| ((*name).to_owned(), (*text).to_owned()))
            .collect()
    }

    #[test]
    fn compiling_reports_every_file() {
        let good = policy("voice", 210);
        let compiled = compile(7, &files(&[("voice.yaml", &good)]), None).unwrap();
        assert_eq!(compiled.set.version(), 7);
        let statuses = statuses(&compiled.set);
        assert_eq!(
            (statuses[0].name.as_str(), statuses[0].vids.as_slice()),
            ("voice", &[210][..])
        );
        assert_eq!(statuses[0].default_egress, "accept");

        let bad = files(&[
            ("a.yaml", "name: a\nvlnas: [1]\n"),
            ("b.yaml", "["),
            ("c.yaml", &good),
        ]);
        let problems = compile(1, &bad, None).unwrap_err();
        let found: Vec<&str> = problems
            .iter()
            .map(|problem| problem.file.as_str())
            .collect();
        assert!(
            found.contains(&"a.yaml") && found.contains(&"b.yaml"),
            "{problems:?}"
        );
        assert_eq!(problems[0].line, 2, "{problems:?}");
    }

    #[test]
    fn the_samples_are_good() {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/policies");
        let files = PolicyFolder::new(dir).read().unwrap();
        assert!(files.len() >= 3, "{:?}", files.keys());
        let compiled = compile(1, &files, None).unwrap();
        assert_eq!(compiled.warnings, []);
    }

    #[test]
    fn sets_are_compiled_with_their_policies() {
        let using =
            "name: a\nvlans: [$vlans]\nrules:\n  - {direction: both, from: $nets, verdict: drop}\n";
        let all = files(&[
            ("a.yaml", using),
            ("sets/nets.yaml", "name: nets\nprefixes: [10.0.0.0/8]\n"),
            ("sets/vlans.yaml", "name: vlans\nvlans: [7-9]\n"),
            ("sets/spare.yaml", "name: spare\nports: [80]\n"),
        ]);
        let compiled = compile(1, &all, None).unwrap();
        let status = &statuses(&compiled.set)[0];
        assert_eq!(status.vids, [7, 8, 9]);
        assert_eq!(status.sets, ["nets", "vlans"]);
        let warned: Vec<&str> = compiled.warnings.iter().map(|one| &*one.file).collect();
        assert_eq!(warned, ["sets/spare.yaml"]);

        // A wrong set is its own problem; one that is missing is the policy's.
        let mut wrong = all.clone();
        wrong.insert(
            "sets/nets.yaml".into(),
            "name: nets\nprefixes: [x]\n".into(),
        );
        let problems = compile(1, &wrong, None).unwrap_err();
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert_eq!(
            (&*problems[0].file, problems[0].line),
            ("sets/nets.yaml", 2)
        );
        wrong.remove("sets/nets.yaml");
        let problems = compile(1, &wrong, None).unwrap_err();
        assert_eq!((&*problems[0].file, problems[0].line), ("a.yaml", 4));
    }

    #[test]
    fn two_policies_do_not_share_a_segment() {
        let clash = files(&[("a.yaml", &policy("a", 5)), ("b.yaml", &policy("b", 5))]);
        let problems = compile(1, &clash, None).unwrap_err();
        assert!(problems[0].message.contains("VLAN 5"), "{problems:?}");
    }
}
