// SPDX-License-Identifier: Apache-2.0
//! [`compile`]: policy files to the set that workers judge by.

use sluice_api::{PolicyProblem, PolicyStatus};
use sluice_firewall::{Direction, Policy, PolicySet};

use crate::Files;
use crate::problem::from_problem;

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
    let mut policies = Vec::new();
    let mut problems = Vec::new();
    for (name, text) in files {
        match Policy::parse(name, text) {
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
        .collect();
    Ok(Compiled { set, warnings })
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
            default_ingress: policy.default_verdict(Direction::Ingress).to_string(),
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
        assert!(files.len() >= 2, "{:?}", files.keys());
        let compiled = compile(1, &files, None).unwrap();
        assert_eq!(compiled.warnings, []);
    }

    #[test]
    fn two_policies_do_not_share_a_segment() {
        let clash = files(&[("a.yaml", &policy("a", 5)), ("b.yaml", &policy("b", 5))]);
        let problems = compile(1, &clash, None).unwrap_err();
        assert!(problems[0].message.contains("VLAN 5"), "{problems:?}");
    }
}
